import { createHmac } from 'node:crypto'
import { sql } from 'drizzle-orm'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { rowsOf } from '../../../shared/db/db.ts'
import { receiveDelivery, type Sender } from '../../../shared/qstash/receive-delivery.ts'
import { type ControlPlane, controlPlane } from '../../support/control-plane.ts'
import { type QStashSim, startQStashSim } from '../../support/qstash-sim.ts'

const url = 'https://workers.example/wake'
const body = '{"v":1,"tenantId":"acme","queue":"ingest"}'
const devKey = 'sig_7kYjw48mhY7kAjqNGcy6cr29RJ6r'

let plane: ControlPlane
let sim: QStashSim
beforeAll(async () => {
  plane = await controlPlane()
  sim = await startQStashSim()
})
afterAll(async () => {
  await sim[Symbol.asyncDispose]()
  await plane[Symbol.asyncDispose]()
})

const now = (): number => Math.floor(Date.now() / 1000)
const sender = (): Sender => ({ keys: [sim.keys.current, sim.keys.next], url })
const take = (signature: string | undefined, given = body, at?: Date): Promise<void> =>
  receiveDelivery({ db: plane.ports.db, clock: at ? { now: () => at } : plane.ports.clock }, 'worker', sender(), {
    signature,
    body: given,
  })
const refusal = { code: 'UNAUTHENTICATED', message: 'This token is not valid.' }
const encoded = (data: unknown): string => Buffer.from(JSON.stringify(data)).toString('base64url')
/** A token over any header and text of claims, signed as the header says. */
function forged(header: object, claims: string, algorithm = 'sha256', key = sim.keys.current): string {
  const text = `${encoded(header)}.${Buffer.from(claims).toString('base64url')}`
  return `${text}.${createHmac(algorithm, key).update(text).digest('base64url')}`
}
const claimsOf = (token: string): string => Buffer.from(token.split('.')[1] ?? '', 'base64url').toString()
const header = { alg: 'HS256', typ: 'JWT' }

test('a delivery signed by the current key is taken, and so is one by the next', async () => {
  await expect(take(await sim.sign(url, body))).resolves.toBeUndefined()
  await expect(take(await sim.sign(url, body, {}, sim.keys.next))).resolves.toBeUndefined()
})

test('after a rotation the old next key is good, and the one before it no more', async () => {
  const before = { ...sim.keys }
  const signed = await sim.sign(url, body, {}, before.current)
  await fetch(`${sim.url}/v2/keys/rotate`, { method: 'POST', headers: { authorization: `Bearer ${sim.token}` } })
  expect(sim.keys.current).toBe(before.next)
  await expect(take(await sim.sign(url, body, {}, before.next))).resolves.toBeUndefined()
  await expect(take(signed)).rejects.toMatchObject(refusal)
})

const deliveries: [string, () => Promise<string | undefined>, string?][] = [
  ['without a signature', async () => undefined],
  ['with something else in its place', async () => 'sig_signature'],
  ['signed by a key of somebody else', () => sim.sign(url, body, {}, 'sig_of_somebody_else')],
  ['signed by the key of the development server, which everybody knows', () => sim.sign(url, body, {}, devKey)],
  ['signed by no key: alg none', async () => `${encoded({ alg: 'none', typ: 'JWT' })}.${encoded(await fresh())}.`],
  ['signed by an empty key', async () => forged(header, JSON.stringify(await fresh()), 'sha256', '')],
  [
    'signed by another algorithm',
    async () => forged({ ...header, alg: 'HS512' }, JSON.stringify(await fresh()), 'sha512'),
  ],
  ['of which the header brings a key', async () => forged({ alg: 'RS256', jwk: {} }, JSON.stringify(await fresh()))],
  [
    'with a header that must be understood',
    async () => forged({ ...header, crit: ['x'], x: 1 }, JSON.stringify(await fresh())),
  ],
  ['of which the claims were changed', async () => tampered(await sim.sign(url, body))],
  ['made for another address', () => sim.sign('https://workers.example/other', body)],
  ['made for the same path of another host', () => sim.sign('https://other.example/wake', body)],
  ['made for the address with a slash more', () => sim.sign(`${url}/`, body)],
  ['made for the address with a query', () => sim.sign(`${url}?a=1`, body)],
  ['made for no address', () => sim.sign(url, body, { sub: undefined })],
  ['made for a list of addresses', () => sim.sign(url, body, { sub: [url] })],
  ['over another body', () => sim.sign(url, '{"v":1,"tenantId":"other","queue":"ingest"}')],
  ['over its body with a blank more', () => sim.sign(url, body), `${body} `],
  ['over an empty body', () => sim.sign(url, ''), body],
  ['that says nothing of its body', () => sim.sign(url, body, { body: undefined })],
  ['without an id', () => sim.sign(url, body, { jti: undefined })],
  ['with an empty id', () => sim.sign(url, body, { jti: '' })],
  ['with a number for an id', () => sim.sign(url, body, { jti: 7 })],
  ['with an id of 300 characters', () => sim.sign(url, body, { jti: 'x'.repeat(300) })],
  ['that ended a minute ago', () => sim.sign(url, body, { nbf: now() - 360, exp: now() - 60 })],
  ['that never ends', () => sim.sign(url, body, { exp: undefined })],
  ['that ends in a year', () => sim.sign(url, body, { exp: now() + 31_536_000 })],
  ['that begins in a minute', () => sim.sign(url, body, { nbf: now() + 60 })],
  ['that has no beginning', () => sim.sign(url, body, { nbf: undefined })],
  ['that ends before it begins', () => sim.sign(url, body, { nbf: now() + 20, exp: now() + 10 })],
  ['of another issuer', () => sim.sign(url, body, { iss: 'upstash' })],
  ['of no issuer', () => sim.sign(url, body, { iss: undefined })],
  [
    'with a claim that stands twice',
    async () => forged(header, `{"sub":"x",${JSON.stringify(await fresh()).slice(1)}`),
  ],
  ['of 5,000 characters', async () => sim.sign(url, body, { padding: 'x'.repeat(5_000) })],
]
async function fresh(): Promise<unknown> {
  return JSON.parse(claimsOf(await sim.sign(url, body)))
}
function tampered(token: string): string {
  const [head, , signature] = token.split('.')
  return `${head}.${encoded({ ...JSON.parse(claimsOf(token)), tenant: 'x' })}.${signature}`
}

test.for(deliveries)('a delivery %s is refused', async ([, sign, given]) => {
  await expect(take(await sign(), given)).rejects.toMatchObject(refusal)
})

test('a delivery is taken once, whoever asks at the same time, and a replay minutes later is refused', async () => {
  const signature = await sim.sign(url, body)
  const asked = await Promise.allSettled([1, 2, 3, 4].map(() => take(signature)))
  expect(asked.map(({ status }) => status).toSorted()).toEqual(['fulfilled', 'rejected', 'rejected', 'rejected'])
  await expect(take(signature, body, new Date(Date.now() + 240_000))).rejects.toMatchObject(refusal)
  await expect(take(signature, body, new Date(Date.now() + 400_000))).rejects.toMatchObject(refusal)
})

test('a refused delivery uses nothing up: the true one with its id is taken after it', async () => {
  const signature = await sim.sign(url, body)
  await expect(take(signature, 'another body')).rejects.toMatchObject(refusal)
  await expect(take(signature)).resolves.toBeUndefined()
})

test('clocks may differ by some seconds', async () => {
  await expect(take(await sim.sign(url, body, { nbf: now() + 10, exp: now() + 310 }))).resolves.toBeUndefined()
  await expect(take(await sim.sign(url, body, { nbf: now() - 310, exp: now() - 10 }))).resolves.toBeUndefined()
})

test('what is remembered of deliveries is forgotten when their signatures are good no more', async () => {
  const { db } = plane.ports
  await db.execute(sql`insert into app.seen_delivery (id, ends_at)
    select 'old ' || n, now() - interval '1 second' from generate_series(1, 150) n`)
  const left = async (): Promise<number> =>
    (await rowsOf<{ n: number }>(db, sql`select count(*)::int as n from app.seen_delivery where ends_at < now()`))[0]
      ?.n ?? -1
  await take(await sim.sign(url, body))
  expect(await left()).toBe(50)
  await take(await sim.sign(url, body))
  expect(await left()).toBe(0)
})

test('a database that is away is no reason to take or to refuse a delivery', async () => {
  const db = { ...plane.ports.db, transaction: async () => Promise.reject(new Error('away')) }
  const ports = { db: db as unknown as typeof plane.ports.db, clock: plane.ports.clock } // of which only this is called
  const delivery = { signature: await sim.sign(url, body), body }
  await expect(receiveDelivery(ports, 'worker', sender(), delivery)).rejects.toThrow('away')
})
