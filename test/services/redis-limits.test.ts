import { randomBytes } from 'node:crypto'
import { Redis as Client } from 'ioredis'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { systemClock } from '../../shared/clock.ts'
import { inProcessRateLimit, type RateLimit } from '../../shared/rate-limit.ts'
import { redisRateLimit } from '../../shared/redis/rate-limit.ts'
import { type Redis, restful } from '../../shared/redis/redis.ts'
import { upstashRedis } from '../../shared/redis/upstash.ts'
import { signingKeys } from '../../shared/secrets/signing-keys.ts'
import { type OpenRedis, openRedis } from '../../workers/redis/ioredis.ts'
import { bucketsOf, clockAt, rateLimitContract, sameAnswers } from '../contracts/rate-limit.ts'
import { until } from '../support/control-plane.ts'
import { startRedis } from '../support/redis.ts'
import { type RedisBridge, startRedisBridge } from '../support/redis-bridge.ts'

const server = await startRedis()
const left = 'skipped' in server ? `, left out: ${server.skipped}` : ''
const signing = signingKeys({ current: 'k1', keys: { k1: randomBytes(32).toString('base64') } })
const silentLog = { info: () => undefined, warn: () => undefined, error: () => undefined }
const few = { runs: 5, calls: 40 }

describe.skipIf(left !== '')(`limits in a Redis${left}`, () => {
  let opened: OpenRedis
  let bridge: RedisBridge
  let raw: Client
  beforeAll(async () => {
    if ('skipped' in server) return
    opened = openRedis(server.url, { clock: systemClock, log: silentLog })
    bridge = await startRedisBridge(server.url)
    raw = new Client(server.url)
    await until('it is connected', () => opened.isConnected())
  })
  afterAll(async () => {
    await opened.close()
    await bridge[Symbol.asyncDispose]()
    raw.disconnect()
    if ('stop' in server) await server.stop()
  })
  const ways: [string, () => Redis][] = [
    ['ioredis', () => opened.redis],
    ['Upstash', () => upstashRedis(bridge)],
  ]

  describe.each(ways)('by %s', (_, redis) => {
    rateLimitContract((clock) => redisRateLimit(redis(), signing, clock), few)
    sameAnswers(
      (clock) => redisRateLimit(redis(), signing, clock),
      (clock) => inProcessRateLimit(clock),
      few,
    )
  })

  test('both ways count the same points, by the clock of the server', async () => {
    const { tenant, key } = bucketsOf()
    const [one, other] = ways.map(([, redis]): RateLimit => redisRateLimit(redis(), signing))
    await one?.take([tenant, key], 20)
    expect((await other?.take([key], 0))?.remaining).toBeLessThanOrEqual(11)
    const standing = await other?.take([tenant], 0)
    expect(Math.abs((standing?.resetsAt.getTime() ?? 0) - Date.now() - 20_000)).toBeLessThan(5_000)
  })

  test('one call is one command, however many buckets it takes from', async () => {
    const limit = redisRateLimit(upstashRedis(bridge), signing)
    const { tenant, key } = bucketsOf()
    await limit.take([tenant, key], 1)
    bridge.asked.length = 0
    await limit.take([tenant, key], 1)
    expect(bridge.asked).toEqual(['EVALSHA'])
  })

  test('a server that has forgotten the script is told it again', async () => {
    const limit = redisRateLimit(opened.redis, signing)
    const { tenant } = bucketsOf()
    await limit.take([tenant], 1)
    await raw.script('FLUSH')
    expect(await limit.take([tenant], 1)).toMatchObject({ isAllowed: true })
  })

  test('keys say whose they are and nothing else, and are gone a minute later', async () => {
    await raw.flushall()
    const limit = redisRateLimit(opened.redis, signing)
    const { tenant, key } = bucketsOf()
    await limit.take([tenant, { ...key, name: 'key_secretname' }], 5)
    await limit.take([{ kind: 'address', name: '203.0.113.7', pointsPerMinute: 10 }], 1)
    // What was only asked for, or refused, leaves nothing.
    await limit.take([{ kind: 'address', name: '203.0.113.8', pointsPerMinute: 10 }], 0)
    const keys = await raw.keys('*')
    expect(keys.toSorted()).toEqual([
      expect.stringMatching(new RegExp(`^tributary:\\{${tenant.tenantId}\\}:limit:key:[0-9a-f]{32}$`)),
      expect.stringMatching(new RegExp(`^tributary:\\{${tenant.tenantId}\\}:limit:tenant:[0-9a-f]{32}$`)),
      expect.stringMatching(/^tributary:\{\}:limit:address:[0-9a-f]{32}$/),
    ])
    for (const name of keys) {
      expect(await raw.pttl(name)).toBeGreaterThan(55_000)
      expect(await raw.pttl(name)).toBeLessThanOrEqual(61_000)
      expect(await raw.get(name)).toMatch(/^[\d.e+-]+ \d+$/)
    }
  })

  test('what stands there instead of a level counts as a full bucket', async () => {
    await raw.flushall()
    const limit = redisRateLimit(opened.redis, signing, clockAt(5_000))
    const { tenant } = bucketsOf()
    await limit.take([tenant], 60)
    const [name = ''] = await raw.keys('*')
    for (const garbage of ['', 'x y', '1', '1 2 3', '[]']) {
      await raw.set(name, garbage)
      expect(await limit.take([tenant], 0)).toMatchObject({ remaining: 60 })
    }
    await raw.set(name, '-1e300 1e300')
    expect(await limit.take([tenant], 1)).toMatchObject({ isAllowed: false, remaining: 0 })
  })

  test('an answer that is none is an error, and never a limit', async () => {
    const limit = redisRateLimit(upstashRedis(bridge), signing)
    const { tenant, key } = bucketsOf()
    for (const answer of ['OK', [], ['1'], ['1', 'x', '2'], ['1', '2'], ['1', '2', '3', '4'], null, { a: 1 }]) {
      bridge.lie = () => answer
      await expect(limit.take([tenant, key], 1)).rejects.toThrow(/expected|other buckets/)
    }
    bridge.lie = undefined
  })

  test.each([
    ['drop', 'fetch failed'],
    ['silent', /within 250 ms|timeout/],
    ['fail', 'ERR internal'],
  ] as const)('%s: it fails within 250 ms, and takes nothing twice', async (trouble, why) => {
    const limit = redisRateLimit(upstashRedis(bridge), signing)
    const { tenant } = bucketsOf()
    await limit.take([tenant], 1)
    bridge.trouble = trouble
    const begun = performance.now()
    await expect(limit.take([tenant], 1)).rejects.toThrow(why)
    expect(performance.now() - begun).toBeLessThan(5_000)
    bridge.trouble = undefined
    expect((await limit.take([tenant], 0)).remaining).toBeGreaterThanOrEqual(59)
  })

  test('one that stands still fails in time by a connection, too, and answers again when it goes on', async () => {
    if ('skipped' in server) return
    const limit = redisRateLimit(opened.redis, signing)
    const { tenant } = bucketsOf()
    await limit.take([tenant], 1)
    server.pause()
    try {
      const begun = performance.now()
      await expect(limit.take([tenant], 1)).rejects.toThrow('within 250 ms')
      expect(performance.now() - begun).toBeLessThan(5_000)
    } finally {
      server.resume()
    }
    expect(await limit.take([tenant], 1)).toMatchObject({ isAllowed: true })
  })

  test('one that is away is left alone after three failures, and asked again after a second', async () => {
    const clock = clockAt()
    const redis = restful(upstashRedis(bridge), clock)
    const limit = redisRateLimit(redis, signing)
    const { tenant } = bucketsOf()
    bridge.trouble = 'fail'
    for (let i = 0; i < 3; i++) await expect(limit.take([tenant], 1)).rejects.toThrow('ERR internal')
    bridge.trouble = undefined
    await expect(limit.take([tenant], 1)).rejects.toThrow('left alone')
    clock.forward(1_001)
    expect(await limit.take([tenant], 1)).toMatchObject({ isAllowed: true })
  })

  test('what Redis refuses says its words, and not the command that held the keys', async () => {
    for (const [, redis] of ways) {
      const refused = redis().command(['INCRBYFLOAT', 'a-key-of-mine', 'x'])
      await expect(refused).rejects.toThrow(/^ERR value is not a valid float$/)
    }
  })
})

// The real service, when its address and token are there.
const { UPSTASH_REDIS_REST_URL: url = '', UPSTASH_REDIS_REST_TOKEN: token = '' } = process.env
const unnamed = url === '' || token === '' ? ', left out: no UPSTASH_REDIS_REST_URL and UPSTASH_REDIS_REST_TOKEN' : ''
describe.skipIf(unnamed !== '')(`limits in Upstash itself${unnamed}`, () => {
  rateLimitContract((clock) => redisRateLimit(patient(upstashRedis({ url, token })), signing, clock), {
    runs: 2,
    calls: 20,
  })
})

// What is proven there is what it answers; how fast depends on where the test runs.
const patient = (redis: Redis): Redis => ({
  ...redis,
  command: (words, options) => redis.command(words, { ...options, timeoutMs: 10_000 }),
})
