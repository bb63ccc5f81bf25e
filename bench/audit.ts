import { sql } from 'drizzle-orm'
import { verifyAudit } from '../shared/audit-verify.ts'
import { audit } from '../shared/audit.ts'
import { type Db, withTenant } from '../shared/db/db.ts'
import { hash } from 'node:crypto'
import { migrationsFolder } from '../standalone/ports.ts'
import { makeTenant, memoryDatabase } from '../test/support/database.ts'
import { startPostgres } from '../test/support/postgres.ts'
import { migratePg, openPg } from '../workers/db/pg.ts'
import { result } from './result.ts'

// How fast a log is verified, and what a row costs its writer: alone, and with eight writers of one tenant.
const rows = Number(process.argv[2] ?? 200_000)
const goalPerSecond = 50_000

let isMet = true
const postgres = await startPostgres()
if ('skipped' in postgres) console.log(`without a server: ${postgres.skipped}`)
else {
  await migratePg(postgres.url, migrationsFolder)
  const { db, close } = openPg(postgres.url)
  isMet = await measure('postgresql', db, rows)
  await close()
  await postgres.stop()
}
const memory = await memoryDatabase()
await measure('embedded', memory.db, Math.min(rows, 20_000))
await memory.close()
process.exitCode = isMet ? 0 : 1

async function measure(engine: string, db: Db, count: number): Promise<boolean> {
  const { tenantId } = await makeTenant(db)
  const scope = { tenantId, side: 'api' } as const
  const one = { tenantId, actor: 'key:bench', action: 'run.started', target: 'run_1', details: { type: 'file.ingest' } }
  const write = (): Promise<void> => withTenant(db, scope, (tx) => audit(tx, one))
  const alone = await secondsOf(async () => {
    for (let i = 0; i < 200; i++) await write()
  })
  result(`audit.${engine}.write`, (1000 * alone) / 200, 'ms per row')
  const together = await secondsOf(() =>
    Promise.all(
      Array.from({ length: 8 }, async () => {
        for (let i = 0; i < 50; i++) await write()
      }),
    ),
  )
  result(`audit.${engine}.write-8-writers`, 400 / together, 'rows/s')
  // Every tenth entry has personal details, as long as an address and a name are when they are sealed.
  for (let done = 600; done < count; done += 10_000)
    await withTenant(db, scope, (tx) =>
      tx.execute(sql`select app.audit(${tenantId}, 'key:bench', 'run.started', 'run_' || i, 'req_' || i,
        jsonb_build_object('type', 'file.ingest', 'n', i), case when i % 10 = 0 then 'usr_' || i end,
        case when i % 10 = 0 then repeat('sealed', 30) end) from generate_series(1, ${Math.min(10_000, count - done)}::int) i`),
    )
  const node = (texts: string[]): string[] => texts.map((text) => hash('sha256', text))
  await verifyAudit(db, { ...scope, rowsMax: 10_000, digest: node })
  const whole = await secondsOf(async () => {
    const { rows: seen, broken } = await verifyAudit(db, { ...scope, digest: node })
    if (seen !== Math.max(count, 600) || broken) throw new Error(`verified ${seen}: ${JSON.stringify(broken)}`)
  })
  const goal = engine === 'postgresql' ? ({ op: '>=', value: goalPerSecond } as const) : undefined
  const ok = result(`audit.${engine}.verify`, count / whole, 'rows/s', goal)
  const edge = await secondsOf(() => verifyAudit(db, { ...scope, rowsMax: 20_000 }))
  result(`audit.${engine}.verify-webcrypto`, Math.min(count, 20_000) / edge, 'rows/s')
  return ok
}

async function secondsOf(work: () => Promise<unknown>): Promise<number> {
  const started = performance.now()
  await work()
  return (performance.now() - started) / 1000
}
