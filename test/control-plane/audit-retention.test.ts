import { sql } from 'drizzle-orm'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { retentionDays } from '../../control-plane/audit/retention.ts'
import { checkpointKeys, signCheckpoint } from '../../shared/audit-checkpoint.ts'
import type { Link } from '../../shared/audit-chain.ts'
import { auditHead, type Verified, verifyAudit } from '../../shared/audit-verify.ts'
import { audit } from '../../shared/audit.ts'
import { rowsOf, withTenant } from '../../shared/db/db.ts'
import { signingKeys } from '../../shared/secrets/signing-keys.ts'
import { cutAudits, keepAudits } from '../../workers/keep-audit.ts'
import { type ControlPlane, controlPlane, type Loose, until } from '../support/control-plane.ts'
import { agedEntry, tamper } from '../support/database.ts'

let plane: ControlPlane
let t: { id: string; token: string }
beforeAll(async () => {
  plane = await controlPlane()
})
beforeEach(async () => {
  t = await plane.tenant()
})
afterAll(() => plane[Symbol.asyncDispose]())

/** Entries of so many days ago, oldest first, as the chain would hold them. */
const write = async (...days: number[]): Promise<void> => {
  for (const each of days) await agedEntry(plane.ports.db, t.id, each)
}
const verify = (more: { after?: Link; witnesses?: Link[] } = {}): Promise<Verified> =>
  verifyAudit(plane.ports.db, { tenantId: t.id, side: 'api', keys: checkpointKeys(plane.ports.signing), ...more })
const head = (): Promise<Link> =>
  withTenant(plane.ports.db, { tenantId: t.id, side: 'api' }, (tx) => auditHead(tx, t.id))
const cut = (): Promise<number> => cutAudits(plane.ports)
const seqs = async (): Promise<number[]> => {
  const rows = await rowsOf<{ seq: string }>(
    plane.ports.db,
    sql`select seq::text as seq from app.audit_event where tenant_id = ${t.id} order by audit_event.seq`,
  )
  return rows.map(({ seq }) => Number(seq))
}
const set = async (input: object): Promise<Loose> => {
  const { data } = await plane.query(
    `mutation ($input: SetAuditRetentionInput!) { setAuditRetention(input: $input) { retention { days legalHold } errors { code path } } }`,
    { token: plane.platformToken, variables: { input: { tenantId: t.id, ...input } } },
  )
  return data.setAuditRetention
}

describe('a cut', () => {
  test('takes whole prefixes that are older than a year, leaves a signed checkpoint, and is an entry itself', async () => {
    await write(500, 400, 370, 300, 400, 10)
    expect(await cut()).toBe(3)
    expect(await seqs()).toEqual([4, 5, 6, 7])
    expect(await verify()).toMatchObject({ broken: undefined, rows: 4, cut: 3, isWhole: true })
    const { data } = await plane.query(
      '{ auditLog(first: 1) { nodes { actor action details } } auditRetention { days legalHold checkpoint { seq hash cutAt keyId signature } } }',
      t,
    )
    const [entry] = data.auditLog.nodes
    const { checkpoint } = data.auditRetention
    expect(data.auditRetention).toMatchObject({ days: 365, legalHold: false })
    expect(checkpoint).toMatchObject({ seq: 3, keyId: 'k1', signature: expect.stringMatching(/^[0-9a-f]{128}$/) })
    expect(entry).toMatchObject({
      actor: 'system:retention',
      action: 'audit.cut',
      details: { rows: 3, seq: 3, hash: checkpoint.hash },
    })
    expect(await cut()).toBe(0)
  })

  test('waits until a day’s worth has come of age', async () => {
    await write(365.5, 1)
    expect(await cut()).toBe(0)
    await write(0)
    expect(await seqs()).toEqual([1, 2, 3])
  })

  test('can take all, and the log goes on from there', async () => {
    await write(500, 400)
    expect(await cut()).toBe(2)
    expect(await seqs()).toEqual([3])
    await write(0)
    expect(await verify()).toMatchObject({ broken: undefined, rows: 2, cut: 2 })
  })

  test('follows on the one before', async () => {
    await write(500, 400, 100, 50)
    expect(await cut()).toBe(2)
    expect(await set({ days: 60 })).toMatchObject({ retention: { days: 60 }, errors: [] })
    expect(await cut()).toBe(1)
    expect(await verify()).toMatchObject({ broken: undefined, cut: 3 })
  })

  test('takes nothing under a legal hold, and everything due once it is lifted', async () => {
    await write(500, 1)
    expect(await set({ legalHold: true })).toEqual({ retention: { days: 365, legalHold: true }, errors: [] })
    expect(await cut()).toBe(0)
    expect(await set({ legalHold: false })).toMatchObject({ errors: [] })
    expect(await cut()).toBe(1)
  })

  test('does not come near a log that was changed before it: what is evidence stays, and is reported', async () => {
    await write(500, 400, 10)
    await tamper(plane.ports.db, sql`update app.audit_event set actor = 'x' where tenant_id = ${t.id} and seq = 1`)
    expect(await cut()).toBe(0)
    expect(await seqs()).toEqual([1, 2, 3])
    expect(plane.logged.filter((line) => line.includes('audit.broken') && line.includes(t.id))).toHaveLength(1)
  })

  test('by two processes at once happens once', async () => {
    await write(500, 400, 10)
    expect((await Promise.all([cut(), cut()])).toSorted()).toEqual([0, 2])
    expect(await verify()).toMatchObject({ broken: undefined, cut: 2 })
  })

  test('comes with the housekeeping of a worker', async () => {
    await write(500, 10)
    const stop = new AbortController()
    const keeping = keepAudits(plane.ports, 60_000, stop.signal)
    await until('it is cut', async () => (await seqs())[0] === 2)
    stop.abort()
    await keeping
    expect(await verify()).toMatchObject({ broken: undefined, cut: 1 })
  })
})

describe('retention', () => {
  test('is 30 to 36,500 days and a year by default, in the API as in the database', async () => {
    expect(await set({ days: 29 })).toEqual({ retention: null, errors: [{ code: 'BAD_INPUT', path: ['days'] }] })
    expect(await set({ days: 36_501 })).toMatchObject({ errors: [{ code: 'BAD_INPUT' }] })
    expect(await set({ tenantId: 'no_such_tenant', days: 40 })).toMatchObject({ errors: [{ code: 'NOT_FOUND' }] })
    const [row] = await rowsOf<{ days: number }>(
      plane.ports.db,
      sql`select round(extract(epoch from clock_timestamp() - app.audit_cutoff(${t.id})) / 86400)::int as days`,
    )
    expect(row?.days).toBe(retentionDays.default)
  })

  test('is changed by the platform alone, and its change stands in the tenant’s log', async () => {
    const { errors } = await plane.query(
      `mutation { setAuditRetention(input: { tenantId: "${t.id}", days: 30 }) { errors { code } } }`,
      t,
    )
    expect(errors[0]?.extensions.code).toBe('FORBIDDEN')
    await set({ days: 30 })
    const { data } = await plane.query(
      '{ auditLog(filter: { action: "audit.retention_set" }) { nodes { details } } }',
      t,
    )
    expect(data.auditLog.nodes).toEqual([
      { details: { days: 30, legalHold: false, before: { days: 365, legalHold: false } } },
    ])
  })
})

describe('is found after a cut:', () => {
  const tamperings: [string, string[], { seq: number; reason: string }][] = [
    ['a prefix cut by hand', [`delete from app.audit_event where $T and seq <= 4`], { seq: 4, reason: 'MISSING' }],
    [
      'a prefix cut by hand under a checkpoint that nobody signed',
      [
        `insert into app.audit_checkpoint select tenant_id, seq, hash, now(), 'k1', repeat('ab', 64) from app.audit_event where $T and seq = 5`,
        `delete from app.audit_event where $T and seq <= 5`,
      ],
      { seq: 5, reason: 'CHECKPOINT_FORGED' },
    ],
    [
      'a checkpoint with the signature of the one before',
      [
        `insert into app.audit_checkpoint select e.tenant_id, e.seq, e.hash, c.cut_at, c.key_id, c.signature
           from app.audit_event e, app.audit_checkpoint c where e.tenant_id = '$I' and c.tenant_id = '$I' and e.seq = 5`,
        `delete from app.audit_event where $T and seq <= 5`,
      ],
      { seq: 5, reason: 'CHECKPOINT_FORGED' },
    ],
    ['a checkpoint gone', [`delete from app.audit_checkpoint where $T`], { seq: 1, reason: 'MISSING' }],
    [
      'a checkpoint of another hash',
      [`update app.audit_checkpoint set hash = repeat('a', 64) where $T`],
      { seq: 3, reason: 'CHECKPOINT_FORGED' },
    ],
    [
      'a checkpoint of another number',
      [`update app.audit_checkpoint set seq = 2 where $T`],
      { seq: 2, reason: 'CHECKPOINT_FORGED' },
    ],
    [
      'a checkpoint of another time',
      [`update app.audit_checkpoint set cut_at = cut_at - interval '1 microsecond' where $T`],
      { seq: 3, reason: 'CHECKPOINT_FORGED' },
    ],
    [
      'a checkpoint of another key',
      [`update app.audit_checkpoint set key_id = 'k2' where $T`],
      { seq: 3, reason: 'CHECKPOINT_FORGED' },
    ],
    [
      'an entry put back that was cut',
      [
        `insert into app.audit_event select tenant_id, 'aud_x', at, actor, action, target, request_id, details, 2, prev_hash, hash from app.audit_event where $T and seq = 5`,
      ],
      { seq: 2, reason: 'STRAY' },
    ],
    [
      'the first entry that is left, changed',
      [`update app.audit_event set actor = 'x' where $T and seq = 4`],
      { seq: 4, reason: 'CHANGED' },
    ],
    ['a middle entry gone', [`delete from app.audit_event where $T and seq = 5`], { seq: 5, reason: 'MISSING' }],
    [
      'a head before the checkpoint',
      [`update app.audit_head set seq = 2 where $T`, `delete from app.audit_event where $T`],
      { seq: 3, reason: 'HEAD_MISMATCH' },
    ],
  ]
  test.for(tamperings)('%s', async ([, statements, broken]) => {
    await write(500, 400, 370, 10, 9, 8)
    expect(await cut()).toBe(3)
    expect(await verify()).toMatchObject({ broken: undefined })
    const named = statements.map((text) => text.replaceAll('$T', `tenant_id = '$I'`).replaceAll('$I', t.id))
    await tamper(plane.ports.db, ...named.map((text) => sql.raw(text)))
    expect((await verify()).broken).toEqual(broken)
  })

  test('a checkpoint that another platform signed', async () => {
    await write(500, 400, 10)
    const { seq, hash } = await head()
    const stranger = signingKeys({ current: 'k1', keys: { k1: btoa('x'.repeat(32)) } })
    const cutAt = '2026-01-01T00:00:00.000000Z'
    const { signature } = await signCheckpoint(stranger, { tenantId: t.id, seq, hash, cutAt })
    await tamper(
      plane.ports.db,
      sql`insert into app.audit_checkpoint values (${t.id}, ${seq}, ${hash}, ${cutAt}, 'k1', ${signature})`,
      sql`delete from app.audit_event where tenant_id = ${t.id} and seq <= ${seq}`,
    )
    expect((await verify()).broken).toEqual({ seq, reason: 'CHECKPOINT_FORGED' })
  })

  test('the true checkpoint of another tenant', async () => {
    await write(500, 400, 10)
    await cut()
    const theirs = t.id
    t = await plane.tenant()
    await write(500, 400, 10)
    await tamper(
      plane.ports.db,
      sql`insert into app.audit_checkpoint select ${t.id}, seq, hash, cut_at, key_id, signature from app.audit_checkpoint where tenant_id = ${theirs}`,
      sql`delete from app.audit_event where tenant_id = ${t.id} and seq <= 2`,
    )
    expect((await verify()).broken).toEqual({ seq: 2, reason: 'CHECKPOINT_FORGED' })
  })
})

describe('by a witness is found after a cut:', () => {
  test('a tail that was cut off with its head', async () => {
    await write(500, 400, 10, 9)
    await cut()
    const witness = await head()
    await tamper(
      plane.ports.db,
      sql`delete from app.audit_event where tenant_id = ${t.id} and seq > 3`,
      sql`update app.audit_head set seq = 3, hash = (select hash from app.audit_event where tenant_id = ${t.id} and seq = 3) where tenant_id = ${t.id}`,
    )
    expect((await verify()).broken).toBeUndefined()
    expect((await verify({ witnesses: [witness] })).broken).toEqual({ seq: witness.seq, reason: 'WITNESS_MISMATCH' })
  })

  test('an old state that was put back, checkpoint and sealed details with it, and written on', async () => {
    await write(500, 400, 370, 10)
    const person = { email: 'jo@acme.example' }
    const entry = {
      tenantId: t.id,
      actor: 'x',
      action: 'user.seen',
      target: 'usr_1',
      subject: 'usr_1',
      personal: person,
    }
    const add = (): Promise<void> =>
      withTenant(plane.ports.db, { tenantId: t.id, side: 'api' }, (tx) => audit(tx, entry, plane.ports.secrets))
    await add()
    const tables = ['audit_event', 'audit_head', 'audit_checkpoint']
    const backup: string[] = []
    for (const table of tables) {
      const [row] = await rowsOf<{ rows: string }>(
        plane.ports.db,
        sql`select coalesce(jsonb_agg(x), '[]')::text as rows from ${sql.raw(`app.${table}`)} x where tenant_id = ${t.id}`,
      )
      backup.push(row?.rows ?? '')
    }
    expect(await cut()).toBe(3)
    await add()
    const witness = await head()
    await tamper(
      plane.ports.db,
      ...tables.flatMap((table, i) => [
        sql`delete from ${sql.raw(`app.${table}`)} where tenant_id = ${t.id}`,
        sql`insert into ${sql.raw(`app.${table}`)} select * from jsonb_populate_recordset(null::${sql.raw(`app.${table}`)}, ${backup[i]}::jsonb)`,
      ]),
    )
    for (let i = 0; i < 5; i++) await add()
    expect(await verify()).toMatchObject({ broken: undefined, cut: 0 })
    expect((await verify({ witnesses: [witness] })).broken).toEqual({ seq: witness.seq, reason: 'WITNESS_MISMATCH' })
  })

  test('a log that was made anew from some entry after the checkpoint on', async () => {
    await write(500, 400, 10, 9, 8)
    await cut()
    const witness = await head()
    await tamper(
      plane.ports.db,
      sql`update app.audit_event set actor = 'x' where tenant_id = ${t.id} and seq = 4`,
      sql.raw(`do $$ declare e record; v text; begin
        select hash into v from app.audit_event where tenant_id = '${t.id}' and seq = 3;
        for e in select * from app.audit_event where tenant_id = '${t.id}' and seq > 3 order by seq loop
          update app.audit_event set prev_hash = v, hash = app.audit_hash(tenant_id, seq, id, at, actor, action, target, request_id,
            details, v, subject, personal) where tenant_id = e.tenant_id and id = e.id returning hash into v;
        end loop;
        update app.audit_head set hash = v where tenant_id = '${t.id}'; end $$`),
    )
    expect((await verify()).broken).toBeUndefined()
    expect((await verify({ witnesses: [witness] })).broken).toEqual({ seq: witness.seq, reason: 'WITNESS_MISMATCH' })
  })

  test('nothing, when it saw what was cut by right', async () => {
    await write(500, 400)
    const witness = await head()
    await write(370, 10)
    await cut()
    expect(await verify({ witnesses: [witness] })).toMatchObject({ broken: undefined })
    expect(await verify({ after: witness })).toMatchObject({ broken: undefined, rows: 2 })
  })

  test('another entry in the place of the checkpoint', async () => {
    await write(500, 400, 10)
    await cut()
    const other = { seq: 2, hash: 'a'.repeat(64) }
    expect((await verify({ witnesses: [other] })).broken).toEqual({ seq: 2, reason: 'WITNESS_MISMATCH' })
    expect((await verify({ after: other })).broken).toEqual({ seq: 2, reason: 'WITNESS_MISMATCH' })
  })
})

describe('nobody but the one function deletes:', () => {
  test('not a role of the product, and not the owner without a checkpoint', async () => {
    await write(500, 400, 10)
    for (const side of ['api', 'worker'] as const) {
      const attempt = withTenant(plane.ports.db, { tenantId: t.id, side }, (tx) =>
        tx.execute(sql`delete from app.audit_event`),
      )
      await expect(attempt).rejects.toMatchObject({ cause: { code: '42501' } })
    }
    const refused = { cause: { code: '42501' } }
    const owner = plane.ports.db
    await expect(owner.execute(sql`delete from app.audit_event where tenant_id = ${t.id}`)).rejects.toMatchObject(
      refused,
    )
    await cut()
    for (const statement of [
      sql`delete from app.audit_event where tenant_id = ${t.id}`,
      sql`truncate app.audit_event`,
      sql`delete from app.audit_checkpoint`,
      sql`update app.audit_checkpoint set seq = seq + 1`,
    ])
      await expect(owner.execute(statement)).rejects.toMatchObject(refused)
    expect(await verify()).toMatchObject({ broken: undefined })
  })

  test('and the function takes no young entry, no other hash and no held log', async () => {
    await write(500, 10)
    const { seq, hash } = await head()
    const call = (number: number, text: string): Promise<number | undefined> =>
      withTenant(plane.ports.db, { tenantId: t.id, side: 'worker' }, async (tx) => {
        const [found] = await rowsOf<{ n: number }>(
          tx,
          sql`select app.cut_audit(${number}, ${text}, now(), 'k1', 'x')::int as n`,
        )
        return found?.n
      })
    expect(await call(seq, hash)).toBe(0)
    expect(await call(1, hash)).toBe(0)
    expect(await call(99, hash)).toBe(0)
    await set({ legalHold: true })
    const [first] = await rowsOf<{ hash: string }>(
      plane.ports.db,
      sql`select hash from app.audit_event where tenant_id = ${t.id} and seq = 1`,
    )
    expect(await call(1, first?.hash ?? '')).toBe(0)
    expect(await seqs()).toEqual([1, 2, 3])
    await withTenant(plane.ports.db, { tenantId: t.id, side: 'api' }, (tx) =>
      audit(tx, { tenantId: t.id, actor: 'x', action: 'x.y', target: 'x' }),
    )
    expect(await verify()).toMatchObject({ broken: undefined, rows: 4 })
  })
})
