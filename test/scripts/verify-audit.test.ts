import { appendFile, copyFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { sql } from 'drizzle-orm'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { platformTenantId as tenantId } from '../../schema/roles.ts'
import { exitCodes, run } from '../../scripts/verify-audit.ts'
import { audit } from '../../shared/audit.ts'
import { auditHead } from '../../shared/audit-verify.ts'
import { type Db, withTenant } from '../../shared/db/db.ts'
import { anchorFiles } from '../../standalone/audit-anchors.ts'
import { openPglite } from '../../standalone/pglite.ts'
import { migrationsFolder } from '../../standalone/ports.ts'
import { startStandalone } from '../../standalone/start.ts'

let folder = ''
let files: ReturnType<typeof anchorFiles>
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'verify-audit-'))
  files = anchorFiles(folder)
  const options = { host: '127.0.0.1', port: 0, logLevel: 'silent', development: false, capacity: 1 }
  const house = await startStandalone({ dataDir: folder, allowPrivateNetwork: true, mail: undefined, ...options })
  for (let i = 0; i < 4; i++) await write(house.ports.db)
  await house.stop(0)
})
afterAll(() => rm(folder, { recursive: true, force: true }))

const write = (db: Db): Promise<void> =>
  withTenant(db, { tenantId, side: 'api' }, (tx) => audit(tx, { tenantId, actor: 'x', action: 'x.y', target: 'x' }))

const verify = async (...args: string[]): Promise<{ code: number; lines: string }> => {
  const lines: string[] = []
  const code = await run(['--data-dir', folder, ...args], (line) => lines.push(line))
  return { code, lines: lines.join('\n') }
}

/** Opens the stopped folder as whoever holds its files can. */
const inside = async <T>(work: (db: Db) => Promise<T>): Promise<T> => {
  const { db, close } = await openPglite(join(folder, 'postgres'), migrationsFolder)
  try {
    return await work(db)
  } finally {
    await close()
  }
}

test('the logs of a folder are good, and its own anchors, the last of them written at the end, agree', async () => {
  const anchors = (await readFile(files.anchors, 'utf8')).trim().split('\n')
  expect(JSON.parse(anchors.at(-1) ?? '')).toMatchObject({ tenantId, seq: 5 })
  expect(await verify()).toEqual({
    code: exitCodes.good,
    lines: expect.stringMatching(/^good {4}platform {2}5 rows, \d witnesses, head 5 [0-9a-f]{64}$/),
  })
})

test('an anchor is written for a good log and verified later', async () => {
  const anchors = join(folder, 'elsewhere.ndjson')
  expect((await verify('--anchor', anchors, '--signing-key', files.signingKey)).code).toBe(exitCodes.good)
  expect((await verify('--anchors', anchors, '--public-key', files.publicKey)).lines).toContain('1 witnesses')
})

test('a witness that saw another row is told apart from a broken log', async () => {
  const witness = join(folder, 'witness.ndjson')
  await writeFile(witness, `${JSON.stringify({ tenantId, seq: 3, hash: 'a'.repeat(64) })}\n`)
  const { code, lines } = await verify('--witness', witness)
  expect(code).toBe(exitCodes.witness)
  expect(lines).toContain('BROKEN  platform  at 3: WITNESS_MISMATCH')
  await writeFile(witness, `${JSON.stringify({ tenantId: 'lost_one', seq: 3, hash: 'a'.repeat(64) })}\n`)
  expect((await verify('--witness', witness)).code).toBe(exitCodes.witness)
})

test('an anchor that is not signed by the key, a folder without a database and wrong arguments are not read', async () => {
  const good = `${folder}/kept.ndjson`
  await copyFile(files.anchors, good)
  const last = JSON.parse((await readFile(good, 'utf8')).trim().split('\n').at(-1) ?? '')
  for (const forged of [
    { ...last, seq: 4 },
    { ...last, signature: undefined },
    { ...last, at: new Date(0).toISOString() },
  ]) {
    await copyFile(good, files.anchors)
    await appendFile(files.anchors, `${JSON.stringify(forged)}\n`)
    const { code, lines } = await verify()
    expect(code).toBe(exitCodes.unreadable)
    expect(lines).toContain('is not signed by the key')
  }
  await copyFile(good, files.anchors)
  const print = (): void => {}
  expect(await run(['--data-dir', join(folder, 'none')], print)).toBe(exitCodes.unreadable)
  expect(await run([], print)).toBe(exitCodes.unreadable)
  expect(await run(['--url', 'postgres://nobody@127.0.0.1:1/none'], print)).toBe(exitCodes.unreadable)
  expect((await verify('--tenant', 'nobody')).code).toBe(exitCodes.unreadable)
})

test('a tail that was cut with its head disagrees with the anchors, a changed row is named', async () => {
  await inside(async (db) => {
    await db.transaction(async (tx) => {
      await tx.execute(sql`set local session_replication_role = replica`)
      await tx.execute(sql`delete from app.audit_event where tenant_id = ${tenantId} and seq > 3`)
      await tx.execute(
        sql`update app.audit_head h set seq = 3, hash = e.hash from app.audit_event e where e.tenant_id = h.tenant_id and e.seq = 3`,
      )
    })
    expect(await withTenant(db, { tenantId, side: 'api' }, (tx) => auditHead(tx, tenantId))).toMatchObject({ seq: 3 })
  })
  expect(await verify()).toEqual({ code: exitCodes.witness, lines: expect.stringContaining('at 5: WITNESS_MISMATCH') })
  await inside((db) =>
    db.transaction(async (tx) => {
      await tx.execute(sql`set local session_replication_role = replica`)
      await tx.execute(sql`update app.audit_event set actor = 'y' where tenant_id = ${tenantId} and seq = 2`)
    }),
  )
  expect(await verify()).toEqual({ code: exitCodes.broken, lines: expect.stringContaining('at 2: CHANGED') })
})
