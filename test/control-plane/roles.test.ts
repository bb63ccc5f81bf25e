import { readFile } from 'node:fs/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { schema } from '../../control-plane/graphql/schema.ts'
import { platformTenantId, type Role, roleScopes, systemRoles, tenantRoles, tenantScopes } from '../../schema/roles.ts'
import { isOpenTo, roles, rolesPage, rootFields } from '../../scripts/roles-page.ts'
import { type ControlPlane, controlPlane } from '../support/control-plane.ts'
import { codesOf, rootDocuments } from '../support/documents.ts'

let plane: ControlPlane
let a: { id: string; token: string }
const tokens = new Map<Role, string>()
const people = new Map<Role, string>()
beforeAll(async () => {
  plane = await controlPlane()
  a = await plane.tenant()
  for (const role of roles) {
    tokens.set(role, await keyFor(role))
    people.set(role, (await plane.person(homeOf(role), role)).userId)
  }
})
afterAll(() => plane[Symbol.asyncDispose]())

const homeOf = (role: Role): string => (tenantRoles.some((name) => name === role) ? a.id : platformTenantId)

// As an operator makes it: by the name of the role.
async function keyFor(role: Role): Promise<string> {
  const { data } = await plane.query(
    `mutation ($input: CreateApiKeyInput!) { createApiKey(input: $input) { token errors { message } } }`,
    {
      token: plane.platformToken,
      variables: { input: { tenantId: homeOf(role), name: role, role } },
    },
  )
  expect(data.createApiKey.errors).toEqual([])
  return data.createApiKey.token
}
const tokenOf = (role: Role): string => tokens.get(role) ?? ''

describe('each role gets exactly what the table says', () => {
  const fields = rootFields(schema)
  const cases = roles.flatMap((role) => rootDocuments.map((field) => ({ role, field, name: field.name })))
  test.each(cases)('$role $name', async ({ role, field }) => {
    const rule = fields.find(({ operation, name }) => operation === field.operation && name === field.name)
    if (!rule) throw new Error('a field without a rule')
    const codes = await codesOf(plane, field, tokenOf(role))
    expect(codes.includes('FORBIDDEN')).toBe(!isOpenTo(role, rule))
    // A person of the role as much as a key; in a session of its own, since one of the fields ends it.
    const session = await plane.session(homeOf(role), people.get(role) ?? '')
    const codesOfPerson = await codesOf(plane, field, session)
    expect(codesOfPerson.includes('FORBIDDEN')).toBe(!isOpenTo(role, rule))
  })
})

test('the page of roles is what the table says', async () => {
  expect(await readFile(new URL('../../docs/roles.md', import.meta.url), 'utf8')).toBe(rolesPage(schema))
})

test('no role of a tenant stands above tenants, and only its administrator keeps people and keys', () => {
  for (const role of tenantRoles) {
    expect(roleScopes[role].filter((scope) => !tenantScopes.includes(scope))).toEqual([])
    const keeps = roleScopes[role].some((scope) => scope === 'users:write' || scope === 'keys:write')
    expect([role, keeps]).toEqual([role, role === 'TENANT_ADMIN'])
  }
})

test('support and auditors can change nothing but their own sessions', () => {
  const changes = rootFields(schema).filter(({ operation, scopes }) => operation === 'mutation' && scopes.length > 0)
  for (const role of ['SUPPORT', 'AUDITOR'] as const)
    expect(changes.filter((field) => isOpenTo(role, field)).map(({ name }) => name)).toEqual([])
})

test('support reads any tenant that it names, and no log', async () => {
  const token = tokenOf('SUPPORT')
  const read = await plane.query(`{ tenant(id: "${a.id}") { id users { nodes { id } } apiKeys { nodes { name } } } }`, {
    token,
  })
  expect(read.errors).toEqual([])
  expect(read.data.tenant.id).toBe(a.id)
  const log = await plane.query(`{ auditLog(tenantId: "${a.id}") { nodes { id } } }`, { token })
  expect(log.errors[0]?.extensions.code).toBe('FORBIDDEN')
})

test('an auditor reads the log of any tenant that it names, and not its profile', async () => {
  const token = tokenOf('AUDITOR')
  const log = await plane.query(
    `{ auditLog(tenantId: "${a.id}", filter: { action: "api_key.created" }) { nodes { action } } }`,
    { token },
  )
  expect(log.errors).toEqual([])
  expect(log.data.auditLog.nodes).toContainEqual({ action: 'api_key.created' })
  const profile = await plane.query(`{ tenant(id: "${a.id}") { id } }`, { token })
  expect(profile.errors[0]?.extensions.code).toBe('FORBIDDEN')
  const none = await plane.query('{ auditLog(tenantId: "no_such_tenant") { nodes { id } } }', { token })
  expect(none.errors[0]?.extensions.code).toBe('NOT_FOUND')
})

test('a tenant reads no log but its own, and learns not whose there are', async () => {
  const b = await plane.tenant()
  const ask = async (id: string): Promise<string> =>
    (await plane.query(`{ auditLog(tenantId: "${id}") { nodes { id } } }`, a)).text.replaceAll(/req_[0-9a-f]+/g, 'req')
  expect(await ask(b.id)).toBe(await ask('no_such_tenant'))
  expect(await ask(b.id)).toContain('NOT_FOUND')
  expect(await ask(a.id)).not.toContain('NOT_FOUND')
})

test('a key of a tenant cannot be made for a role of the platform', async () => {
  for (const role of systemRoles) {
    const { data } = await plane.query(
      `mutation { createApiKey(input: { tenantId: "${a.id}", name: "x", role: ${role} }) { token errors { code } } }`,
      { token: plane.platformToken },
    )
    expect(data.createApiKey).toEqual({ token: null, errors: [{ code: 'BAD_INPUT' }] })
  }
})
