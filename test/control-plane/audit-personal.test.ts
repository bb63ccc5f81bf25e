import { sql } from 'drizzle-orm'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { verifyAudit } from '../../shared/audit-verify.ts'
import { audit } from '../../shared/audit.ts'
import { withTenant } from '../../shared/db/db.ts'
import { type ControlPlane, controlPlane, type Loose, smallWorker } from '../support/control-plane.ts'
import { dumpOf, tamper } from '../support/database.ts'

let plane: ControlPlane
let a: { id: string; token: string }
beforeAll(async () => {
  plane = await controlPlane()
  a = await plane.tenant()
})
afterAll(() => plane[Symbol.asyncDispose]())

const person = {
  email: 'canary-mail@acme.example',
  username: 'canary-user',
  firstName: 'Canarine',
  lastName: 'Canarowski',
}
const input = { ...person, role: 'POWER_USER' }
const mutate = async (name: string, type: string, given: object, token: string, select = ''): Promise<Loose> => {
  const { data, errors } = await plane.query(
    `mutation ($input: ${type}!) { ${name}(input: $input) { errors { code message } ${select} } }`,
    { token, variables: { input: given } },
  )
  expect([errors, data?.[name]?.errors]).toEqual([[], []])
  return data[name]
}
const create = async (token = a.token, given: object = input): Promise<string> =>
  (await mutate('createUser', 'CreateUserInput', given, token, 'user { id }')).user.id
const log = async (token: string, args = ''): Promise<Loose[]> => {
  const { data, errors } = await plane.query(`{ auditLog${args} { nodes { action target subject personal } } }`, {
    token,
  })
  expect(errors).toEqual([])
  return data.auditLog.nodes
}
const personalOf = async (id: string, token = a.token, args = `(filter: { target: "${id}" })`): Promise<Loose[]> =>
  (await log(token, args)).filter(({ target }) => target === id).map(({ personal }) => personal)
const verify = (tenantId: string) => verifyAudit(plane.ports.db, { tenantId, side: 'api' })

test('personal details are readable by the people of the tenant, and stand nowhere in the log', async () => {
  const id = await create()
  await mutate('updateUser', 'UpdateUserInput', { id, lastName: 'Canarova' }, a.token)
  expect(await personalOf(id)).toEqual([{ lastName: 'Canarova', lastNameBefore: person.lastName }, person])
  const dump = await dumpOf(plane.ports.db)
  const logged = dump.split('\n').filter((line) => /^\([^,]*,aud_/.test(line))
  expect(logged.length).toBeGreaterThan(2)
  expect(logged.join()).not.toMatch(/canar/i)
  expect(await verify(a.id)).toMatchObject({ broken: undefined })
  await mutate('deleteUser', 'UserInput', { id }, a.token)
})

test('a deleted person leaves nothing in a dump, keys included, and the log stays good', async () => {
  const id = await create()
  await mutate('updateUser', 'UpdateUserInput', { id, email: 'canary-two@acme.example' }, a.token)
  expect(await dumpOf(plane.ports.db)).toMatch(/canary-two@/)
  const before = await verify(a.id)
  await mutate('deleteUser', 'UserInput', { id }, a.token)
  expect(await dumpOf(plane.ports.db)).not.toMatch(/canar/i)
  expect(await personalOf(id)).toEqual([null, null, null])
  expect((await log(a.token, `(filter: { target: "${id}" })`)).map(({ subject }) => subject)).toEqual([null, id, id])
  expect(await verify(a.id)).toMatchObject({ broken: undefined, rows: before.rows + 1 })
})

test('nothing personal of an erased subject is logged again', async () => {
  const id = await create()
  await mutate('deleteUser', 'UserInput', { id }, a.token)
  await withTenant(plane.ports.db, { tenantId: a.id, side: 'api' }, (tx) =>
    audit(
      tx,
      { tenantId: a.id, actor: 'x', action: 'user.seen', target: id, subject: id, personal: { ip: 'canary-ip' } },
      plane.ports.secrets,
    ),
  )
  expect((await personalOf(id))[0]).toBeNull()
  expect(await dumpOf(plane.ports.db)).not.toMatch(/canar/i)
  expect(await verify(a.id)).toMatchObject({ broken: undefined })
})

test('who may not read people, support and auditors do not see personal details', async () => {
  const id = await create()
  const steward = await plane.key(a.id, { scopes: ['audit:read'] })
  expect(await personalOf(id, steward)).toEqual([null])
  const auditor = await plane.key('platform', { scopes: ['platform:audit', 'audit:read', 'users:read'] })
  expect(await personalOf(id, auditor, `(tenantId: "${a.id}", filter: { target: "${id}" })`)).toEqual([null])
  const exported = await plane.app.fetch(
    new Request('http://edge.example/v1/audit.ndjson', { headers: { authorization: `Bearer ${a.token}` } }),
  )
  const text = await exported.text()
  expect(text).toContain(id)
  expect(text).not.toMatch(/canar/i)
  await mutate('deleteUser', 'UserInput', { id }, a.token)
})

test('personal details that were copied into another entry do not open, and the chain tells', async () => {
  const b = await plane.tenant()
  const ids = [await create(b.token), await create(b.token, { ...input, email: 'canary-b@acme.example' })]
  const created = sql`tenant_id = ${b.id} and action = 'user.created'`
  await tamper(
    plane.ports.db,
    sql`update app.audit_event e set personal = o.personal, subject = o.subject from app.audit_event o
        where e.tenant_id = ${b.id} and e.target = ${ids[0]} and e.action = 'user.created'
          and o.tenant_id = ${b.id} and o.target = ${ids[1]} and o.action = 'user.created'`,
  )
  expect((await verify(b.id)).broken).toEqual({ seq: 1, reason: 'CHANGED' })
  const { errors } = await plane.query(`{ auditLog(filter: { target: "${ids[0]}" }) { nodes { personal } } }`, b)
  expect(errors[0]?.extensions.code).toBe('SECRET_UNREADABLE')
  await tamper(plane.ports.db, sql`update app.audit_event set personal = null where ${created}`)
  expect((await verify(b.id)).broken).toEqual({ seq: 1, reason: 'CHANGED' })
})

test('a rotation of the tenant’s data key keeps personal details readable', async () => {
  const c = await plane.tenant()
  const id = await create(c.token)
  await mutate('rotateTenantKey', 'RotateTenantKeyInput', { tenantId: c.id }, plane.platformToken)
  expect(await personalOf(id, c.token)).toEqual([person])
  expect(await dumpOf(plane.ports.db)).toMatch(new RegExp(`\\(${c.id},1,k1,[^,]*,destroyed`))
})

test('an offboarded tenant’s personal details open with nothing any more, and its log is good', async () => {
  await using _worker = smallWorker(plane.ports)
  const d = await plane.tenant()
  await create(d.token)
  await mutate('offboardTenant', 'OffboardTenantInput', { tenantId: d.id }, plane.platformToken)
  const keys = (await dumpOf(plane.ports.db)).split('\n').filter((line) => line.startsWith(`(${d.id},usr_`))
  expect(keys.some((line) => line.includes('"ct"'))).toBe(false)
  expect(await verify(d.id)).toMatchObject({ broken: undefined })
})
