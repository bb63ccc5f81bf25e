import { sql } from 'drizzle-orm'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { roleScopes, type TenantRole, tenantRoles } from '../../schema/roles.ts'
import { rowsOf } from '../../shared/db/db.ts'
import { claimOutbox } from '../../shared/runs/ledger.ts'
import { type Answer, type ControlPlane, controlPlane, type Loose } from '../support/control-plane.ts'

let plane: ControlPlane
let a: { id: string; token: string }
beforeAll(async () => {
  plane = await controlPlane()
  a = await plane.tenant()
})
afterAll(() => plane[Symbol.asyncDispose]())

const shown =
  'id email username firstName lastName status roles permissions { canViewJobs canCreateJobs canViewReports canExportData }'
const mutate = (name: string, input: object, token = a.token): Promise<Answer> => {
  const type = ['activateUser', 'deactivateUser', 'deleteUser'].includes(name)
    ? 'UserInput'
    : `${name.charAt(0).toUpperCase()}${name.slice(1)}Input`
  return plane.query(
    `mutation ($input: ${type}!) { ${name}(input: $input) { user { ${shown} } errors { code message hint path } } }`,
    { token, variables: { input } },
  )
}
// The person after a change that must not be refused.
const person = async (name: string, input: object, token?: string): Promise<Loose> => {
  const answer = await mutate(name, input, token)
  expect(answer.errors).toEqual([])
  expect(answer.data[name].errors).toEqual([])
  return answer.data[name].user
}
// The refusal of a change that must be.
const refusal = async (name: string, input: object, token?: string): Promise<string> => {
  const answer = await mutate(name, input, token)
  return answer.errors[0]?.extensions.code ?? answer.data[name].errors[0]?.code
}
const everything = async (): Promise<string> => {
  const tables = await rowsOf<{ name: string }>(
    plane.ports.db,
    sql`select table_name as name from information_schema.tables where table_schema = 'app' and table_type = 'BASE TABLE'`,
  )
  const dumps = await Promise.all(
    tables.map(({ name }) =>
      rowsOf(plane.ports.db, sql`select to_jsonb(t)::text as row from app.${sql.identifier(name)} t`),
    ),
  )
  return JSON.stringify(dumps)
}
const configure = (tenantId: string, userManagement: object) =>
  plane.ports.db.execute(
    sql`update app.tenant set configuration = jsonb_set(configuration, '{userManagement}', configuration -> 'userManagement' || ${JSON.stringify(userManagement)}::jsonb) where id = ${tenantId}`,
  )

test('a person is made, found, listed, changed, deactivated, activated and erased, each with its audit row', async () => {
  const b = await plane.tenant()
  const made = await person(
    'createUser',
    { email: 'john.doe@acme.example', username: 'john.doe', firstName: 'John', lastName: 'Doe', role: 'POWER_USER' },
    b.token,
  )
  expect(made).toMatchObject({
    email: 'john.doe@acme.example',
    status: 'invited',
    roles: ['POWER_USER'],
    permissions: { canViewJobs: false, canCreateJobs: false, canViewReports: false, canExportData: false },
  })
  const { id } = made
  const found = await plane.query(`{ user(id: "${id}") { ${shown} } users { nodes { id } } }`, b)
  expect(found.data).toEqual({ user: made, users: { nodes: [{ id }] } })
  expect(await person('activateUser', { id }, b.token)).toMatchObject({
    status: 'active',
    permissions: { canViewJobs: true, canCreateJobs: true, canViewReports: true, canExportData: true },
  })
  expect(await person('updateUser', { id, lastName: 'Roe', email: 'roe@acme.example' }, b.token)).toMatchObject({
    email: 'roe@acme.example',
    firstName: 'John',
    lastName: 'Roe',
  })
  expect(await person('changeUserRole', { id, role: 'DATA_ANALYST' }, b.token)).toMatchObject({
    roles: ['DATA_ANALYST'],
    permissions: { canViewJobs: true, canCreateJobs: false, canExportData: false },
  })
  expect(await person('deactivateUser', { id }, b.token)).toMatchObject({
    status: 'deactivated',
    roles: ['DATA_ANALYST'],
    permissions: { canViewJobs: false, canViewReports: false },
  })
  expect(await person('activateUser', { id }, b.token)).toMatchObject({
    status: 'active',
    permissions: { canViewJobs: true },
  })
  const erased = { id, email: '', username: '', firstName: '', lastName: '', status: 'deleted', roles: [] }
  expect(await person('deleteUser', { id }, b.token)).toMatchObject(erased)
  const after = await plane.query(`{ user(id: "${id}") { ${shown} } users { nodes { id } } }`, b)
  expect(after.data).toMatchObject({ user: erased, users: { nodes: [] } })
  const log = await plane.query(`{ auditLog(filter: { target: "${id}" }) { nodes { action details } } }`, b)
  expect(log.data.auditLog.nodes.toReversed()).toEqual([
    { action: 'user.created', details: { role: 'POWER_USER', isWelcomed: false } },
    { action: 'user.activated', details: { from: 'invited' } },
    { action: 'user.updated', details: { fields: ['email', 'lastName'] } },
    { action: 'user.role_changed', details: { from: ['POWER_USER'], to: 'DATA_ANALYST' } },
    { action: 'user.deactivated', details: { from: 'active' } },
    { action: 'user.activated', details: { from: 'deactivated' } },
    { action: 'user.deleted', details: { roles: ['DATA_ANALYST'] } },
  ])
})

test('a repeat changes nothing and writes no audit row', async () => {
  const { id } = await person('createUser', { email: 'again@x.example', role: 'DATA_ANALYST' })
  const rows = async (): Promise<number> =>
    (await plane.query(`{ auditLog(filter: { target: "${id}" }) { nodes { id } } }`, a)).data.auditLog.nodes.length
  const repeats: [string, object][] = [
    ['updateUser', { id, firstName: 'A' }],
    ['changeUserRole', { id, role: 'DATA_STEWARD' }],
    ['deactivateUser', { id }],
    ['activateUser', { id }],
    ['deleteUser', { id }],
  ]
  for (const [name, input] of repeats) {
    const first = await person(name, input)
    const count = await rows()
    expect(await person(name, input)).toEqual(first)
    expect([name, await rows()]).toEqual([name, count])
  }
  for (const [name, input] of repeats.slice(0, 4))
    expect([name, await refusal(name, input)]).toEqual([name, 'CONFLICT'])
})

test('what was personal of an erased person stands in no row, and the address is free again', async () => {
  const b = await plane.tenant()
  await configure(b.id, { welcomeMail: true })
  const input = {
    email: 'canary-4711@x.example',
    username: 'canary-4711',
    firstName: 'canary-4711',
    lastName: 'canary-4711',
  }
  const { id } = await person('createUser', input, b.token)
  expect(await everything()).toContain('canary-4711')
  await person('updateUser', { id, firstName: 'other-canary-4711' }, b.token)
  await person('deleteUser', { id }, b.token)
  expect(await everything()).not.toContain('canary-4711')
  expect((await person('createUser', input, b.token)).id).not.toBe(id)
})

test('an address belongs to one person of a tenant, in whatever case, and to another in another tenant', async () => {
  await person('createUser', { email: 'one@x.example' })
  const { id } = await person('createUser', { email: 'two@x.example' })
  expect((await mutate('createUser', { email: 'ONE@x.example' })).data.createUser).toMatchObject({
    user: null,
    errors: [{ code: 'ALREADY_EXISTS', path: ['email'] }],
  })
  expect(await refusal('updateUser', { id, email: 'One@x.example' })).toBe('ALREADY_EXISTS')
  expect((await person('updateUser', { id, email: 'TWO@x.example' })).email).toBe('TWO@x.example')
  const b = await plane.tenant()
  await person('createUser', { email: 'one@x.example' }, b.token)
})

describe('the last active administrator stays', () => {
  const removals: [string, (id: string) => object][] = [
    ['deactivateUser', (id) => ({ id })],
    ['deleteUser', (id) => ({ id })],
    ['changeUserRole', (id) => ({ id, role: 'DATA_ANALYST' })],
  ]
  test.each(removals)('%s', async (name, input) => {
    const { token } = await plane.tenant()
    const [first, second] = [
      await person('createUser', { email: 'first@x.example', role: 'TENANT_ADMIN' }, token),
      await person('createUser', { email: 'second@x.example', role: 'TENANT_ADMIN' }, token),
    ]
    await person('deactivateUser', { id: second.id }, token)
    expect(await refusal(name, input(first.id), token)).toBe('CONFLICT')
    expect((await plane.query(`{ user(id: "${first.id}") { status roles } }`, { token })).data.user).toEqual({
      status: 'invited',
      roles: ['TENANT_ADMIN'],
    })
    await person('activateUser', { id: second.id }, token)
    await person(name, input(first.id), token)
    expect(await refusal(name, input(second.id), token)).toBe('CONFLICT')
  })

  test.each(removals)('%s, when the others are only invited', async (name, input) => {
    const { token } = await plane.tenant()
    const [active, invited] = [
      await person('createUser', { email: 'active@x.example', role: 'TENANT_ADMIN' }, token),
      await person('createUser', { email: 'invited@x.example', role: 'TENANT_ADMIN' }, token),
    ]
    await person('activateUser', { id: active.id }, token)
    expect(await refusal(name, input(active.id), token)).toBe('CONFLICT')
    await person(name, input(invited.id), token)
    expect(await refusal(name, input(active.id), token)).toBe('CONFLICT')
  })

  test('of two that are removed at once', async () => {
    const { token } = await plane.tenant()
    const ids = await Promise.all(
      ['p@x.example', 'q@x.example'].map((email) => person('createUser', { email, role: 'TENANT_ADMIN' }, token)),
    )
    const codes = await Promise.all(ids.map(({ id }) => refusal('deleteUser', { id }, token)))
    expect(codes.filter((code) => code === 'CONFLICT')).toHaveLength(1)
  })
})

test('a key gives no role, and changes no person, that may do more than itself', async () => {
  const b = await plane.tenant()
  const admin = await person('createUser', { email: 'admin@x.example', role: 'TENANT_ADMIN' }, b.token)
  const other = await person('createUser', { email: 'other@x.example', role: 'TENANT_ADMIN' }, b.token)
  const token = await plane.key(b.id, { scopes: ['users:read', 'users:write', ...roleScopes.DATA_STEWARD] })
  const may = (role: TenantRole): boolean => role === 'DATA_ANALYST' || role === 'DATA_STEWARD'
  for (const role of tenantRoles) {
    const code = await refusal('createUser', { email: `${role}@x.example`, role }, token)
    expect([role, code]).toEqual([role, may(role) ? undefined : 'FORBIDDEN'])
  }
  const analyst = await person('createUser', { email: 'n@x.example' }, token)
  expect(await refusal('changeUserRole', { id: analyst.id, role: 'TENANT_ADMIN' }, token)).toBe('FORBIDDEN')
  for (const [name, input] of [
    ['updateUser', { id: admin.id, email: 'mine@x.example' }],
    ['changeUserRole', { id: admin.id, role: 'DATA_ANALYST' }],
    ['deactivateUser', { id: admin.id }],
    ['deleteUser', { id: other.id }],
  ] as const)
    expect([name, await refusal(name, input, token)]).toEqual([name, 'FORBIDDEN'])
})

test('the welcome goes out once when the tenant wants it, and else not', async () => {
  const [silent, kind] = [await plane.tenant(), await plane.tenant()]
  await configure(kind.id, { welcomeMail: true, defaultRole: 'DATA_STEWARD' })
  await person('createUser', { email: 's@x.example' }, silent.token)
  const made = await person('createUser', { email: 'k@x.example', firstName: 'Kim' }, kind.token)
  expect(made.roles).toEqual(['DATA_STEWARD'])
  expect(await refusal('createUser', { email: 'k@x.example' }, kind.token)).toBe('ALREADY_EXISTS')
  const due = (await claimOutbox(plane.ports.db, 100, 60_000)).filter(({ tenantId }) =>
    [silent.id, kind.id].includes(tenantId),
  )
  expect(due).toHaveLength(1)
  expect(due[0]).toMatchObject({
    tenantId: kind.id,
    kind: 'email',
    payload: { to: ['k@x.example'], text: expect.stringContaining('Hello Kim') },
  })
})

test('unusable input is refused by field, without its value', async () => {
  const cases: [object, string][] = [
    [{ email: 'canary-99' }, 'email'],
    [{ email: `${'x'.repeat(250)}@x.example` }, 'email'],
    [{ email: 'u@x.example', username: '' }, 'username'],
    [{ email: 'u@x.example', firstName: 'canary-99\r\nBcc: all@x.example' }, 'firstName'],
    [{ email: 'u@x.example', lastName: 'canary-99'.repeat(20) }, 'lastName'],
  ]
  for (const [input, field] of cases) {
    const answer = await mutate('createUser', input)
    expect(answer.data.createUser.errors).toMatchObject([{ code: 'BAD_INPUT', path: [field] }])
    expect(answer.text).not.toContain('canary-99')
  }
})

test('a person of another tenant and a missing one give the same answer, byte by byte', async () => {
  const b = await plane.tenant()
  const { id } = await person('createUser', { email: 'b@x.example' }, b.token)
  const missing = `usr_${'0'.repeat(32)}`
  const bare = ({ text }: Answer): string => text.replaceAll(/req_[0-9a-f]+/g, 'req')
  const asks: ((of: string) => Promise<Answer>)[] = [
    (of) => plane.query(`{ user(id: "${of}") { id } }`, a),
    (of) => mutate('updateUser', { id: of, firstName: 'X' }),
    (of) => mutate('changeUserRole', { id: of, role: 'DATA_ANALYST' }),
    (of) => mutate('activateUser', { id: of }),
    (of) => mutate('deactivateUser', { id: of }),
    (of) => mutate('deleteUser', { id: of }),
  ]
  for (const ask of asks) {
    expect(bare(await ask(id))).toBe(bare(await ask(missing)))
    expect((await ask(id)).text).toContain('NOT_FOUND')
  }
  expect((await plane.query(`{ user(id: "${id}") { email status } }`, b)).data.user).toEqual({
    email: 'b@x.example',
    status: 'invited',
  })
})
