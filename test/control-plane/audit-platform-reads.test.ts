import { afterAll, beforeAll, expect, test } from 'vitest'
import { roleScopes } from '../../schema/roles.ts'
import { verifyAudit } from '../../shared/audit-verify.ts'
import { type ControlPlane, controlPlane, type Loose } from '../support/control-plane.ts'

let plane: ControlPlane
let a: { id: string; token: string }
let support: string
let auditor: string
beforeAll(async () => {
  plane = await controlPlane()
  a = await plane.tenant()
  support = await plane.key('platform', { scopes: roleScopes.SUPPORT })
  auditor = await plane.key('platform', { scopes: roleScopes.AUDITOR })
})
afterAll(() => plane[Symbol.asyncDispose]())

const entries = async (token = a.token): Promise<Loose[]> =>
  (await plane.query('{ auditLog { nodes { actor action target requestId details } } }', { token })).data.auditLog.nodes
const actorOf = (token: string): string => `key:${token.split('.')[0]}`

test('whatever support reads of a tenant stands in that tenant’s log: who, what, in which request', async () => {
  const document = `{ tenant(id: "${a.id}") { name limits { threads } queues { queue }
    users { nodes { roles } } apiKeys { nodes { name } } } }`
  const { errors, headers } = await plane.query(document, { token: support })
  expect(errors).toEqual([])
  const read = await entries()
  const requestId = headers.get('x-request-id')
  for (const row of read)
    expect(row).toMatchObject({ actor: actorOf(support), action: 'tenant.read', target: a.id, requestId })
  expect(read.map(({ details }) => details.what).toSorted()).toEqual([
    'API keys',
    'limits',
    'people',
    'profile',
    'queues',
  ])
})

test('an auditor who reads a log leaves a row in it, for every page', async () => {
  const before = (await entries()).length
  const page = await plane.query(`{ auditLog(tenantId: "${a.id}", first: 1) { pageInfo { endCursor } } }`, {
    token: auditor,
  })
  const { endCursor } = page.data.auditLog.pageInfo
  await plane.query(`{ auditLog(tenantId: "${a.id}", first: 1, after: "${endCursor}") { nodes { id } } }`, {
    token: auditor,
  })
  const rows = await entries()
  expect(rows).toHaveLength(before + 2)
  expect(rows[0]).toMatchObject({ actor: actorOf(auditor), action: 'tenant.read', details: { what: 'audit log' } })
})

test('a tenant that reads itself, and the platform that reads itself, leave no such row', async () => {
  await plane.query('{ tenant { name queues { queue } } auditLog { nodes { id } } }', a)
  await plane.query('{ tenant { name } auditLog { nodes { id } } }', { token: plane.platformToken })
  const own = (await entries()).filter(({ actor }) => actor === actorOf(a.token))
  const platform = await entries(plane.platformToken)
  expect(platform.length).toBeGreaterThan(0)
  expect([...own, ...platform].filter(({ action }) => action === 'tenant.read')).toEqual([])
})

test('who may not read, or reads what is not there, gets one answer and leaves no row', async () => {
  const b = await plane.tenant()
  const ask = async (id: string, token: string): Promise<string> =>
    (await plane.query(`{ tenant(id: "${id}") { id } }`, { token })).text.replaceAll(/req_[0-9a-f]+/g, 'req')
  const before = await entries(b.token)
  expect(await ask(b.id, a.token)).toBe(await ask('no_such_tenant', a.token))
  expect(await ask('no_such_tenant', support)).toContain('NOT_FOUND')
  expect(await entries(b.token)).toEqual(before)
})

test('without the row there is no read', async () => {
  const db = plane.ports.db
  await db.execute('alter table app.audit_draft add constraint full_disk check (action <> $$tenant.read$$) not valid')
  try {
    const { data, errors } = await plane.query(`{ tenant(id: "${a.id}") { name } }`, { token: support })
    expect([data?.tenant ?? null, errors[0]?.extensions.code]).toEqual([null, 'INTERNAL'])
    expect((await plane.query('{ tenant { name } }', a)).data.tenant.name).toBe(a.id)
  } finally {
    await db.execute('alter table app.audit_draft drop constraint full_disk')
  }
  expect(await verifyAudit(db, { tenantId: a.id, side: 'api' })).toMatchObject({ broken: undefined })
})

test('a list of all tenants is an entry of the platform’s own log', async () => {
  const { errors } = await plane.query('{ tenants(first: 2) { nodes { id adminEmail } } }', { token: support })
  expect(errors).toEqual([])
  const [last] = await entries(plane.platformToken)
  expect(last).toMatchObject({ actor: actorOf(support), action: 'tenant.listed', target: 'platform' })
})
