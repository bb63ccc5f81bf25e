import { sql } from 'drizzle-orm'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import type { App } from '../../control-plane/app.ts'
import { systemClock } from '../../shared/clock.ts'
import { type Begin, exchangeOf, offerExchange, rowsOf } from '../../shared/db/db.ts'
import { type Answer, type ControlPlane, controlPlane, until } from '../support/control-plane.ts'

let plane: ControlPlane
let a: { id: string; token: string }
let keyId: string
beforeAll(async () => {
  plane = await controlPlane()
})
beforeEach(async () => {
  a = await plane.tenant()
  keyId = a.token.split('.')[0] ?? ''
  // From here on the key is known.
  if ((await ask(list)).status !== 200) throw new Error('the key is not taken')
})
afterAll(() => plane[Symbol.asyncDispose]())

const list = '{ pipelines { nodes { id } } }'
const ask = (document: string, app?: App): Promise<Answer> =>
  plane.query(document, { token: a.token, ...(app ? { app } : {}) })
const codes = ({ errors }: Answer): string[] => errors.map(({ extensions }) => extensions.code)
// Behind the API's back, as by another process.
const change = (set: ReturnType<typeof sql>): Promise<unknown> =>
  plane.ports.db.execute(sql`update app.api_key set ${set} where id = ${keyId}`)
const audited = (action: string): Promise<unknown[]> =>
  rowsOf(
    plane.ports.db,
    sql`select details -> 'attempts' as attempts from app.audit_event where tenant_id = ${a.id} and action = ${action}`,
  )

/** An app over the same database that tells what each exchange with it begins with, and what else was begun. */
function watched(): { app: App; exchanges: (readonly Begin[])[]; transactions: () => number } {
  const exchange = exchangeOf(plane.ports.db)
  if (!exchange) throw new Error('the database does nothing in one exchange')
  const exchanges: (readonly Begin[])[] = []
  let transactions = 0
  const db = new Proxy(plane.ports.db, {
    get(target, name) {
      if (name === 'transaction') transactions++
      return Reflect.get(target, name, target)
    },
  })
  offerExchange(db, {
    async read(begin, build) {
      exchanges.push(begin)
      return exchange.read(begin, build)
    },
  })
  return { app: plane.appWith({}, { db }), exchanges, transactions: () => transactions }
}

test('a list by a known key is one exchange, which asks for the key as well', async () => {
  const { app, exchanges, transactions } = watched()
  await ask(list, app)
  await until('its use is noted', async () => transactions() === 1)
  exchanges.length = 0
  expect((await ask(list, app)).data.pipelines.nodes).toEqual([])
  expect(exchanges.map((begin) => begin.map(({ text }) => /find_api_key/.test(text)))).toEqual([[false, true]])
  expect(transactions()).toBe(1)
})

test.each([
  ['a list', list],
  ['a field that asks no database', '{ viewer { keyId } }'],
  ['lists beside each other', '{ a: pipelines { nodes { id } } b: runs { nodes { id } } c: users { nodes { id } } }'],
  ['a change', 'mutation { createApiKey(input: { name: "x" }) { token errors { code } } }'],
  ['what is no document', '{'],
  ['no field of ours', '{ nothing }'],
])('a known key that was revoked gets the refusal of any other for %s, and it is noted', async (_name, document) => {
  await change(sql`revoked_at = clock_timestamp(), last_used_at = null`)
  const unknown = await plane.query(document, { token: `key_${'0'.repeat(32)}.${'0'.repeat(64)}` })
  const answer = await ask(document)
  const anonymous = ({ status, text }: Answer): unknown => [status, text.replaceAll(/req_\w+/g, '')]
  expect(answer.status).toBe(401)
  expect(anonymous(answer)).toEqual(anonymous(unknown))
  await until('it is noted', async () => (await audited('key.refused')).length === 1)
  expect(await audited('key.refused')).toEqual([{ attempts: { request: 1 } }])
  expect((await ask(document)).status).toBe(401)
  const [key] = await rowsOf<{ last_used_at: string | null }>(
    plane.ports.db,
    sql`select last_used_at from app.api_key where id = ${keyId}`,
  )
  expect(key?.last_used_at).toBeNull()
})

test('a scope that a known key lost is gone with the next request, also where others are asked first', async () => {
  await change(sql`scopes = '{runs:read}'`)
  expect(codes(await ask(list))).toEqual(['FORBIDDEN'])
  await until('it is noted', async () => (await audited('access.denied')).length === 1)
  expect(codes(await ask(`{ a: runs { nodes { id } } b: pipelines { nodes { id } } }`))).toEqual(['FORBIDDEN'])
  expect((await ask('{ runs { nodes { id } } }')).status).toBe(200)
})

test('a scope that a known key was given counts with the next request', async () => {
  await change(sql`scopes = '{runs:read}'`)
  expect(codes(await ask(list))).toEqual(['FORBIDDEN'])
  await change(sql`scopes = '{pipelines:read}'`)
  expect(codes(await ask(list))).toEqual([])
  expect(codes(await ask('mutation { createApiKey(input: { name: "x" }) { token } }'))).toEqual(['FORBIDDEN'])
})

test('a known key of a tenant that was suspended reads and changes nothing', async () => {
  await plane.ports.db.execute(sql`update app.tenant set status = 'suspended' where id = ${a.id}`)
  expect(codes(await ask('mutation { createApiKey(input: { name: "x" }) { token } }'))).toEqual(['TENANT_NOT_ACTIVE'])
  expect((await ask(list)).status).toBe(200)
  await plane.ports.db.execute(sql`update app.tenant set status = 'offboarded' where id = ${a.id}`)
  expect((await ask(list)).status).toBe(401)
})

test('another secret for a known key is refused', async () => {
  const answer = await plane.query(list, { token: `${keyId}.${'0'.repeat(64)}` })
  expect([answer.status, codes(answer)]).toEqual([401, ['UNAUTHENTICATED']])
})

test('the end of a known key counts', async () => {
  let aheadMs = 0
  const clock = { ...systemClock, now: () => new Date(systemClock.now().getTime() + aheadMs) }
  const app = plane.appWith({}, { clock })
  await change(sql`expires_at = clock_timestamp() + interval '1 hour'`)
  for (const _ of [1, 2]) expect((await ask(list, app)).status).toBe(200)
  aheadMs = 3_600_001
  expect((await ask(list, app)).status).toBe(401)
})
