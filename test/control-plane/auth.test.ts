import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { makeApiKey } from '../../shared/secrets/api-key.ts'
import { rowsOf, withTenant } from '../../shared/db/db.ts'
import { sql } from 'drizzle-orm'
import { tenantScopes } from '../../schema/roles.ts'
import { type ControlPlane, controlPlane, until } from '../support/control-plane.ts'

let plane: ControlPlane
let a: { id: string; token: string }
beforeAll(async () => {
  plane = await controlPlane()
  a = await plane.tenant()
})
afterAll(() => plane[Symbol.asyncDispose]())

const viewer = '{ viewer { tenantId scopes actor tenant { id } } }'

test('a key is accepted in either header and says whom it stands for', async () => {
  const answer = await plane.query(viewer, { token: a.token })
  expect(answer.errors).toEqual([])
  expect(answer.data.viewer).toMatchObject({ tenantId: a.id, tenant: { id: a.id } })
  expect(answer.data.viewer.scopes).toHaveLength(tenantScopes.length)
  const other = await plane.app.fetch(
    new Request('http://edge.example/graphql', {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'x-api-key': a.token },
      body: JSON.stringify({ query: '{ viewer { tenantId } }' }),
    }),
  )
  expect(await other.json()).toMatchObject({ data: { viewer: { tenantId: a.id } } })
})

describe('every way of having no valid key gives the same refusal', () => {
  const cases: [string, () => Promise<string>][] = [
    ['malformed', async () => 'not-a-key'],
    ['unknown', async () => (await makeApiKey()).token],
    ['wrong secret', async () => a.token.replace(/.$/, (last) => (last === '0' ? '1' : '0'))],
    ['revoked', () => plane.key(a.id, { revokedAt: new Date(0) })],
    ['expired', () => plane.key(a.id, { expiresAt: new Date(Date.now() - 1000) })],
  ]
  test.each(cases)('%s', async (_name, token) => {
    const answer = await plane.query(viewer, { token: await token() })
    expect(answer.status).toBe(401)
    expect(answer.errors).toEqual([
      {
        message: 'This key or token is not valid.',
        extensions: { code: 'UNAUTHENTICATED', hint: expect.any(String), requestId: expect.stringMatching(/^req_/) },
      },
    ])
  })
})

test('without a key nothing is said, not even whether a field exists', async () => {
  const [known, unknown, broken] = await Promise.all(
    ['{ viewer { keyId } }', '{ noSuchField }', '{{{'].map((document) => plane.query(document)),
  )
  for (const answer of [known, unknown, broken]) {
    expect(answer?.status).toBe(401)
    expect(answer?.errors[0]?.message).toBe('This request carries no key or token.')
  }
})

test('a key that expires later is accepted until then', async () => {
  const token = await plane.key(a.id, { expiresAt: new Date(Date.now() + 60_000) })
  expect((await plane.query(viewer, { token })).errors).toEqual([])
})

test('a good key of a tenant that is not active is told so', async () => {
  const b = await plane.tenant()
  await plane.ports.db.execute(sql`update app.tenant set status = 'provisioning' where id = ${b.id}`)
  expect((await plane.query(viewer, { token: b.token })).errors[0]?.extensions.code).toBe('TENANT_NOT_ACTIVE')
  await plane.ports.db.execute(sql`update app.tenant set status = 'offboarded' where id = ${b.id}`)
  expect((await plane.query(viewer, { token: b.token })).errors[0]?.extensions.code).toBe('UNAUTHENTICATED')
})

test('the use of a key is noted at most once a minute', async () => {
  const b = await plane.tenant()
  const lastUsed = async (): Promise<unknown> => {
    const [row] = await withTenant(plane.ports.db, { tenantId: b.id, side: 'api' }, (tx) =>
      rowsOf<{ at: string | null }>(tx, sql`select last_used_at::text as at from app.api_key`),
    )
    return row?.at
  }
  expect(await lastUsed()).toBeNull()
  await plane.query(viewer, { token: b.token })
  await until('the use is noted', async () => (await lastUsed()) !== null)
  const first = await lastUsed()
  // Another process has no memory of the first use: the row itself refuses the second.
  await plane.query(viewer, { token: b.token, app: plane.appWith({}) })
  await plane.query(viewer, { token: b.token })
  expect(await lastUsed()).toBe(first)
})

test('in development a missing key is refused field by field', async () => {
  const answer = await plane.query('{ __typename viewer { keyId } }', { app: plane.appWith({ development: true }) })
  expect(answer.errors[0]).toMatchObject({ path: ['viewer'], extensions: { code: 'UNAUTHENTICATED' } })
})
