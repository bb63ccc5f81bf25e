import { Redis as Client } from 'ioredis'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { App } from '../../control-plane/app.ts'
import { type KeyFacts, redisKeyCache } from '../../control-plane/auth/key-cache.ts'
import type { Db } from '../../shared/db/db.ts'
import type { Log } from '../../shared/log.ts'
import type { Redis } from '../../shared/redis/redis.ts'
import { upstashRedis } from '../../shared/redis/upstash.ts'
import { makeApiKey, splitApiKey } from '../../shared/secrets/api-key.ts'
import { signingKeys } from '../../shared/secrets/signing-keys.ts'
import { type Answer, type ControlPlane, controlPlane, until } from '../support/control-plane.ts'
import { movableClock } from '../support/people.ts'
import { startRedis } from '../support/redis.ts'
import { type RedisBridge, startRedisBridge } from '../support/redis-bridge.ts'

const server = await startRedis()
const left = 'skipped' in server ? `, left out: ${server.skipped}` : ''

describe.skipIf(left !== '')(`keys remembered in a Redis${left}`, () => {
  let plane: ControlPlane
  let bridge: RedisBridge
  let raw: Client
  const clock = movableClock()
  let transactions = 0
  beforeAll(async () => {
    if ('skipped' in server) return
    plane = await controlPlane()
    bridge = await startRedisBridge(server.url)
    raw = new Client(server.url)
  })
  afterAll(async () => {
    raw.disconnect()
    await bridge[Symbol.asyncDispose]()
    await plane[Symbol.asyncDispose]()
    if ('stop' in server) await server.stop()
  })
  beforeEach(async () => {
    await raw.flushall()
    Object.assign(bridge, { lie: undefined, trouble: undefined })
  })

  const logInto = (lines: string[]): Log => {
    const say = (event: string, fields?: object): void => void lines.push(JSON.stringify({ event, ...fields }))
    return { info: say, warn: say, error: say }
  }
  const log = logInto([])
  // A machine with much to do is late without anything being wrong.
  const patient = (): Redis => {
    const redis = upstashRedis(bridge)
    return { ...redis, command: (words, options) => redis.command(words, { ...options, timeoutMs: 5_000 }) }
  }
  const cacheOf = (redis = patient(), lines = log) => redisKeyCache(redis, { ...plane.ports, clock, log: lines })
  const counting = (): Db =>
    new Proxy(plane.ports.db, {
      get(target, name) {
        if (name === 'transaction') transactions++
        const value: unknown = Reflect.get(target, name, target)
        return typeof value === 'function' ? value.bind(target) : value
      },
    })
  // An isolate of the edge: it shares the database and Redis with others and nothing else.
  const isolate = (redis?: Redis, lines?: Log): App =>
    plane.appWith({ keyCache: cacheOf(redis, lines), waits: { provisionMs: 100 } }, { clock, db: counting() })
  const viewer = (app: App, token: string): Promise<Answer> =>
    plane.query('{ viewer { tenantId scopes } }', { token, app })
  const remembered = async (): Promise<string[]> =>
    (await Promise.all((await raw.keys('tributary:key:*')).map((name) => raw.get(name)))).flatMap((text) => text ?? [])
  // Asks until the key is remembered, and again so that nothing else is left to look up.
  const warm = async (app: App, token: string): Promise<void> => {
    await viewer(app, token)
    await until('it is remembered', async () => (await remembered()).some((text) => text.length > 64))
    expect((await viewer(app, token)).status).toBe(200)
  }
  const mutate = (app: App, mutation: string, input: object, token: string): Promise<Answer> => {
    const type = `${mutation[0]?.toUpperCase()}${mutation.slice(1)}Input`
    return plane.query(`mutation ($i: ${type}!) { ${mutation}(input: $i) { errors { code } } }`, {
      token,
      variables: { i: input },
      app,
    })
  }

  test('a key that is remembered costs no look-up in the database, in any isolate', async () => {
    const t = await plane.tenant()
    const [one, other] = [isolate(), isolate()]
    await warm(one, t.token)
    transactions = 0
    expect((await viewer(one, t.token)).data.viewer.tenantId).toBe(t.id)
    expect(transactions).toBe(0)
    // The other looks up the points of the tenant and notes the use of the key, once a minute.
    await viewer(other, t.token)
    await viewer(other, t.token)
    expect(transactions).toBe(2)
    transactions = 0
    const bare = plane.appWith({}, { clock, db: counting() })
    await viewer(bare, t.token)
    transactions = 0
    await viewer(bare, t.token)
    expect(transactions).toBe(1)
  })

  test('neither the key nor its hash is in Redis, and what is there ends within 5 s', async () => {
    const t = await plane.tenant()
    await warm(isolate(), t.token)
    const { id = '', secret = '' } = splitApiKey(t.token) ?? {}
    const names = await raw.keys('*')
    expect(names).toEqual([expect.stringMatching(/^tributary:key:[0-9a-f]{64}$/)])
    const all = `${names.join('\n')}\n${(await remembered()).join('\n')}`
    for (const word of [id, secret, t.token]) expect(all).not.toContain(word)
    expect(await raw.pttl(names[0] ?? '')).toBeLessThanOrEqual(5_000)
  })

  test('revoked in one isolate, a key is refused in all at once', async () => {
    const t = await plane.tenant()
    const victim = await plane.key(t.id)
    const [one, other] = [isolate(), isolate()]
    await warm(one, victim)
    await warm(other, victim)
    const { id } = splitApiKey(victim) ?? {}
    expect((await mutate(one, 'revokeApiKey', { id }, t.token)).data.revokeApiKey.errors).toEqual([])
    for (const app of [one, other, isolate()]) expect((await viewer(app, victim)).status).toBe(401)
    expect((await viewer(other, t.token)).status).toBe(200)
  })

  test('a look-up that was on its way while the key was revoked is not remembered', async () => {
    const cache = cacheOf()
    const { token } = await makeApiKey()
    const key = splitApiKey(token) ?? { id: '', secret: '' }
    const facts: KeyFacts = { tenantId: 'a', scopes: [], tenantStatus: 'active', expiresMs: null }
    const readAt = clock.now()
    await cache.forget([key.id])
    await cache.keep(key, facts, readAt)
    expect(await cache.find(key)).toBeUndefined()
    const [name = ''] = await raw.keys('tributary:key:*')
    // Whatever was read before is too old when Redis has forgotten the revocation.
    expect(await raw.pttl(name)).toBeGreaterThan(6_000)
    await raw.flushall()
    clock.forward(5_000)
    await cache.keep(key, facts, readAt)
    expect(await cache.find(key)).toBeUndefined()
  })

  test('a rotated key, and the keys of a tenant that is suspended, resumed or offboarded, are looked up again at once', async () => {
    const t = await plane.tenant()
    const app = isolate()
    const old = await plane.key(t.id)
    await warm(app, old)
    const { id } = splitApiKey(old) ?? {}
    expect((await mutate(app, 'rotateApiKey', { id }, t.token)).errors).toEqual([])
    expect((await viewer(app, old)).status).toBe(401)
    await warm(app, t.token)
    const scopes = async (): Promise<string[]> => (await viewer(app, t.token)).data.viewer.scopes
    const all = (await scopes()).length
    const ofPlatform = async (mutation: string): Promise<void> => {
      const document = `mutation ($i: TenantLifeInput!) { ${mutation}(input: $i) { errors { code } } }`
      const variables = { i: { tenantId: t.id } }
      expect((await plane.query(document, { token: plane.platformToken, variables, app })).errors).toEqual([])
    }
    await ofPlatform('suspendTenant')
    expect((await scopes()).length).toBeLessThan(all)
    await raw.flushall()
    await warm(app, t.token)
    await ofPlatform('resumeTenant')
    expect(await scopes()).toHaveLength(all)
    await raw.flushall()
    await warm(app, t.token)
    await mutate(isolate(), 'offboardTenant', { tenantId: t.id }, plane.platformToken)
    expect((await viewer(app, t.token)).status).toBe(401)
  })

  test('where Redis does not hear of it, a revocation counts after 5 s', async () => {
    const t = await plane.tenant()
    const victim = await plane.key(t.id)
    const app = isolate()
    await warm(app, victim)
    const { id } = splitApiKey(victim) ?? {}
    // Revoked by a process that has no Redis.
    await mutate(plane.app, 'revokeApiKey', { id }, t.token)
    expect((await viewer(app, victim)).status).toBe(200)
    clock.forward(5_000)
    expect((await viewer(app, victim)).status).toBe(401)
  })

  test('a key that ends while it is remembered is refused from its end on', async () => {
    const t = await plane.tenant()
    const short = await plane.key(t.id, { expiresAt: new Date(clock.now().getTime() + 3_000) })
    const app = isolate()
    await warm(app, short)
    clock.forward(3_000)
    expect((await viewer(app, short)).status).toBe(401)
  })

  test('the right id with a wrong secret is nobody, remembered or not', async () => {
    const t = await plane.tenant()
    const app = isolate()
    await warm(app, t.token)
    const forged = `${splitApiKey(t.token)?.id}.${'0'.repeat(64)}`
    expect((await viewer(app, forged)).status).toBe(401)
    expect((await viewer(app, t.token)).status).toBe(200)
  })

  test("a Redis that answers with another tenant's entry, an old or a changed one gives nobody anything", async () => {
    const [a, b] = [await plane.tenant(), await plane.tenant()]
    const app = isolate()
    await warm(app, b.token)
    const [ofB = ''] = await remembered()
    await raw.flushall()
    await warm(app, a.token)
    const [ofA = ''] = await remembered()
    const [signature = '', id = '', ...text] = ofA.split(' ')
    const unsigned = text.join(' ').replace(a.id, b.id)
    const revoked = await plane.key(a.id, { revokedAt: clock.now() })
    const stranger = (await makeApiKey()).token
    const lies = [
      ofB,
      `${signature} ${id} ${unsigned}`,
      `${signature} nokey ${text.join(' ')}`,
      `${signature} constructor ${text.join(' ')}`,
      `${'0'.repeat(64)} ${id} ${text.join(' ')}`,
      `${signature} ${id} {}`,
      `${signature}${ofA}`,
      'x'.repeat(100_000),
      '',
      '-',
      null,
      7,
      ['x'],
    ]
    for (const lie of lies) {
      bridge.lie = (words, result) => (words[0] === 'GET' ? lie : result)
      transactions = 0
      expect((await viewer(app, a.token)).data.viewer.tenantId).toBe(a.id)
      expect(transactions).toBeGreaterThan(0)
      for (const token of [revoked, stranger]) expect((await viewer(app, token)).status).toBe(401)
    }
    // Shown again after its time, and dated ahead of it.
    bridge.lie = (words, result) => (words[0] === 'GET' ? ofA : result)
    transactions = 0
    await viewer(app, a.token)
    expect(transactions).toBe(0)
    clock.forward(5_000)
    await viewer(app, a.token)
    expect(transactions).toBe(1)
    clock.forward(-7_000)
    await viewer(app, a.token)
    expect(transactions).toBe(2)
    clock.forward(2_000)
  })

  test.each(['drop', 'fail', 'silent'] as const)(
    '%s: keys are looked up in the database, and revoked all the same',
    async (trouble) => {
      const t = await plane.tenant()
      const victim = await plane.key(t.id)
      // Its own lines: what an isolate before it does after its answer may meet the trouble, too.
      const logged: string[] = []
      const app = isolate(upstashRedis(bridge), logInto(logged))
      bridge.trouble = trouble
      expect((await viewer(app, victim)).status).toBe(200)
      const { id } = splitApiKey(victim) ?? {}
      expect((await mutate(app, 'revokeApiKey', { id }, t.token)).data.revokeApiKey.errors).toEqual([])
      expect((await viewer(app, victim)).status).toBe(401)
      expect(logged.filter((line) => line.includes('key_cache.lost'))).toHaveLength(1)
      expect(logged.join('\n')).not.toContain(splitApiKey(victim)?.secret)
    },
  )

  test('an entry that another platform key signed is none', async () => {
    const { token } = await makeApiKey()
    const key = splitApiKey(token) ?? { id: '', secret: '' }
    const facts: KeyFacts = { tenantId: 'a', scopes: ['x'], tenantStatus: 'active', expiresMs: null }
    const foreign = signingKeys({ current: 'k1', keys: { k1: btoa('another key of thirty-two bytes!') } })
    const theirs = redisKeyCache(patient(), { signing: foreign, clock, log })
    await theirs.keep(key, facts, clock.now())
    expect(await theirs.find(key)).toEqual(facts)
    expect(await cacheOf().find(key)).toBeUndefined()
  })
})
