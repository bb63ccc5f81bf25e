import { createHmac, generateKeyPairSync, sign as signWith } from 'node:crypto'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { mintServiceToken } from '../../shared/auth/service-token.ts'
import { makeApiKey } from '../../shared/secrets/api-key.ts'
import { signingKeys } from '../../shared/secrets/signing-keys.ts'
import { type ControlPlane, controlPlane } from '../support/control-plane.ts'
import { type TestProvider, testProvider } from '../support/oidc.ts'
import { people, type SignedUp, type Tokens } from '../support/people.ts'

type Json = Record<string, unknown>
let plane: ControlPlane
let provider: TestProvider
let a: { id: string; token: string }
let b: { id: string; token: string }
let who: ReturnType<typeof people>
let ada: SignedUp
let session: Tokens
let other: Tokens
let ended: Tokens
let revoked: string
let payload: Json
beforeAll(async () => {
  plane = await controlPlane({ identity: { allowsLocalProviders: true } })
  provider = await testProvider('client-a')
  a = await plane.tenant()
  b = await plane.tenant()
  who = people(plane)
  ada = await who.signUp(a)
  session = await who.login(ada)
  other = await who.login(await who.signUp(b))
  ended = await who.login(ada)
  await who.done('logout', {}, { token: ended.accessToken })
  revoked = await plane.key(a.id, { revokedAt: new Date(0) })
  payload = JSON.parse(Buffer.from(session.accessToken.split('.')[1] ?? '', 'base64url').toString())
  await plane.query(
    `mutation { configureIdentityProvider(input: { issuer: "${provider.issuer}", audience: "client-a", defaultRole: DATA_ANALYST, roleClaim: "groups", createsPeople: true }) { errors { code } } }`,
    { token: a.token },
  )
})
afterAll(async () => {
  await provider[Symbol.asyncDispose]()
  await plane[Symbol.asyncDispose]()
})

const now = (): number => Math.floor(Date.now() / 1000)
const part = (value: unknown): string =>
  Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url')
const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
const publicPem = publicKey.export({ type: 'spki', format: 'pem' }).toString()

// A token that our own key has signed: what is wrong with it is all that can be wrong.
async function signed(
  header: Json | string,
  claims: Json | string,
  purpose: 'session' | 'service' = 'session',
): Promise<string> {
  const { key } = await plane.ports.signing.current(purpose)
  const text = `${part(header)}.${part(claims)}`
  const signature = await crypto.subtle.sign('HMAC', key, new TextEncoder().encode(text))
  return `${text}.${Buffer.from(signature).toString('base64url')}`
}
const head = { alg: 'HS256', kid: 'k1', typ: 'at+jwt' }
const without = (claims: Json, name: string): Json =>
  Object.fromEntries(Object.entries(claims).filter(([key]) => key !== name))
const withClaims = (more: Json) => () => signed(head, { ...payload, ...more })
const withHeader = (more: Json) => () => signed({ ...head, ...more }, payload)
const lacking = (name: string) => () => signed(head, without(payload, name))
const parts = (token: string): [string, string, string] => {
  const [header = '', claims = '', signature = ''] = token.split('.')
  return [header, claims, signature]
}
const bySecret = (header: Json, secret: string | Buffer) => (): string => {
  const text = `${part(header)}.${part(payload)}`
  return `${text}.${createHmac('sha256', secret).update(text).digest('base64url')}`
}
const byRsa = (header: Json) => (): string => {
  const text = `${part(header)}.${part(payload)}`
  return `${text}.${signWith('sha256', Buffer.from(text), privateKey).toString('base64url')}`
}
const subject = { sub: 'eve', email: 'eve@acme.example', email_verified: true }
const provided = (claims: Json, options?: Parameters<TestProvider['token']>[1]) => () =>
  provider.token({ ...subject, ...claims }, options)

/** Forgeries by name. Each is presented as a bearer; those of a provider name the tenant that has configured it. */
const forged: [string, () => string | Promise<string>][] = [
  ['algorithm none', () => `${part({ ...head, alg: 'none' })}.${part(payload)}.`],
  [
    'algorithm none with a signature',
    () => `${part({ ...head, alg: 'none' })}.${part(payload)}.${parts(session.accessToken)[2]}`,
  ],
  ['algorithm None', () => `${part({ ...head, alg: 'None' })}.${part(payload)}.`],
  ['algorithm hs256 in small letters', withHeader({ alg: 'hs256' })],
  ['algorithm HS512 named', withHeader({ alg: 'HS512' })],
  ['algorithm HS384 named', withHeader({ alg: 'HS384' })],
  ['algorithm RS256 named', withHeader({ alg: 'RS256' })],
  ['signed by RSA instead of HMAC', byRsa({ ...head, alg: 'RS256' })],
  ['HMAC with the text of a public key', bySecret(head, publicPem)],
  ['HMAC with an empty secret', bySecret(head, '')],
  ['HMAC with the secret “secret”', bySecret(head, 'secret')],
  ['HMAC with the raw platform key', bySecret(head, Buffer.from('0123456789abcdef0123456789abcdef'))],
  ['no algorithm', () => signed(without(head, 'alg'), payload)],
  ['a list of algorithms', withHeader({ alg: ['HS256'] })],
  ['a key in the header', () => byRsa({ ...head, alg: 'RS256', jwk: publicKey.export({ format: 'jwk' }) })()],
  ['a key in the header of a good token', withHeader({ jwk: { kty: 'oct', k: 'AA' } })],
  ['a key set by URL', withHeader({ jku: 'https://evil.example/keys' })],
  ['a certificate by URL', withHeader({ x5u: 'https://evil.example/cert' })],
  ['a certificate', withHeader({ x5c: ['MIIB'] })],
  ['a part that must be understood', withHeader({ crit: ['exp'] })],
  ['an unencoded payload', withHeader({ b64: false, crit: ['b64'] })],
  ['a compressed payload', withHeader({ zip: 'DEF' })],
  ['a token in a token', withHeader({ cty: 'JWT' })],
  ['an unknown key id', withHeader({ kid: 'k2' })],
  ['no key id', () => signed(without(head, 'kid'), payload)],
  ['an empty key id', withHeader({ kid: '' })],
  ['a key id that is a path', withHeader({ kid: '../../../../dev/null' })],
  ['a key id that is SQL', withHeader({ kid: "k1' or '1'='1" })],
  ['a key id that every object has', withHeader({ kid: 'constructor' })],
  ['a key id that is the prototype', withHeader({ kid: '__proto__' })],
  ['a key id that is a list', withHeader({ kid: ['k1'] })],
  ['a key id with a space', withHeader({ kid: 'k1 ' })],
  ['another type', withHeader({ typ: 'JWT' })],
  ['the type of a service token', withHeader({ typ: 'service+jwt' })],
  ['no type', () => signed(without(head, 'typ'), payload)],
  ['the algorithm twice', () => signed('{"alg":"none","alg":"HS256","kid":"k1","typ":"at+jwt"}', payload)],
  ['no issuer', lacking('iss')],
  ['another issuer', withClaims({ iss: 'https://evil.example' })],
  ['a list of issuers', withClaims({ iss: ['tributary'] })],
  ['no audience', lacking('aud')],
  ['another audience', withClaims({ aud: 'tributary/worker' })],
  ['a list of audiences', withClaims({ aud: ['tributary/api'] })],
  ['no end', lacking('exp')],
  ['an end as text', withClaims({ exp: String(now() + 600) })],
  ['an end in a list', withClaims({ exp: [now() + 600] })],
  ['an end in ten years', () => signed(head, { ...payload, exp: now() + 315_360_000 })],
  [
    'an end beyond numbers',
    () => signed(head, JSON.stringify({ ...payload, exp: 0 }).replace('"exp":0', '"exp":1e999')),
  ],
  ['an end in the past', withClaims({ iat: now() - 900, exp: now() - 60 })],
  ['an end before its beginning', withClaims({ iat: now(), exp: now() - 10 })],
  ['no beginning', lacking('iat')],
  ['a beginning in the future', withClaims({ iat: now() + 120, exp: now() + 600 })],
  ['a beginning long ago', withClaims({ iat: now() - 3_600 })],
  ['a beginning as text', withClaims({ iat: String(now()) })],
  ['not before later', withClaims({ nbf: now() + 300 })],
  ['not before as text', withClaims({ nbf: 'now' })],
  ['no subject', lacking('sub')],
  ['an empty subject', withClaims({ sub: '' })],
  ['a list of subjects', () => signed(head, { ...payload, sub: [payload['sub']] })],
  ['a subject that is a key', withClaims({ sub: `key_${'0'.repeat(32)}` })],
  ['another person’s subject', withClaims({ sub: `usr_${'0'.repeat(32)}` })],
  ['no id', lacking('jti')],
  ['a number as id', withClaims({ jti: 7 })],
  ['no tenant', lacking('tenant')],
  ['another tenant', () => signed(head, { ...payload, tenant: b.id })],
  ['the platform as tenant', withClaims({ tenant: 'platform' })],
  ['a tenant that is SQL', withClaims({ tenant: "x' or true --" })],
  ['a list of tenants', () => signed(head, { ...payload, tenant: [a.id] })],
  ['no session', lacking('session')],
  ['another’s session', () => signed(head, { ...payload, session: other.session.id })],
  ['a session that ended', () => ended.accessToken],
  ['a claim twice', () => signed(head, JSON.stringify(payload).replace('{', `{"tenant":"${b.id}",`))],
  [
    'a claim twice, spelt otherwise',
    () => signed(head, JSON.stringify(payload).replace('{', `{"tenan\\u0074":"${b.id}",`)),
  ],
  ['no object', () => signed(head, '"text"')],
  ['a list', () => signed(head, '[1]')],
  ['no JSON', () => signed(head, 'text')],
  ['the key of another purpose', () => signed(head, payload, 'service')],
  [
    'a service token',
    () =>
      mintServiceToken(plane.ports.signing, { caller: 'control-plane', callee: 'worker', tenantId: a.id }, new Date()),
  ],
  [
    'a key of another platform',
    async () => {
      const { key } = await signingKeys({ current: 'k1', keys: { k1: btoa('f'.repeat(32)) } }).current('session')
      const text = `${part(head)}.${part(payload)}`
      return `${text}.${Buffer.from(await crypto.subtle.sign('HMAC', key, Buffer.from(text))).toString('base64url')}`
    },
  ],
  [
    'claims of one with the signature of another',
    () => {
      const [header, claims] = parts(session.accessToken)
      return [header, claims, parts(other.accessToken)[2]].join('.')
    },
  ],
  [
    'claims of another under this signature',
    () => {
      const [header, , signature] = parts(session.accessToken)
      return [header, parts(other.accessToken)[1], signature].join('.')
    },
  ],
  [
    'one letter of the claims changed',
    () => {
      const [header, claims, signature] = parts(session.accessToken)
      return [header, `${claims.slice(0, 20)}${claims[20] === 'A' ? 'B' : 'A'}${claims.slice(21)}`, signature].join('.')
    },
  ],
  ['the signature cut', () => session.accessToken.slice(0, -4)],
  ['no signature', () => `${parts(session.accessToken).slice(0, 2).join('.')}.`],
  ['two parts', () => parts(session.accessToken).slice(0, 2).join('.')],
  ['four parts', () => `${session.accessToken}.x`],
  ['padding', () => `${session.accessToken}=`],
  [
    'the last letter spelt otherwise',
    () => {
      // 43 letters hold two bits more than 32 bytes have: four spellings, of which one is the token's.
      const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'
      const last = alphabet.indexOf(session.accessToken.at(-1) ?? '')
      return `${session.accessToken.slice(0, -1)}${alphabet[last ^ 1]}`
    },
  ],
  ['the token twice', () => `${session.accessToken},${session.accessToken}`],
  ['a token of a megabyte', () => `${session.accessToken}${'A'.repeat(1_000_000)}`],
  ['a good token with much in it', () => signed(head, { ...payload, more: 'x'.repeat(4_000) })],
  ['a refresh token', () => session.refreshToken],
  ['a key without its secret', () => a.token.split('.')[0] ?? ''],
  ['a key with the secret of another', () => `${a.token.split('.')[0]}.${b.token.split('.')[1]}`],
  ['a key in capitals', () => a.token.toUpperCase()],
  ['a key with one letter more', () => `${a.token}0`],
  ['a key with a wrong last letter', () => a.token.replace(/.$/, (last) => (last === '0' ? '1' : '0'))],
  ['a key that nobody made', async () => (await makeApiKey()).token],
  ['a revoked key', () => revoked],
  ['the id of a key that is SQL', () => `key_' or true --.${'0'.repeat(64)}`],
  ['the hash of a secret for the secret', () => `${a.token.split('.')[0]}.${'0'.repeat(64)}`],
  [
    'a provider’s token with none',
    () =>
      `${part({ alg: 'none', kid: 'k1' })}.${part({ iss: provider.issuer, aud: 'client-a', ...subject, iat: now(), exp: now() + 60 })}.`,
  ],
  [
    'a provider’s public key as a secret',
    () => {
      const [jwk] = provider.keys()
      const text = `${part({ alg: 'HS256', kid: 'k1' })}.${part({ iss: provider.issuer, aud: 'client-a', ...subject, iat: now(), exp: now() + 60 })}`
      return `${text}.${createHmac('sha256', jwk?.n ?? '')
        .update(text)
        .digest('base64url')}`
    },
  ],
  ['a provider’s issuer by our key', () => signed(head, { ...payload, iss: provider.issuer, aud: 'client-a' })],
  ['our issuer by a provider’s key', provided({ iss: 'tributary', aud: 'tributary/api' })],
  ['a provider’s token for another audience', provided({ aud: 'client-b' })],
  ['a provider’s token without a verified address', provided({ sub: 'eve-2', email_verified: false })],
  ['a provider’s token from the future', provided({ iat: now() + 3_600, exp: now() + 7_200 })],
  ['a provider’s token that is over', provided({ iat: now() - 7_200, exp: now() - 3_600 })],
  ['a provider’s token for a week', provided({ exp: now() + 7 * 86_400 })],
  ['a provider’s token without an end', provided({ exp: undefined })],
  ['a provider’s token that brings a key', provided({}, { header: { jwk: publicKey.export({ format: 'jwk' }) } })],
  ['a provider’s token that says where keys are', provided({}, { header: { jku: 'https://evil.example/keys' } })],
  ['a provider’s token of a key it has not', provided({}, { header: { kid: 'k9' } })],
  [
    'a provider’s token of an issuer with a slash more',
    () => provider.token({ ...subject, iss: `${provider.issuer}/` }),
  ],
]

test('there are enough of them', () => {
  expect(forged.length).toBeGreaterThanOrEqual(100)
  expect(new Set(forged.map(([name]) => name)).size).toBe(forged.length)
})

const asked = (token: string): Promise<Response> =>
  plane.app.fetch(
    new Request('http://edge.example/graphql', {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: `Bearer ${token}`, 'x-tenant-id': a.id },
      body: JSON.stringify({ query: '{ viewer { tenantId } }' }),
    }),
  )

test.each(forged)('%s is refused, and in the same words as any other', async (_name, forge) => {
  const response = await asked(await forge())
  expect(response.status).toBe(401)
  expect((await response.text()).replaceAll(/req_[0-9a-f]+/g, 'req')).toBe(
    JSON.stringify({
      errors: [
        {
          message: 'This key or token is not valid.',
          extensions: {
            code: 'UNAUTHENTICATED',
            hint: 'Send a valid API key or access token: Authorization: Bearer <key or token>.',
            requestId: 'req',
          },
        },
      ],
    }),
  )
})

const good: [string, () => string | Promise<string>][] = [
  ['a key', () => a.token],
  ['another key', () => plane.key(a.id, { scopes: ['runs:read'] })],
  ['a key that ends later', () => plane.key(a.id, { expiresAt: new Date(Date.now() + 60_000) })],
  ['a session', () => session.accessToken],
  ['a second session', async () => (await who.login(ada)).accessToken],
  [
    'a refreshed session',
    async () => {
      const { refreshToken } = await who.login(ada)
      return (await who.done('refreshSession', { refreshToken })).tokens.accessToken
    },
  ],
  ['a token that is signed here as a forgery would be', () => signed(head, payload)],
  ['one from a clock that is 20 s ahead', withClaims({ iat: now() + 20, exp: now() + 600 })],
  ['one that ended 20 s ago by another clock', () => signed(head, { ...payload, iat: now() - 300, exp: now() - 20 })],
  ['one of the shortest kind', () => signed(head, { ...payload, iat: now(), exp: now() + 1 })],
  ['one with a claim that nobody reads', withClaims({ more: { tenant: 'x', tenants: ['x'] } })],
  ['a provider’s', provided({})],
  ['a provider’s with a list of audiences', provided({ aud: ['client-a'] })],
  ['a provider’s with the print of a certificate', provided({}, { header: { typ: 'JWT', x5t: 'abc' } })],
]

test.each(good)('%s is accepted', async (_name, make) => {
  const response = await asked(await make())
  expect(await response.json()).toMatchObject({ data: { viewer: { tenantId: a.id } } })
})

test('two credentials in one request are one too many', async () => {
  const ask = async (headers: [string, string][]): Promise<number> =>
    (
      await plane.app.fetch(
        new Request('http://edge.example/graphql', {
          method: 'POST',
          headers: [['content-type', 'application/json'], ...headers],
          body: JSON.stringify({ query: '{ viewer { tenantId } }' }),
        }),
      )
    ).status
  const bearer = (token: string): [string, string] => ['authorization', `Bearer ${token}`]
  expect(await ask([bearer(a.token)])).toBe(200)
  expect(await ask([bearer(a.token), ['x-api-key', a.token]])).toBe(401)
  expect(await ask([bearer(a.token), bearer(a.token)])).toBe(401)
  expect(
    await ask([
      ['x-api-key', a.token],
      ['x-api-key', b.token],
    ]),
  ).toBe(401)
  expect(await ask([['authorization', `Basic ${btoa(`x:${a.token}`)}`]])).toBe(401)
})

test('a good key or session that names another tenant is told so, whether there is one or not', async () => {
  for (const token of [a.token, session.accessToken])
    for (const tenantId of [b.id, 'no_such_tenant']) {
      const { errors } = await plane.query('{ viewer { tenantId } }', { token, headers: { 'x-tenant-id': tenantId } })
      expect(errors[0]?.extensions.code).toBe('FORBIDDEN')
    }
})
