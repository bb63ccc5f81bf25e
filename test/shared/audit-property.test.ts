import { createHash } from 'node:crypto'
import { type SQL, sql } from 'drizzle-orm'
import fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type ChainRow, type Link, origin, rowText, verifyRows } from '../../shared/audit-chain.ts'
import { checkpointKeys } from '../../shared/audit-checkpoint.ts'
import { type Verified, verifyAudit } from '../../shared/audit-verify.ts'
import { audit } from '../../shared/audit.ts'
import { type Db, rowsOf, withTenant } from '../../shared/db/db.ts'
import { systemClock } from '../../shared/clock.ts'
import { secretBox } from '../../shared/secrets/secret-box.ts'
import { signingKeys } from '../../shared/secrets/signing-keys.ts'
import { cutAudits } from '../../workers/keep-audit.ts'
import { agedEntry, makeTenant, memoryDatabase } from '../support/database.ts'

const platform = { current: 'k1', keys: { k1: btoa('0123456789abcdef0123456789abcdef') } }
const signing = signingKeys(platform)
const silent = { info() {}, warn() {}, error() {} }

let database: Awaited<ReturnType<typeof memoryDatabase>>
let db: Db
let tenantId: string
beforeAll(async () => {
  database = await memoryDatabase()
  db = database.db
  ;({ tenantId } = await makeTenant(db))
  for (const days of [500, 400, 9]) await agedEntry(db, tenantId, days)
  await cutAudits({ db, signing, clock: systemClock, log: silent })
  const box = secretBox(platform)
  for (let i = 0; i < 3; i++)
    await withTenant(db, { tenantId, side: 'api' }, (tx) =>
      audit(
        tx,
        {
          tenantId,
          actor: `key:${i}`,
          action: 'user.created',
          target: `usr_ä${i}`,
          requestId: `req_${i}`,
          details: { n: 1.5 * i, 'ключ "q"': ['\n', null, { z: 1e21 }] },
          subject: `usr_ä${i}`,
          personal: { email: 'jo@acme.example' },
        },
        box,
      ),
    )
})
afterAll(() => database.close())

const verify = (on: Db): Promise<Verified> => verifyAudit(on, { tenantId, side: 'api', keys: checkpointKeys(signing) })

/** Every stored column of the log, its head and its checkpoint. */
const columns: Record<string, readonly string[]> = {
  audit_event: [
    'tenant_id',
    'id',
    'at',
    'actor',
    'action',
    'target',
    'request_id',
    'details',
    'seq',
    'prev_hash',
    'hash',
    'subject',
    'personal',
  ],
  audit_head: ['tenant_id', 'seq', 'hash'],
  audit_checkpoint: ['tenant_id', 'seq', 'hash', 'cut_at', 'key_id', 'signature'],
}
const cells = Object.entries(columns).flatMap(([table, names]) => names.map((column) => ({ table, column })))

test('the columns are all that there are', async () => {
  const found = await rowsOf<{ cell: string }>(
    db,
    sql`select table_name || '.' || column_name as cell from information_schema.columns
        where table_schema = 'app' and table_name in ('audit_event', 'audit_head', 'audit_checkpoint')`,
  )
  expect(found.map(({ cell }) => cell).toSorted()).toEqual(
    cells.map(({ table, column }) => `${table}.${column}`).toSorted(),
  )
})

test('one character changed in any column of any row is found', async () => {
  expect(await verify(db)).toMatchObject({ broken: undefined, cut: 2, rows: 5 })
  const change = fc.record({
    cell: fc.constantFrom(...cells),
    row: fc.nat(4),
    place: fc.nat(200),
    to: fc.nat(200),
  })
  const tried = new Set<string>()
  await fc.assert(
    fc.asyncProperty(change, async ({ cell, row, place, to }) => {
      const outcome = await attempt(cell, row, place, to)
      fc.pre(outcome !== 'nothing changed')
      tried.add(`${cell.table}.${cell.column}`)
      expect(outcome).toBe('found')
    }),
    { numRuns: 250, seed: 7 },
  )
  expect(tried.size).toBe(cells.length)
  expect(await verify(db)).toMatchObject({ broken: undefined })
})

/** Changes a character of a cell as a superuser, verifies, and takes it back. */
async function attempt(
  { table, column }: { table: string; column: string },
  row: number,
  place: number,
  to: number,
): Promise<'found' | 'missed' | 'nothing changed'> {
  const name = sql.raw(`app.${table}`)
  const cell = sql.raw(column)
  let outcome: 'found' | 'missed' | 'nothing changed' = 'nothing changed'
  const takenBack = new Error('taken back')
  await db
    .transaction(async (tx) => {
      await tx.execute(sql`set local session_replication_role = replica`)
      const order: SQL = sql.raw(column === 'tenant_id' ? 'ctid' : 'seq')
      const [found] = await rowsOf<{ at: string; text: string | null; type: string }>(
        tx,
        sql`select ctid::text as at, ${cell}::text as text, pg_typeof(${cell})::text as type from ${name}
            where tenant_id = ${tenantId} order by ${order} offset ${row}::int % (select count(*) from ${name} where tenant_id = ${tenantId}) limit 1`,
      )
      if (!found) throw new Error('there is no such row')
      const characters = [...(found.text ?? '')]
      const index = place % Math.max(1, characters.length)
      characters[index] = another(characters[index] ?? '', to)
      const text = characters.join('')
      // What is no number, time or JSON any more cannot be stored, nor can a second row of one number.
      const stored = await tx
        .transaction((inner) =>
          rowsOf<{ text: string }>(
            inner,
            sql`update ${name} set ${cell} = ${text}::${sql.raw(found.type)} where ctid = ${found.at}::tid returning ${cell}::text as text`,
          ),
        )
        .catch(() => undefined)
      if (stored && stored[0]?.text !== found.text) outcome = (await verify(tx)).broken ? 'found' : 'missed'
      throw takenBack
    })
    .catch((error: unknown) => {
      if (error !== takenBack) throw error
    })
  return outcome
}

// A digit for a digit, so that most changes of numbers and times are such again.
function another(character: string, to: number): string {
  if (/[0-9]/.test(character)) return String((Number(character) + 1 + (to % 9)) % 10)
  return [...'abcdefXYZ_ .ä0'].filter((one) => one !== character)[to % 13] ?? 'x'
}

const text = fc.string({ unit: 'binary', maxLength: 12 }).filter((one) => one.isWellFormed())
const entry = fc.record({
  id: text,
  at: text,
  actor: text,
  action: text,
  target: text,
  requestId: fc.option(text),
  details: text,
  subject: fc.option(text),
  personal: fc.option(text),
})

const sha = (value: string): string => createHash('sha256').update(value).digest('hex')
const chainOf = (entries: readonly Omit<ChainRow, 'seq' | 'prevHash' | 'hash'>[]): ChainRow[] => {
  let last: Link = origin
  return entries.map((one) => {
    const row = { ...one, seq: last.seq + 1, prevHash: last.hash }
    const personalHash = one.personal === null ? null : sha(one.personal)
    last = { seq: row.seq, hash: sha(rowText('t', { ...row, personalHash })) }
    return { ...row, hash: last.hash }
  })
}

test('no other entries give the same chain, whatever stands in them', async () => {
  const logs = fc.array(entry, { minLength: 1, maxLength: 4 })
  await fc.assert(
    fc.asyncProperty(logs, fc.nat(), entry, async (entries, at, other) => {
      const rows = chainOf(entries)
      expect(await verifyRows('t', rows, origin)).toMatchObject({ broken: undefined })
      const index = at % rows.length
      const row = rows[index]
      if (!row) throw new Error('no row')
      const changed = { ...row, ...other }
      fc.pre(JSON.stringify(changed) !== JSON.stringify(row))
      expect((await verifyRows('t', rows.with(index, changed), origin)).broken).toEqual({
        seq: index + 1,
        reason: 'CHANGED',
      })
      expect((await verifyRows('other', rows, origin)).broken?.seq).toBe(1)
    }),
    { numRuns: 300 },
  )
})

test('text that moves from one field into the next is another entry', async () => {
  await fc.assert(
    fc.asyncProperty(entry, fc.nat(), async (one, cut) => {
      const whole = one.action + one.target
      const at = cut % (whole.length + 1)
      const moved = { ...one, action: whole.slice(0, at), target: whole.slice(at) }
      fc.pre(moved.action !== one.action && moved.action.isWellFormed() && moved.target.isWellFormed())
      const [a, b] = [chainOf([one])[0]?.hash, chainOf([moved])[0]?.hash]
      expect(a).not.toBe(b)
    }),
    { numRuns: 300 },
  )
})
