import { createHash, createHmac } from 'node:crypto'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { mintServiceToken } from '../../../shared/auth/service-token.ts'
import { type Clock, systemClock } from '../../../shared/clock.ts'
import { type DataRead, httpReader } from '../../../shared/datasets/reader.ts'
import { mintReadToken } from '../../../shared/datasets/read-token.ts'
import { AppError } from '../../../shared/errors.ts'
import { newId } from '../../../shared/ids.ts'
import { signingKeys } from '../../../shared/secrets/signing-keys.ts'
import { type ReadServer, serveReads } from '../../../workers/reader/serve-reads.ts'

type Json = Record<string, unknown>
const keys = { current: 'k1', keys: { k1: btoa('0123456789abcdef0123456789abcdef') } }
const signing = signingKeys(keys)
const log = { info: () => undefined, warn: () => undefined, error: () => undefined }
const worker = newId('worker')
const read: DataRead = {
  tenantId: 'acme',
  operation: 'versions',
  table: 'orders',
  arguments: { limit: 5, after: null },
}
const body = JSON.stringify(read)
let nowMs = Date.now()
const clock: Clock = { ...systemClock, now: () => new Date(nowMs) }
let done: DataRead[] = []
let failure: AppError | undefined
let door: ReadServer
beforeAll(async () => {
  const reader = {
    id: worker,
    read: async (asked: DataRead) => {
      done.push(asked)
      if (failure) throw failure
      return [{ position: ['1', ''] as const }]
    },
  }
  door = await serveReads(() => reader, { host: '127.0.0.1', port: 0, ports: { signing, clock, log } })
})
beforeEach(() => {
  done = []
  failure = undefined
  nowMs = Date.now()
})
afterAll(() => door.stop())

const send = (token: string, text = body): Promise<Response> =>
  fetch(`${door.url}/read`, { method: 'POST', headers: { authorization: `Bearer ${token}` }, body: text })
const good = (changed: Json = {}): Promise<string> =>
  mintReadToken(signing, { ...read, worker, body, ...changed }, new Date(nowMs))
const base64 = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url')
const hash = (text: string): string => createHash('sha256').update(text).digest('hex')
const head = { alg: 'HS256', kid: 'k1', typ: 'read+jwt' }
const claims = (): Json => {
  const iat = Math.floor(nowMs / 1000)
  return {
    iss: 'tributary',
    aud: `tributary/reader/${worker}`,
    sub: 'control-plane',
    tenant: 'acme',
    operation: 'versions',
    table: 'orders',
    hash: hash(body),
    jti: newId('token'),
    iat,
    exp: iat + 30,
  }
}
// Signed with the right key: what is wrong with it is all that can be wrong.
async function signed(changed: Json = {}, header: Json = {}, purpose: 'read' | 'service' = 'read'): Promise<string> {
  const { key } = await signing.current(purpose)
  const text = `${base64({ ...head, ...header })}.${base64({ ...claims(), ...changed })}`
  const tag = await crypto.subtle.sign('HMAC', key, new TextEncoder().encode(text))
  return `${text}.${Buffer.from(tag).toString('base64url')}`
}
const seconds = (n: number): number => Math.floor(nowMs / 1000) + n

test('a read with its token is answered, and the same token does it once', async () => {
  const token = await good()
  const first = await send(token)
  expect([first.status, await first.json()]).toEqual([200, { rows: [{ position: ['1', ''] }] }])
  expect(done).toEqual([read])
  const again = await send(token)
  expect(again.status).toBe(401)
  expect(done).toHaveLength(1)
  expect((await send(await signed())).status).toBe(200)
})

const forged: Record<string, () => Promise<[token: string, text?: string]>> = {
  'no token': async () => [''],
  'no token at all but words': async () => ['let-me-in'],
  'a token for another tenant': async () => [await good({ tenantId: 'other' })],
  'a token for another table': async () => [await good({ table: 'salaries' })],
  'a token for another operation': async () => [await good({ operation: 'rows' })],
  'a token for other arguments': async () => [await good(), body.replace('"limit":5', '"limit":6')],
  'a body of another tenant under a good token': async () => [await good(), body.replace('acme', 'other')],
  'a body with one space more': async () => [await good(), `${body} `],
  'a token for another worker': async () => [await good({ worker: newId('worker') })],
  'a token of an earlier life of the platform keys': async () => [
    await mintReadToken(
      signingKeys({ current: 'k1', keys: { k1: btoa('f'.repeat(32)) } }),
      { ...read, worker, body },
      new Date(nowMs),
    ),
  ],
  'a token for calls between services': async () => [
    await mintServiceToken(signing, { caller: 'control-plane', tenantId: 'acme', callee: 'worker' }, new Date(nowMs)),
  ],
  'the claims of a read under the key of another purpose': async () => [await signed({}, {}, 'service')],
  'the kind of another token': async () => [await signed({}, { typ: 'service+jwt' })],
  'a token that has ended': async () => [await signed({ iat: seconds(-100), exp: seconds(-70) })],
  'a token of tomorrow': async () => [await signed({ iat: seconds(86_400), exp: seconds(86_430) })],
  'a token that lives for an hour': async () => [await signed({ exp: seconds(3_600) })],
  'a token that lives for 31 s': async () => [await signed({ exp: seconds(31) })],
  'a token without an end': async () => [await signed({ exp: undefined })],
  'a token without an id': async () => [await signed({ jti: undefined })],
  'a token of another issuer': async () => [await signed({ iss: 'https://id.example' })],
  'a token of a worker': async () => [await signed({ sub: 'worker' })],
  'a token for several': async () => [await signed({ aud: [`tributary/reader/${worker}`, 'x'] })],
  'a token for all readers': async () => [await signed({ aud: 'tributary/reader/' })],
  'a token without a hash': async () => [await signed({ hash: undefined })],
  'a token without a signature': async () => [`${base64({ ...head, alg: 'none' })}.${base64(claims())}.`],
  'a token signed with its own key id': async () => {
    const text = `${base64(head)}.${base64(claims())}`
    return [`${text}.${createHmac('sha256', 'k1').update(text).digest('base64url')}`]
  },
  'a token of an unknown key': async () => [await signed({}, { kid: 'k2' })],
  'a token that brings its key': async () => [await signed({}, { jwk: { kty: 'oct', k: 'AAAA' } })],
  'a token with a bit of its signature changed': async () => {
    const token = await good()
    const at = token.length - 10
    return [token.slice(0, at) + (token[at] === 'A' ? 'B' : 'A') + token.slice(at + 1)]
  },
  'an operation that there is not': async () => {
    const text = JSON.stringify({ ...read, operation: 'drop' })
    return [await good({ operation: 'drop', body: text }), text]
  },
  'more than a read has': async () => {
    const text = JSON.stringify({ ...read, sql: 'SELECT 1' })
    return [await good({ body: text }), text]
  },
  'a tenant that leaves its folder': async () => {
    const text = JSON.stringify({ ...read, tenantId: '../acme' })
    return [await signed({ tenant: '../acme', hash: hash(text) }), text]
  },
}
test.each(Object.entries(forged))('%s reads nothing, and is told no more than any other', async (_name, make) => {
  const [token, text] = await make()
  const response = await send(token, text)
  expect(response.status).toBe(401)
  expect(await response.json()).toEqual({
    error: {
      code: 'UNAUTHENTICATED',
      message: 'This token is not valid.',
      hint: expect.any(String) as string,
      retry: 'never',
    },
  })
  expect(done).toEqual([])
})

test('a token is of no use a minute after it was made, wherever clocks stand', async () => {
  const token = await good()
  nowMs += 61_000
  expect((await send(token)).status).toBe(401)
  nowMs -= 61_000
  expect((await send(token)).status).toBe(200)
})

test('the client says what the reader said, and that it does not answer when it does not', async () => {
  const ask = (url: string) => httpReader({ signing, clock }).read({ worker, url }, read, AbortSignal.timeout(5_000))
  expect(await ask(door.url)).toEqual([{ position: ['1', ''] }])
  failure = new AppError('NOT_FOUND', 'There is no such table.')
  await expect(ask(door.url)).rejects.toMatchObject({ code: 'NOT_FOUND', message: 'There is no such table.' })
  failure = new AppError('CONFLICT', 'Another worker has these tables open.', { retry: 'later' })
  await expect(ask(door.url)).rejects.toMatchObject({ code: 'CONFLICT', retry: 'later' })
  await expect(ask('http://127.0.0.1:1')).rejects.toMatchObject({ code: 'UNAVAILABLE' })
})

test('other paths and methods are no door', async () => {
  expect((await fetch(`${door.url}/`)).status).toBe(404)
  expect((await fetch(`${door.url}/read`)).status).toBe(405)
})
