import { sql } from 'drizzle-orm'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { verifyAudit } from '../../shared/audit-verify.ts'
import { rowsOf, withLedger, withTenant } from '../../shared/db/db.ts'
import { type Answer, type ControlPlane, controlPlane, type Loose, until } from '../support/control-plane.ts'

let plane: ControlPlane
let a: { id: string; token: string }
let reader: string
beforeAll(async () => {
  plane = await controlPlane()
})
beforeEach(async () => {
  a = await plane.tenant()
  reader = await plane.key(a.id, { scopes: ['tenant:read'] })
})
afterAll(() => plane[Symbol.asyncDispose]())

const keyOf = (token: string): string => token.split('.')[0] ?? ''
const denials = (tenantId = a.id): Promise<Loose[]> =>
  rowsOf(
    plane.ports.db,
    sql`select actor, action, details from app.audit_event where tenant_id = ${tenantId} and action in ('access.denied', 'access.foreign', 'key.refused') order by seq`,
  )
const counted = async (actor: string): Promise<number> => {
  const [row] = await rowsOf<{ n: number }>(
    plane.ports.db,
    sql`select coalesce(sum(count), 0)::int as n from app.audit_denial where actor = ${actor}`,
  )
  return row?.n ?? 0
}
const pastMinute = (): Promise<unknown> =>
  plane.ports.db.execute(sql`update app.audit_denial set written_at = written_at - interval '61 seconds'`)
const flush = (): Promise<unknown> =>
  withLedger(plane.ports.db, 'worker', (tx) => tx.execute(sql`select app.flush_denials(100)`))
const denied = (document = '{ credentials { nodes { id } } }'): Promise<Answer> =>
  plane.query(document, { token: reader })

test('a flood of refused requests is one entry a minute, with every attempt counted by field', async () => {
  for (let i = 0; i < 20; i++) expect((await denied()).errors[0]?.extensions.code).toBe('FORBIDDEN')
  await denied('{ a: pipelines { nodes { id } } b: pipelines { nodes { id } } }')
  await denied('{ hidden: auditHead { seq } }')
  const actor = `key:${keyOf(reader)}`
  await until('all are counted', async () => (await counted(actor)) === 21)
  expect(await denials()).toEqual([
    { actor, action: 'access.denied', details: { count: 1, attempts: { credentials: 1 }, since: expect.any(String) } },
  ])
  await pastMinute()
  await denied()
  await until('the minute is over', async () => (await denials()).length === 2)
  expect((await denials())[1].details).toMatchObject({
    count: 22,
    attempts: { credentials: 20, pipelines: 1, auditHead: 1 },
  })
  expect(await verifyAudit(plane.ports.db, { tenantId: a.id, side: 'api' })).toMatchObject({ broken: undefined })
})

test('what was counted is written even when nobody is refused any more, and then forgotten', async () => {
  for (let i = 0; i < 3; i++) await denied()
  const actor = `key:${keyOf(reader)}`
  await until('they are counted', async () => (await counted(actor)) === 2)
  await flush()
  expect(await denials()).toHaveLength(1)
  await pastMinute()
  await flush()
  expect((await denials()).map(({ details }) => details.count)).toEqual([1, 2])
  await plane.ports.db.execute(sql`update app.audit_denial set written_at = written_at - interval '2 hours'`)
  await flush()
  expect(await rowsOf(plane.ports.db, sql`select from app.audit_denial where actor = ${actor}`)).toEqual([])
})

test('an attempt at another tenant is noted with the one who tried, and not with the other', async () => {
  const b = await plane.tenant()
  await plane.query(`{ tenant(id: "${b.id}") { id } }`, { token: reader })
  await until('it is noted', async () => (await denials()).length === 1)
  expect((await denials())[0]).toMatchObject({
    actor: `key:${keyOf(reader)}`,
    action: 'access.foreign',
    details: { attempts: { tenant: 1 } },
  })
  expect(await denials(b.id)).toEqual([])
})

test('a known key with another secret, a revoked one and one at its end are noted; an unknown one is not', async () => {
  const revoked = await plane.key(a.id, { revokedAt: new Date() })
  const ended = await plane.key(a.id, { expiresAt: new Date(Date.now() - 1000) })
  const wrong = `${keyOf(reader)}.${ended.split('.')[1]}`
  const unknown = reader.replace(/^key_./, 'key_f')
  const texts: string[] = []
  for (const token of [revoked, ended, wrong, unknown])
    texts.push((await plane.query('{ viewer { keyId } }', { token })).text.replaceAll(/req_[0-9a-f]+/g, 'req'))
  expect(new Set(texts).size).toBe(1)
  await until('they are noted', async () => (await denials()).length === 3)
  expect((await denials()).map(({ actor, action }) => `${actor} ${action}`)).toEqual(
    [revoked, ended, reader].map((token) => `key:${keyOf(token)} key.refused`),
  )
})

test('the refused export is noted, too', async () => {
  const response = await plane.app.fetch(
    new Request('http://edge.example/v1/audit.ndjson', { headers: { authorization: `Bearer ${reader}` } }),
  )
  expect(response.status).toBe(403)
  await until('it is noted', async () => (await denials()).length === 1)
})

test('what is allowed, or wrong in another way, is not noted', async () => {
  await plane.query('{ tenant { id } }', { token: reader })
  await plane.query('{ tenant(id: "", oops: 1) { id } }', { token: reader })
  await plane.query('{ run(id: "run_x") { id } }', a)
  await denied()
  await until('the last one is noted', async () => (await denials()).length > 0)
  expect((await denials()).map(({ details }) => details.attempts)).toEqual([{ credentials: 1 }])
})

test('a note that cannot be written changes no answer', async () => {
  const usual = await denied()
  await plane.ports.db.execute('alter table app.audit_denial add constraint full_disk check (count < 0) not valid')
  try {
    const answer = await denied()
    const plain = ({ text }: Answer): string => text.replaceAll(/req_[0-9a-f]+/g, 'req')
    expect([answer.status, plain(answer)]).toEqual([usual.status, plain(usual)])
    await until('the failure is in the log', () => plane.logged.some((line) => line.includes('hint.lost')))
  } finally {
    await plane.ports.db.execute('alter table app.audit_denial drop constraint full_disk')
  }
})

test('one who is refused cannot write into the log of another tenant, nor can a worker', async () => {
  const attempt = withTenant(plane.ports.db, { tenantId: a.id, side: 'api' }, (tx) =>
    tx.execute(sql`insert into app.audit_denial (tenant_id) values (${a.id})`),
  )
  await expect(attempt).rejects.toMatchObject({ cause: { code: '42501' } })
  const call = withTenant(plane.ports.db, { tenantId: a.id, side: 'worker' }, (tx) =>
    tx.execute(sql`select app.note_denial('x', 'x', 'x', null)`),
  )
  await expect(call).rejects.toMatchObject({ cause: { code: '42501' } })
})

test('a key that is used in ten thousand ways lists fifty of them', async () => {
  await withTenant(plane.ports.db, { tenantId: a.id, side: 'api' }, (tx) =>
    tx.execute(
      sql`select app.note_denial('key:x', 'access.denied', 'field' || i, null) from generate_series(1, 200) i`,
    ),
  )
  await pastMinute()
  await flush()
  const last = (await denials()).at(-1)
  expect([last.details.count, Object.keys(last.details.attempts)]).toEqual([199, expect.any(Array)])
  expect(Object.keys(last.details.attempts)).toHaveLength(50)
})
