import { type SQL, sql } from 'drizzle-orm'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { audit } from '../../shared/audit.ts'
import type { Link } from '../../shared/audit-chain.ts'
import { auditHead, type Verified, verifyAudit } from '../../shared/audit-verify.ts'
import { type Db, withTenant } from '../../shared/db/db.ts'
import { makeTenant, memoryDatabase, tamper as tamperWith } from '../support/database.ts'

let database: Awaited<ReturnType<typeof memoryDatabase>>
let db: Db
beforeAll(async () => {
  database = await memoryDatabase()
  db = database.db
})
afterAll(() => database.close())

const entries = 9
/** A tenant whose log has entries with everything that JSON and text can hold. */
async function tenantWithLog(): Promise<string> {
  const { tenantId } = await makeTenant(db)
  for (let i = 1; i <= entries; i++) await write(tenantId, i)
  return tenantId
}

const write = (tenantId: string, i: number): Promise<void> =>
  withTenant(db, { tenantId, side: i % 2 ? 'api' : 'worker' }, (tx) =>
    audit(tx, {
      tenantId,
      actor: `key:${i}`,
      action: 'thing.done',
      target: `ä,${i}:😀`,
      requestId: i % 3 ? `req_${i}` : undefined,
      details: { n: 1e-7 * i, 'ключ "q"': ['\u0001\n', null, { z: 1e21, a: -0 }], é: i },
    }),
  )

const verify = (tenantId: string, more: { witnesses?: Link[]; after?: Link } = {}): Promise<Verified> =>
  verifyAudit(db, { tenantId, side: 'api', ...more })
const headOf = (tenantId: string): Promise<Link> =>
  withTenant(db, { tenantId, side: 'api' }, (tx) => auditHead(tx, tenantId))

const tamper = (...statements: SQL[]): Promise<void> => tamperWith(db, ...statements)

/** Makes every hash from number `from` on anew, and the head, as somebody would who knows how. */
const relink = (tenantId: string, from: number): SQL[] => [
  sql`do ${sql.raw(`$$ declare e record; v text; n bigint := ${from}; begin
    select coalesce((select hash from app.audit_event where tenant_id = '${tenantId}' and seq = ${from} - 1), repeat('0', 64)) into v;
    for e in select * from app.audit_event where tenant_id = '${tenantId}' and seq >= ${from} order by seq loop
      update app.audit_event set seq = n, prev_hash = v,
        hash = app.audit_hash(tenant_id, n, id, at, actor, action, target, request_id, details, v)
        where tenant_id = e.tenant_id and id = e.id returning hash into v;
      n := n + 1;
    end loop;
    update app.audit_head set seq = n - 1, hash = v where tenant_id = '${tenantId}'; end $$`)}`,
]

test('an untouched log is good, row by row and as a whole, and its hashes are those that the database made', async () => {
  const tenantId = await tenantWithLog()
  expect(await verify(tenantId)).toEqual({
    rows: entries,
    cut: 0,
    last: await headOf(tenantId),
    broken: undefined,
    isWhole: true,
  })
})

const set = (change: SQL) => (t: string) => sql`update app.audit_event set ${change} where tenant_id = ${t} and seq = 5`
const at5 = { seq: 5, reason: 'CHANGED' }
const kinds: [string, (tenantId: string, other: string) => SQL[], { seq: number; reason: string }][] = [
  ['another actor', (t) => [set(sql`actor = 'key:x'`)(t)], at5],
  ['another action', (t) => [set(sql`action = 'thing.undone'`)(t)], at5],
  ['another target', (t) => [set(sql`target = 'x'`)(t)], at5],
  ['another request', (t) => [set(sql`request_id = null`)(t)], at5],
  ['another time, by a microsecond', (t) => [set(sql`at = at + interval '1 microsecond'`)(t)], at5],
  ['another id', (t) => [set(sql`id = 'aud_x'`)(t)], at5],
  ['another value in the details', (t) => [set(sql`details = jsonb_set(details, '{é}', '6')`)(t)], at5],
  [
    'a number in the details with one digit more',
    (t) => [set(sql`details = jsonb_set(details, '{é}', '5.0')`)(t)],
    at5,
  ],
  [
    'text moved from one field to the next',
    (t) => [set(sql`action = 'thing.done,', target = substr(target, 2)`)(t)],
    at5,
  ],
  ['another hash', (t) => [set(sql`hash = repeat('a', 64)`)(t)], at5],
  ['another hash before', (t) => [set(sql`prev_hash = repeat('a', 64)`)(t)], at5],
  [
    'a row gone from the middle',
    (t) => [sql`delete from app.audit_event where tenant_id = ${t} and seq = 5`],
    { seq: 5, reason: 'MISSING' },
  ],
  [
    'the first row gone',
    (t) => [sql`delete from app.audit_event where tenant_id = ${t} and seq = 1`],
    { seq: 1, reason: 'MISSING' },
  ],
  [
    'the last rows gone',
    (t) => [sql`delete from app.audit_event where tenant_id = ${t} and seq > 7`],
    { seq: 8, reason: 'MISSING' },
  ],
  [
    'two rows in each other’s place',
    (t) => [
      sql`update app.audit_event set seq = -seq where tenant_id = ${t} and seq in (4, 5)`,
      sql`update app.audit_event set seq = case seq when -4 then 5 else 4 end where tenant_id = ${t} and seq < 0`,
    ],
    { seq: 4, reason: 'CHANGED' },
  ],
  [
    'a row put in, those behind it moved on',
    (t) => [
      sql`update app.audit_event set seq = -seq where tenant_id = ${t} and seq > 4`,
      sql`update app.audit_event set seq = 1 - seq where tenant_id = ${t} and seq < 0`,
      sql`insert into app.audit_event select tenant_id, 'aud_x', at, actor, action, target, request_id, details, 5, prev_hash, hash
          from app.audit_event where tenant_id = ${t} and seq = 4`,
    ],
    at5,
  ],
  [
    'a row added behind the head',
    (t) => [
      sql`insert into app.audit_event select tenant_id, 'aud_x', at, actor, action, target, request_id, details, 10, prev_hash, hash
          from app.audit_event where tenant_id = ${t} and seq = 9`,
    ],
    { seq: 10, reason: 'STRAY' },
  ],
  [
    'a row with a number before the first',
    (t) => [
      sql`insert into app.audit_event select tenant_id, 'aud_x', at, actor, action, target, request_id, details, -3, prev_hash, hash
          from app.audit_event where tenant_id = ${t} and seq = 9`,
    ],
    { seq: -3, reason: 'STRAY' },
  ],
  [
    'the row of another tenant',
    (t, other) => [
      sql`delete from app.audit_event where tenant_id = ${t} and seq = 5`,
      sql`update app.audit_event set tenant_id = ${t} where tenant_id = ${other} and seq = 5`,
    ],
    at5,
  ],
  [
    'one row made anew with its hash',
    (t) => [
      set(
        sql`actor = 'key:x', hash = app.audit_hash(tenant_id, seq, id, at, 'key:x', action, target, request_id, details, prev_hash)`,
      )(t),
    ],
    { seq: 6, reason: 'UNLINKED' },
  ],
  [
    'another head',
    (t) => [sql`update app.audit_head set hash = repeat('a', 64) where tenant_id = ${t}`],
    { seq: 9, reason: 'HEAD_MISMATCH' },
  ],
  ['no head', (t) => [sql`delete from app.audit_head where tenant_id = ${t}`], { seq: 1, reason: 'STRAY' }],
]

describe('is found without a witness:', () => {
  test.for(kinds)('%s', async ([, change, broken]) => {
    const tenantId = await tenantWithLog()
    const other = await tenantWithLog()
    await tamper(...change(tenantId, other))
    expect((await verify(tenantId)).broken).toEqual(broken)
  })

  test('the same row twice', async () => {
    const tenantId = await tenantWithLog()
    const constraints = sql`alter table app.audit_event drop constraint audit_event_pkey, drop constraint audit_event_tenant_id_seq_key`
    const copy = sql`insert into app.audit_event select * from app.audit_event where tenant_id = ${tenantId} and seq = 5`
    await tamper(constraints, copy)
    expect((await verify(tenantId)).broken).toEqual({ seq: 5, reason: 'REPEATED' })
    await tamper(sql`delete from app.audit_event where tenant_id = ${tenantId}`)
    await db.execute(sql`alter table app.audit_event add primary key (tenant_id, id), add unique (tenant_id, seq)`)
  })
})

describe('is found by a witness, and by nothing else:', () => {
  const hidden: [string, (tenantId: string) => SQL[]][] = [
    [
      'a cut tail with its head',
      (t) => [sql`delete from app.audit_event where tenant_id = ${t} and seq > 7`, ...relink(t, 7)],
    ],
    ['a changed row with every hash after it made anew', (t) => [set(sql`actor = 'key:x'`)(t), ...relink(t, 5)]],
    [
      'a row taken out with every hash after it made anew',
      (t) => [sql`delete from app.audit_event where tenant_id = ${t} and seq = 2`, ...relink(t, 2)],
    ],
    [
      'a log made anew from the beginning',
      (t) => [sql`update app.audit_event set actor = 'key:x' where tenant_id = ${t}`, ...relink(t, 1)],
    ],
    [
      'an empty log',
      (t) => [
        sql`delete from app.audit_event where tenant_id = ${t}`,
        sql`delete from app.audit_head where tenant_id = ${t}`,
      ],
    ],
  ]
  test.for(hidden)('%s', async ([, change]) => {
    const tenantId = await tenantWithLog()
    const witness = await headOf(tenantId)
    await tamper(...change(tenantId))
    expect((await verify(tenantId)).broken).toBeUndefined()
    const broken = { seq: witness.seq, reason: 'WITNESS_MISMATCH' }
    expect((await verify(tenantId, { witnesses: [witness] })).broken).toEqual(broken)
    expect((await verify(tenantId, { after: witness })).broken).toEqual(broken)
  })

  test('an old state that was put back and written on', async () => {
    const tenantId = await tenantWithLog()
    const witness = await headOf(tenantId)
    await tamper(sql`delete from app.audit_event where tenant_id = ${tenantId} and seq > 7`, ...relink(tenantId, 7))
    for (let i = 0; i < 5; i++) await write(tenantId, i)
    expect((await verify(tenantId)).broken).toBeUndefined()
    expect((await verify(tenantId, { witnesses: [witness] })).broken).toEqual({ seq: 9, reason: 'WITNESS_MISMATCH' })
  })
})

test('a witness of what is still there agrees, and verifying goes on after it', async () => {
  const tenantId = await tenantWithLog()
  const witness = await headOf(tenantId)
  await write(tenantId, 10)
  expect(await verify(tenantId, { witnesses: [witness] })).toMatchObject({ rows: entries + 1, broken: undefined })
  expect(await verify(tenantId, { after: witness })).toMatchObject({ rows: 1, broken: undefined, isWhole: true })
})

test('a rolled back change leaves no number behind', async () => {
  const tenantId = await tenantWithLog()
  const scope = { tenantId, side: 'api' } as const
  const entry = { tenantId, actor: 'x', action: 'x.y', target: 'x' }
  await expect(
    withTenant(db, scope, async (tx) => {
      await audit(tx, entry)
      throw new Error('no')
    }),
  ).rejects.toThrow('no')
  await withTenant(db, scope, async (tx) => {
    await audit(tx, { ...entry, target: 'first' })
    await audit(tx, { ...entry, target: 'second' })
  })
  expect(await verify(tenantId)).toMatchObject({ rows: entries + 2, broken: undefined })
})

describe('neither side can', () => {
  const attempts: [string, SQL][] = [
    ['change a row', sql`update app.audit_event set actor = 'x'`],
    ['delete a row', sql`delete from app.audit_event`],
    ['empty the log', sql`truncate app.audit_event`],
    ['add a row past the chain', sql`insert into app.audit_event (tenant_id) values ('x')`],
    ['move the head', sql`update app.audit_head set seq = seq + 1`],
    [
      'date a row',
      sql`insert into app.audit_draft (tenant_id, id, at, actor, action, target) values ('x', 'x', now(), 'x', 'x', 'x')`,
    ],
  ]
  test.for(attempts)('%s', async ([, statement]) => {
    const tenantId = await tenantWithLog()
    for (const side of ['api', 'worker'] as const) {
      const attempt = withTenant(db, { tenantId, side }, (tx) => tx.execute(statement))
      await expect(attempt).rejects.toMatchObject({ cause: { code: '42501' } })
    }
  })

  test('write into the log of another tenant', async () => {
    const [mine, theirs] = [await tenantWithLog(), await tenantWithLog()]
    const attempt = withTenant(db, { tenantId: mine, side: 'api' }, (tx) =>
      audit(tx, { tenantId: theirs, actor: 'x', action: 'x.y', target: 'x' }),
    )
    await expect(attempt).rejects.toMatchObject({ cause: { code: '42501' } })
    expect(await verify(theirs)).toMatchObject({ rows: entries })
  })
})

test.for([
  ['a change', sql`update app.audit_event set actor = 'x'`],
  ['a deletion', sql`delete from app.audit_event`],
  ['emptying it', sql`truncate app.audit_event`],
  ['a head that goes back', sql`update app.audit_head set seq = seq - 1`],
  ['a head that is deleted', sql`delete from app.audit_head`],
] as [string, SQL][])('the log refuses %s even of its owner', async ([, statement]) => {
  await tenantWithLog()
  await expect(db.execute(statement)).rejects.toMatchObject({ cause: { code: '42501' } })
})
