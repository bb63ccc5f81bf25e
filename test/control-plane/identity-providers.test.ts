import { sql } from 'drizzle-orm'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { App } from '../../control-plane/app.ts'
import { rowsOf } from '../../shared/db/db.ts'
import { type Answer, type ControlPlane, controlPlane, type Loose } from '../support/control-plane.ts'
import { type TestProvider, testProvider } from '../support/oidc.ts'
import { movableClock, people } from '../support/people.ts'

let plane: ControlPlane
let provider: TestProvider
let a: { id: string; token: string }
const clock = movableClock()
let app: App
beforeAll(async () => {
  plane = await controlPlane()
  provider = await testProvider('client-a')
})
afterAll(async () => {
  await provider[Symbol.asyncDispose]()
  await plane[Symbol.asyncDispose]()
})
beforeEach(async () => {
  a = await plane.tenant()
  // An isolate of its own, which knows no keys yet.
  app = plane.appWith({ identity: { allowsLocalProviders: true } }, { clock })
})

const configure = (input: object = {}, token = a.token, other = app): Promise<Answer> =>
  plane.query(
    `mutation ($input: ConfigureIdentityProviderInput!) { configureIdentityProvider(input: $input) {
      provider { issuer audience roles { value role } emailDomains createsPeople defaultRole } errors { code message path } } }`,
    {
      token,
      app: other,
      variables: {
        input: {
          issuer: provider.issuer,
          audience: 'client-a',
          roleClaim: 'groups',
          roles: [
            { value: 'engineers', role: 'DATA_ENGINEER' },
            { value: 'analysts', role: 'DATA_ANALYST' },
          ],
          createsPeople: true,
          ...input,
        },
      },
    },
  )
const ada = { sub: 'ada', email: 'ada@acme.example', email_verified: true, groups: ['engineers', 'other'] }
const ask = (token: string, tenantId: string | undefined = a.id): Promise<Answer> =>
  plane.query('{ viewer { userId tenantId actor roles session { id } } }', {
    token,
    app,
    headers: tenantId === undefined ? {} : { 'x-tenant-id': tenantId },
  })
const viewer = async (token: string, tenantId?: string): Promise<Loose> => (await ask(token, tenantId)).data?.viewer
const statusOf = async (claims: object, tenantId?: string): Promise<number> =>
  (await ask(await provider.token({ ...ada, ...claims }), tenantId)).status
const actions = async (tenantId: string): Promise<string[]> =>
  (
    await rowsOf<{ action: string }>(
      plane.ports.db,
      sql`select action from app.audit_event where tenant_id = ${tenantId} order by seq`,
    )
  ).map(({ action }) => action)

describe('a token of the tenant’s provider', () => {
  test('stands for a person who is made at the first time, with the roles of the claim', async () => {
    expect((await configure()).data.configureIdentityProvider.errors).toEqual([])
    const first = await viewer(await provider.token(ada))
    expect(first).toMatchObject({ tenantId: a.id, roles: ['DATA_ENGINEER'], session: null })
    expect(first.actor).toBe(`user:${first.userId}`)
    expect((await viewer(await provider.token(ada))).userId).toBe(first.userId)
    const listed = await plane.query('{ users { nodes { id email status roles } } }', a)
    expect(listed.data.users.nodes).toEqual([
      { id: first.userId, email: 'ada@acme.example', status: 'active', roles: ['DATA_ENGINEER'] },
    ])
    expect(await actions(a.id)).toEqual(['identity_provider.created', 'user.created', 'user.identity_linked'])
  })

  test('changes the roles of the person with its claims', async () => {
    await configure()
    const { userId } = await viewer(await provider.token(ada))
    expect(await viewer(await provider.token({ ...ada, groups: ['analysts'] }))).toMatchObject({
      userId,
      roles: ['DATA_ANALYST'],
    })
    expect(await actions(a.id)).toContain('user.role_changed')
    expect(await statusOf({ groups: ['others'] })).toBe(401)
    expect(await statusOf({ groups: undefined })).toBe(401)
    await configure({ defaultRole: 'POWER_USER' })
    expect((await viewer(await provider.token({ ...ada, groups: ['others'] }))).roles).toEqual(['POWER_USER'])
  })

  test('finds its claim by a way of names, or by a name with dots', async () => {
    await configure({ roleClaim: 'realm_access.roles' })
    const nested = { ...ada, realm_access: { roles: ['analysts'] } }
    expect((await viewer(await provider.token(nested))).roles).toEqual(['DATA_ANALYST'])
    await configure({ roleClaim: 'https://acme.example/roles' })
    const dotted = { ...ada, 'https://acme.example/roles': 'engineers' }
    expect((await viewer(await provider.token(dotted))).roles).toEqual(['DATA_ENGINEER'])
    await configure({ roleClaim: 'constructor.name', roles: [{ value: 'Object', role: 'DATA_ANALYST' }] })
    expect(await statusOf({})).toBe(401)
  })

  test('stands for somebody invited by the same verified address, who is active then', async () => {
    await configure({ roleClaim: null, roles: [], createsPeople: false })
    expect(await statusOf({})).toBe(401)
    const { user } = await people(plane).done('createUser', { email: 'Ada@Acme.example', role: 'POWER_USER' }, a)
    for (const email_verified of [false, undefined, 'true'])
      expect([email_verified, await statusOf({ email_verified })]).toEqual([email_verified, 401])
    expect(await viewer(await provider.token(ada))).toMatchObject({ userId: user.id, roles: ['POWER_USER'] })
    // From then on the subject counts: an address may change.
    expect((await viewer(await provider.token({ ...ada, email: 'new@acme.example' }))).userId).toBe(user.id)
  })

  test('lets nobody in from another domain, or who is deactivated here', async () => {
    await configure({ emailDomains: ['acme.example'] })
    for (const email of [
      'ada@evil.example',
      'ada@acme.example.evil.example',
      'ada@evil.example@acme.example.',
      undefined,
    ])
      expect([email, await statusOf({ email })]).toEqual([email, 401])
    expect(await statusOf({ email: 'Ada@ACME.example' })).toBe(200)
    const { userId } = await viewer(await provider.token(ada))
    await people(plane).done('deactivateUser', { id: userId }, a)
    expect(await statusOf({})).toBe(401)
  })

  test('is refused after logout, and a newer one is not', async () => {
    await configure()
    const token = await provider.token({ ...ada, iat: Math.floor(Date.now() / 1000) - 5 })
    expect((await ask(token)).status).toBe(200)
    const { data } = await plane.query('mutation { logout(input: {}) { ended errors { code } } }', {
      token,
      app,
      headers: { 'x-tenant-id': a.id },
    })
    expect(data.logout).toEqual({ ended: 1, errors: [] })
    expect((await ask(token)).status).toBe(401)
    expect(await statusOf({ iat: Math.floor(Date.now() / 1000) + 2 })).toBe(200)
  })

  test('acts for no other tenant, though that one has the same issuer with another audience', async () => {
    await configure()
    const b = await plane.tenant()
    await configure({ audience: 'client-b' }, b.token)
    const forA = await provider.token(ada)
    const forB = await provider.token({ ...ada, aud: 'client-b' })
    expect([(await ask(forA)).status, (await ask(forB, b.id)).status]).toEqual([200, 200])
    expect([(await ask(forA, b.id)).status, (await ask(forB)).status]).toEqual([401, 401])
    const c = await plane.tenant()
    expect((await ask(forA, c.id)).status).toBe(401)
    for (const name of ['no_such_tenant', '', 'A', `${a.id} `.repeat(9)])
      expect((await ask(forA, name)).status).toBe(401)
    const bare = await plane.query('{ viewer { userId } }', { token: forA, app })
    expect(bare.status).toBe(401)
  })

  test('made for several audiences must name this client as its party', async () => {
    await configure()
    expect(await statusOf({ aud: ['client-a'] })).toBe(200)
    expect(await statusOf({ aud: ['client-a', 'other'] })).toBe(401)
    expect(await statusOf({ aud: ['client-a', 'other'], azp: 'other' })).toBe(401)
    expect(await statusOf({ aud: ['client-a', 'other'], azp: 'client-a' })).toBe(200)
  })

  test('is refused once the provider is removed', async () => {
    await configure()
    const token = await provider.token(ada)
    expect((await ask(token)).status).toBe(200)
    await plane.query(
      `mutation { removeIdentityProvider(input: { issuer: "${provider.issuer}" }) { errors { code } } }`,
      { token: a.token },
    )
    expect((await ask(token)).status).toBe(401)
  })
})

describe('keys of a provider', () => {
  test('are read once for many requests, and again for an unknown one at most once a minute', async () => {
    await configure()
    const before = provider.asked['/keys'] ?? 0
    const reads = (): number => (provider.asked['/keys'] ?? 0) - before
    for (let i = 0; i < 5; i++) expect(await statusOf({})).toBe(200)
    expect(reads()).toBe(1)
    await provider.addKey('k2', 'ES256')
    const rotated = await provider.token(ada, { kid: 'k2' })
    for (let i = 0; i < 5; i++) expect((await ask(rotated)).status).toBe(401)
    expect(reads()).toBe(1)
    clock.forward(61_000)
    const now = Math.floor(clock.now().getTime() / 1000)
    const later = { iat: now, exp: now + 60 }
    const known = await provider.token({ ...ada, ...later }, { kid: 'k2' })
    const unknown = await provider.token({ ...ada, ...later }, { header: { kid: 'k9' } })
    expect((await ask(known)).status).toBe(200)
    for (let i = 0; i < 5; i++) expect((await ask(unknown)).status).toBe(401)
    expect(reads()).toBe(2)
    provider.removeKey('k2')
    clock.forward(11 * 60_000)
    const at = Math.floor(clock.now().getTime() / 1000)
    expect((await ask(await provider.token({ ...ada, iat: at, exp: at + 60 }))).status).toBe(200)
    expect(reads()).toBe(3)
  })

  test.each(['RS256', 'PS256', 'ES256', 'EdDSA'])('%s is a good one', async (algorithm) => {
    await configure()
    const kid = `good-${algorithm}`
    await provider.addKey(kid, algorithm)
    const at = Math.floor(clock.now().getTime() / 1000)
    expect((await ask(await provider.token({ ...ada, iat: at, exp: at + 60 }, { kid }))).status).toBe(200)
    provider.removeKey(kid)
  })

  // Each would give the right keys to whoever looked less closely.
  const json = (body: object) => (_: unknown, response: { end(text: string): unknown }) =>
    void response.end(JSON.stringify(body))
  const discovery = '/.well-known/openid-configuration'
  const bad: [string, (p: TestProvider) => void][] = [
    [
      'a discovery document of another issuer',
      (p) => p.serve(discovery, json({ issuer: 'https://other.example', jwks_uri: `${p.issuer}/keys` })),
    ],
    [
      'a host that is not the issuer’s',
      (p) =>
        p.serve(discovery, json({ issuer: p.issuer, jwks_uri: `${p.issuer.replace('127.0.0.1', 'localhost')}/keys` })),
    ],
    [
      'a redirect',
      (p) => {
        p.serve('/else', json({ keys: p.keys() }))
        p.serve('/keys', (_, response) => response.writeHead(302, { location: `${p.issuer}/else` }).end())
      },
    ],
    [
      'an error',
      (p) => p.serve('/keys', (_, response) => response.writeHead(500).end(JSON.stringify({ keys: p.keys() }))),
    ],
    ['a flood', (p) => p.serve('/keys', json({ keys: p.keys(), more: 'x'.repeat(300_000) }))],
    ['a crowd', (p) => p.serve('/keys', json({ keys: [...p.keys(), ...Array.from({ length: 50 }, () => ({}))] }))],
    ['a list', (p) => p.serve('/keys', json(p.keys()))],
  ]
  test.each(bad)('%s is no source of them', async (_name, spoil) => {
    await using spoilt = await testProvider('client-a')
    spoil(spoilt)
    await configure({ issuer: spoilt.issuer })
    expect((await ask(await spoilt.token(ada))).status).toBe(401)
  })

  test('for encryption, of a wrong kind or too short are none', async () => {
    await using other = await testProvider('client-a')
    await configure({ issuer: other.issuer })
    await other.addKey('enc', 'RS256', { use: 'enc' })
    await other.addKey('alg', 'RS256', { alg: 'PS256' })
    const now = Math.floor(clock.now().getTime() / 1000)
    for (const kid of ['enc', 'alg'])
      expect([kid, (await ask(await other.token({ ...ada, iat: now, exp: now + 60 }, { kid }))).status]).toEqual([
        kid,
        401,
      ])
    expect((await ask(await other.token({ ...ada, iat: now, exp: now + 60 }))).status).toBe(200)
  })
})

describe('configuring', () => {
  test.each([
    'http://id.acme.example',
    'https://127.0.0.1',
    'https://0x7f.1',
    'https://2130706433',
    'https://[::1]',
    'https://[::ffff:10.0.0.1]',
    'https://169.254.169.254/latest',
    'https://10.0.0.1.',
    'https://localhost',
    'https://metadata.google.internal',
    'https://printer.local',
    'https://intranet',
    'https://user:secret@id.acme.example',
    'https://id.acme.example/#x',
    'https://id.acme.example/?x=1',
    'ftp://id.acme.example',
    'tributary',
    '',
  ])('refuses the issuer %s', async (issuer) => {
    const { data } = await configure({ issuer }, a.token, plane.app)
    expect(data.configureIdentityProvider).toMatchObject({
      provider: null,
      errors: [{ code: 'BAD_INPUT', path: ['issuer'] }],
    })
  })

  test('needs the right to keep people, and maps no role beyond one’s own', async () => {
    const reader = await plane.key(a.id, { scopes: ['users:read'] })
    expect((await configure({}, reader)).errors[0]?.extensions.code).toBe('FORBIDDEN')
    const keeper = await plane.key(a.id, { scopes: ['users:read', 'users:write'] })
    expect((await configure({}, keeper)).errors[0]?.extensions.code).toBe('FORBIDDEN')
    expect((await configure({ roles: [], defaultRole: 'DATA_ANALYST' }, keeper)).errors[0]?.extensions.code).toBe(
      'FORBIDDEN',
    )
    const { data } = await configure({ roles: [{ value: 'x', role: 'PLATFORM_ADMIN' }] })
    expect(data.configureIdentityProvider.errors[0]).toMatchObject({ code: 'BAD_INPUT', path: ['role'] })
  })

  test('answers what is configured, to its own tenant alone, five at most', async () => {
    for (let i = 0; i < 5; i++) await configure({ issuer: `https://id${i}.acme.example` })
    expect(
      (await configure({ issuer: 'https://id6.acme.example' })).data.configureIdentityProvider.errors[0].code,
    ).toBe('CONFLICT')
    const list = async (token: string) =>
      (await plane.query('{ identityProviders { issuer } }', { token })).data.identityProviders
    expect(await list(a.token)).toHaveLength(5)
    expect(await list((await plane.tenant()).token)).toEqual([])
  })
})
