import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type SQL, sql } from 'drizzle-orm'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { platformTenantId as tenantId } from '../../schema/roles.ts'
import { exitCodes, run } from '../../scripts/verify-audit.ts'
import { type Db, rowsOf } from '../../shared/db/db.ts'
import { openPorts } from '../../standalone/ports.ts'
import { startStandalone } from '../../standalone/start.ts'
import { cutAudits } from '../../workers/keep-audit.ts'
import { agedEntry, tamper } from '../support/database.ts'

let folder = ''
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'verify-cut-'))
  const options = { host: '127.0.0.1', port: 0, logLevel: 'silent', development: false, capacity: 1 }
  const house = await startStandalone({ dataDir: folder, allowPrivateNetwork: true, mail: undefined, ...options })
  await house.stop(0)
  // The log of a platform that is older than its retention: what it began with is of today, so it is made old.
  await inside(async (db) => {
    await tamper(
      db,
      sql`delete from app.audit_event where tenant_id = ${tenantId}`,
      sql`delete from app.audit_head where tenant_id = ${tenantId}`,
    )
    for (const days of [500, 400, 2, 1]) await agedEntry(db, tenantId, days)
  })
  await rm(join(folder, 'audit-anchors.ndjson'))
  const { ports, close } = await openPorts(folder, 'silent')
  await cutAudits(ports)
  await close()
})
afterAll(() => rm(folder, { recursive: true, force: true }))

async function inside(work: (db: Db) => Promise<void>): Promise<void> {
  const { ports, close } = await openPorts(folder, 'silent')
  await work(ports.db).finally(close)
}
const verify = async (...args: string[]): Promise<{ code: number; text: string }> => {
  const lines: string[] = []
  const code = await run(['--data-dir', folder, ...args], (line) => lines.push(line))
  return { code, text: lines.join('\n') }
}
const broken = (text: string) => ({ code: exitCodes.broken, text: expect.stringContaining(text) })

test('a log that was cut is good from its checkpoint on, with the public keys of the platform alone', async () => {
  const good = {
    code: exitCodes.good,
    text: expect.stringMatching(/^good {4}platform {2}3 rows from 3 on, .* head 5 /),
  }
  expect(await verify()).toEqual(good)
  const printed = await verify('--print-checkpoint-keys')
  expect(JSON.parse(printed.text)).toEqual({ k1: { kty: 'OKP', crv: 'Ed25519', x: expect.any(String) } })
  const platform = await readFile(join(folder, 'platform-keys.json'), 'utf8')
  expect(platform).toContain('k1')
  const file = join(folder, 'auditor-keys.json')
  await writeFile(file, printed.text)
  expect(await verify('--checkpoint-keys', file)).toEqual(good)
})

test('keys of another platform find the checkpoint forged; without keys or with private ones none is judged', async () => {
  const file = join(folder, 'other-keys.json')
  const other = await crypto.subtle.generateKey('Ed25519', true, ['sign', 'verify'])
  if (!('publicKey' in other)) throw new Error('no pair')
  const { kty, crv, x } = await crypto.subtle.exportKey('jwk', other.publicKey)
  await writeFile(file, JSON.stringify({ k1: { kty, crv, x } }))
  expect(await verify('--checkpoint-keys', file)).toEqual(broken('at 2: CHECKPOINT_FORGED'))
  await writeFile(file, JSON.stringify({ k9: { kty, crv, x } }))
  expect(await verify('--checkpoint-keys', file)).toEqual(broken('at 2: CHECKPOINT_FORGED'))
  await writeFile(file, '{"k1": "secret"}')
  expect((await verify('--checkpoint-keys', file)).code).toBe(exitCodes.unreadable)
})

test('witnesses from before and after the cut are compared as far as they can be', async () => {
  const file = join(folder, 'witnesses.ndjson')
  const line = (seq: number, hash: string): string => `${JSON.stringify({ tenantId, seq, hash })}\n`
  await writeFile(file, line(1, 'a'.repeat(64)))
  expect((await verify('--witness', file)).code).toBe(exitCodes.good)
  await writeFile(file, line(2, 'a'.repeat(64)) + line(4, 'a'.repeat(64)))
  expect(await verify('--witness', file)).toEqual({
    code: exitCodes.witness,
    text: expect.stringContaining('at 2: WITNESS_MISMATCH'),
  })
})

test.for([
  ['cut further by hand', sql`delete from app.audit_event where seq = 3`, 'at 3: MISSING'],
  ['without its checkpoint', sql`delete from app.audit_checkpoint`, 'at 1: MISSING'],
] as [string, SQL, string][])('a log that was %s is found', async ([, statement, text]) => {
  const kept: Record<string, unknown>[] = []
  const tables = ['audit_event', 'audit_checkpoint'] as const
  await inside(async (db) => {
    for (const table of tables)
      kept.push(...(await rowsOf(db, sql`select jsonb_agg(t) as rows from ${sql.raw(`app.${table}`)} t`)))
    await tamper(db, statement)
  })
  expect(await verify()).toEqual(broken(text))
  await inside((db) =>
    tamper(
      db,
      ...tables.flatMap((table, i) => [
        sql`delete from ${sql.raw(`app.${table}`)}`,
        sql`insert into ${sql.raw(`app.${table}`)} select * from jsonb_populate_recordset(null::${sql.raw(`app.${table}`)}, ${JSON.stringify(kept[i]?.['rows'])}::jsonb)`,
      ]),
    ),
  )
  expect((await verify()).code).toBe(exitCodes.good)
})
