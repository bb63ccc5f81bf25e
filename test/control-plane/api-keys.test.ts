import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { platformTenantId, tenantScopes } from '../../schema/roles.ts'
import type { Clock } from '../../shared/clock.ts'
import { systemClock } from '../../shared/clock.ts'
import { type Answer, type ControlPlane, controlPlane, type Loose } from '../support/control-plane.ts'

let plane: ControlPlane
let a: { id: string; token: string }
beforeAll(async () => {
  plane = await controlPlane()
  a = await plane.tenant()
})
afterAll(() => plane[Symbol.asyncDispose]())

const key = 'id name scopes createdBy expiresAt revokedAt replacedBy'
const payloads = {
  createApiKey: `token apiKey { ${key} }`,
  rotateApiKey: `token apiKey { ${key} } replaced { ${key} }`,
  revokeApiKey: `apiKey { ${key} }`,
}
type Change = keyof typeof payloads
type By = Parameters<ControlPlane['query']>[1]
const mutate = (name: Change, input: object, by: By = a): Promise<Answer> =>
  plane.query(
    `mutation ($input: ${name.charAt(0).toUpperCase()}${name.slice(1)}Input!) { ${name}(input: $input) { ${payloads[name]} errors { code message hint path } } }`,
    { ...by, variables: { input } },
  )
const done = async (name: Change, input: object, by?: By): Promise<Loose> => {
  const answer = await mutate(name, input, by)
  expect(answer.errors).toEqual([])
  expect(answer.data[name].errors).toEqual([])
  return answer.data[name]
}
const refusal = async (name: Change, input: object, by?: By): Promise<string> => {
  const answer = await mutate(name, input, by)
  return answer.errors[0]?.extensions.code ?? answer.data[name].errors[0]?.code
}
const status = async (token: string, app = plane.app): Promise<number> =>
  (await plane.query('{ viewer { keyId } }', { token, app })).status
const upper = (scopes: readonly string[]): string[] => scopes.map((scope) => scope.toUpperCase().replace(':', '_'))

test('a tenant makes, lists and revokes its own keys, and a revoked one is refused at once', async () => {
  const made = await done('createApiKey', { name: 'loader', scopes: ['RUNS_READ', 'RUNS_WRITE'] })
  expect(made.apiKey).toMatchObject({ name: 'loader', scopes: ['RUNS_READ', 'RUNS_WRITE'], expiresAt: null })
  expect(made.token.startsWith(`${made.apiKey.id}.`)).toBe(true)
  expect(await status(made.token)).toBe(200)
  const listed = await plane.query(`{ apiKeys(first: 100) { nodes { ${key} } } }`, a)
  expect(listed.data.apiKeys.nodes).toContainEqual(made.apiKey)
  expect(listed.text).not.toContain(made.token)
  const revoked = await done('revokeApiKey', { id: made.apiKey.id })
  expect(await status(made.token)).toBe(401)
  expect(await done('revokeApiKey', { id: made.apiKey.id })).toEqual(revoked)
})

describe('no key gives more than it has', () => {
  test('scopes', async () => {
    const token = await plane.key(a.id, { scopes: ['keys:write', 'runs:read', 'runs:write'] })
    expect(await refusal('createApiKey', { name: 'x', scopes: ['RUNS_READ', 'AUDIT_READ'] }, { token })).toBe(
      'FORBIDDEN',
    )
    expect(await refusal('createApiKey', { name: 'x', scopes: ['PLATFORM_ADMIN'] }, { token })).toBe('FORBIDDEN')
    expect(await refusal('createApiKey', { name: 'x', role: 'DATA_ENGINEER' }, { token })).toBe('FORBIDDEN')
    const all = await done('createApiKey', { name: 'x' }, { token })
    expect(all.apiKey.scopes).toEqual(['KEYS_WRITE', 'RUNS_READ', 'RUNS_WRITE'])
  })

  test('nor by taking the place of one that has more', async () => {
    const token = await plane.key(a.id, { scopes: ['keys:write', 'runs:read'] })
    const { apiKey, token: strong } = await done('createApiKey', { name: 'strong' })
    expect(apiKey.scopes).toEqual(upper(tenantScopes))
    expect(await refusal('rotateApiKey', { id: apiKey.id }, { token })).toBe('FORBIDDEN')
    expect(await status(strong)).toBe(200)
  })

  test('time', async () => {
    const end = new Date(Date.now() + 60_000)
    const token = await plane.key(a.id, { expiresAt: end })
    const { apiKey } = await done('createApiKey', { name: 'x' }, { token })
    expect(apiKey.expiresAt).toBe(end.toISOString())
    const late = new Date(end.getTime() + 1000).toISOString()
    expect((await done('createApiKey', { name: 'x', expiresAt: late }, { token })).apiKey.expiresAt).toBe(
      end.toISOString(),
    )
    expect((await done('rotateApiKey', { id: apiKey.id, expiresAt: late }, { token })).apiKey.expiresAt).toBe(
      end.toISOString(),
    )
  })

  test('a key without keys:write changes none, not even itself', async () => {
    const scopes = tenantScopes.filter((scope) => scope !== 'keys:write')
    const token = await plane.key(a.id, { scopes })
    const [id = ''] = token.split('.')
    expect(await refusal('createApiKey', { name: 'x' }, { token })).toBe('FORBIDDEN')
    expect(await refusal('rotateApiKey', { id }, { token })).toBe('FORBIDDEN')
    expect(await refusal('revokeApiKey', { id }, { token })).toBe('FORBIDDEN')
  })
})

describe('a rotated key', () => {
  const start = Date.now()
  let now = start
  const clock: Clock = { ...systemClock, now: () => new Date(now) }
  const by = (): By & { app: ControlPlane['app'] } => ({ ...a, app: plane.appWith({}, { clock }) })

  test('is good for the overlap and refused after it, and the new one has its name and scopes', async () => {
    const old = await done('createApiKey', { name: 'nightly', scopes: ['RUNS_READ'] })
    const { app } = by()
    const made = await done('rotateApiKey', { id: old.apiKey.id, overlapSeconds: 60 }, { ...a, app })
    expect(made.apiKey).toMatchObject({ name: 'nightly', scopes: ['RUNS_READ'], expiresAt: null, replacedBy: null })
    expect(made.replaced).toMatchObject({
      id: old.apiKey.id,
      replacedBy: made.apiKey.id,
      expiresAt: new Date(start + 60_000).toISOString(),
      revokedAt: null,
    })
    now = start + 59_999
    expect([await status(old.token, app), await status(made.token, app)]).toEqual([200, 200])
    now = start + 60_000
    expect([await status(old.token, app), await status(made.token, app)]).toEqual([401, 200])
    now = start
    const log = await plane.query(
      `{ auditLog(filter: { target: "${old.apiKey.id}" }) { nodes { action details } } }`,
      a,
    )
    expect(log.data.auditLog.nodes[0]).toEqual({
      action: 'api_key.rotated',
      details: { replacedBy: made.apiKey.id, overlapSeconds: 60 },
    })
  })

  test('is refused at once without an overlap', async () => {
    const old = await done('createApiKey', { name: 'x' })
    const made = await done('rotateApiKey', { id: old.apiKey.id })
    expect(made.replaced.revokedAt).not.toBeNull()
    expect([await status(old.token), await status(made.token)]).toEqual([401, 200])
  })

  test('is good no longer than it was', async () => {
    const end = new Date(start + 30_000).toISOString()
    const old = await done('createApiKey', { name: 'x', expiresAt: end }, by())
    const made = await done('rotateApiKey', { id: old.apiKey.id, overlapSeconds: 86_400 }, by())
    expect([made.replaced.expiresAt, made.apiKey.expiresAt]).toEqual([end, end])
  })

  test('is replaced once, even by two at once', async () => {
    const old = await done('createApiKey', { name: 'x' })
    const input = { id: old.apiKey.id, overlapSeconds: 60 }
    const codes = await Promise.all([refusal('rotateApiKey', input), refusal('rotateApiKey', input)])
    expect(codes.toSorted()).toEqual(['CONFLICT', undefined])
    await done('revokeApiKey', { id: old.apiKey.id })
    expect(await status(old.token)).toBe(401)
    expect(await refusal('rotateApiKey', input)).toBe('CONFLICT')
  })

  test('has an overlap of 0 to 86,400 seconds', async () => {
    const { apiKey } = await done('createApiKey', { name: 'x' })
    for (const overlapSeconds of [-1, 86_401])
      expect(await refusal('rotateApiKey', { id: apiKey.id, overlapSeconds })).toBe('BAD_INPUT')
    await done('rotateApiKey', { id: apiKey.id, overlapSeconds: 86_400 })
  })
})

test('a foreign key and a missing one, a foreign tenant and a missing one give the same answer, byte by byte', async () => {
  const b = await plane.tenant()
  const [foreign = ''] = b.token.split('.')
  const missing = `key_${'0'.repeat(32)}`
  const bare = ({ text }: Answer): string => text.replaceAll(/req_[0-9a-f]+/g, 'req')
  for (const name of ['rotateApiKey', 'revokeApiKey'] as const) {
    expect(bare(await mutate(name, { id: foreign }))).toBe(bare(await mutate(name, { id: missing })))
    expect(await refusal(name, { id: foreign })).toBe('NOT_FOUND')
  }
  for (const name of ['createApiKey', 'rotateApiKey', 'revokeApiKey'] as const) {
    const ask = (tenantId: string): Promise<Answer> =>
      mutate(name, name === 'createApiKey' ? { tenantId, name: 'x' } : { tenantId, id: foreign })
    expect(bare(await ask(b.id))).toBe(bare(await ask('no_such_tenant')))
    expect((await ask(b.id)).errors[0]?.extensions.code).toBe('FORBIDDEN')
  }
  expect(await status(b.token)).toBe(200)
})

test('the platform keeps its power over the keys of every tenant', async () => {
  const platform = { token: plane.platformToken }
  const made = await done('createApiKey', { tenantId: a.id, name: 'by the platform' }, platform)
  expect(made.apiKey.scopes).toEqual(upper(tenantScopes))
  const next = await done('rotateApiKey', { tenantId: a.id, id: made.apiKey.id }, platform)
  await done('revokeApiKey', { tenantId: a.id, id: next.apiKey.id }, platform)
  expect([await status(made.token), await status(next.token)]).toEqual([401, 401])
  expect(await refusal('createApiKey', { tenantId: 'no_such_tenant', name: 'x' }, platform)).toBe('NOT_FOUND')
})

test('what a key of the platform may do is always said', async () => {
  const platform = { token: plane.platformToken }
  expect(await refusal('createApiKey', { name: 'x' }, platform)).toBe('BAD_INPUT')
  const both = { name: 'x', role: 'SUPPORT', scopes: ['PLATFORM_READ'] }
  expect(await refusal('createApiKey', both, platform)).toBe('BAD_INPUT')
  const { apiKey } = await done('createApiKey', { tenantId: platformTenantId, name: 'x', role: 'SUPPORT' }, platform)
  expect(apiKey.scopes).toEqual(['PLATFORM_READ', 'TENANT_READ', 'USERS_READ', 'KEYS_READ'])
  expect(await refusal('createApiKey', { name: 'x', scopes: ['RUNS_WRITE'] }, platform)).toBe('FORBIDDEN')
})
