import { Redis as Client } from 'ioredis'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { systemClock } from '../../shared/clock.ts'
import { redisHub } from '../../shared/redis/hub.ts'
import { upstashRedis } from '../../shared/redis/upstash.ts'
import type { Hub } from '../../shared/waking/hub.ts'
import { type OpenRedis, openRedis } from '../../workers/redis/ioredis.ts'
import { hubContract, type Pair, watch } from '../contracts/hub.ts'
import { until } from '../support/control-plane.ts'
import { startRedis } from '../support/redis.ts'
import { type RedisBridge, startRedisBridge } from '../support/redis-bridge.ts'

const server = await startRedis()
const left = 'skipped' in server ? `, left out: ${server.skipped}` : ''
const logged: string[] = []
const say = (event: string, fields?: object): void => void logged.push(`${event} ${JSON.stringify(fields)}`)
const ports = { clock: systemClock, log: { info: say, warn: say, error: say } }
const run = { tenantId: 'acme', runId: 'run_1' }

describe.skipIf(left !== '')(`hints over a Redis${left}`, () => {
  let opened: OpenRedis
  let bridge: RedisBridge
  let raw: Client
  const hubs: ReturnType<typeof redisHub>[] = []
  beforeAll(async () => {
    if ('skipped' in server) return
    opened = openRedis(server.url, ports)
    bridge = await startRedisBridge(server.url)
    raw = new Client(server.url).on('error', () => undefined)
    await until('it is connected', () => opened.isConnected())
  })
  afterEach(async () => {
    await Promise.all(hubs.splice(0).map((hub) => hub.close()))
  })
  afterAll(async () => {
    await opened.close()
    await bridge[Symbol.asyncDispose]()
    raw.disconnect()
    if ('stop' in server) await server.stop()
  })
  const onNode = () => redisHub(opened.redis, ports)
  const onEdge = () => redisHub(upstashRedis(bridge), ports)
  const kept = <H extends ReturnType<typeof redisHub>>(hub: H): H => (hubs.push(hub), hub)
  const pairOf =
    (one: () => ReturnType<typeof redisHub>, other: () => ReturnType<typeof redisHub>) => async (): Promise<Pair> => {
      const [here, there] = [one(), other()]
      return { here, there, close: async () => void (await Promise.all([here.close(), there.close()])) }
    }

  describe('from Node to Node', () => void hubContract(pairOf(onNode, onNode)))
  describe('from Node to the edge', () => void hubContract(pairOf(onNode, onEdge)))
  describe('from the edge to Node', () => void hubContract(pairOf(onEdge, onNode)))

  const channels = async (): Promise<string[]> => {
    const found: unknown = await raw.call('PUBSUB', 'CHANNELS', 'tributary:*')
    return Array.isArray(found) ? found.map(String).toSorted() : []
  }
  const wokenBy = async (watcher: ReturnType<typeof watch>, hub: Hub): Promise<void> => {
    const before = watcher.woken()
    await until('a hint comes', () => (hub.notify(run), watcher.woken() > before))
  }

  test('only tenants that are watched are listened for, each on a channel of its own, and ids alone go over it', async () => {
    const overheard: string[] = []
    const spy = raw.duplicate().on('message', (channel: string, text: string) => overheard.push(`${channel} ${text}`))
    await spy.subscribe('tributary:look:acme', 'tributary:look:other')
    const [here, there] = [kept(onNode()), kept(onEdge())]
    const watchers = [watch(here, run), watch(there, run)]
    await until('both listen', () => watchers.every(({ woken }) => woken() > 0))
    here.notify(run)
    here.notify({ tenantId: 'other' })
    await until('the spy heard both', () => overheard.length >= 2)
    expect(overheard.toSorted()).toEqual([
      expect.stringMatching(/^tributary:look:acme [0-9a-f]{8} run_1$/),
      expect.stringMatching(/^tributary:look:other [0-9a-f]{8} $/),
    ])
    spy.disconnect()
    await until('nobody else listens', async () => (await channels()).join() === 'tributary:look:acme')
    await Promise.all(watchers.map(({ leave }) => leave()))
  })

  test('a hub that is closed leaves no subscription and no stream behind', async () => {
    const [here, there] = [onNode(), onEdge()]
    const watchers = [watch(here, run), watch(there, { tenantId: 'acme' })]
    await until('both listen', () => watchers.every(({ woken }) => woken() > 0))
    expect(bridge.streams()).toBe(1)
    await Promise.all([here.close(), there.close()])
    await until('no stream is open', () => bridge.streams() === 0)
    await until('nobody listens', async () => (await channels()).length === 0)
    await Promise.all(watchers.map(({ leave }) => leave()))
  })

  test('what is said just before a hub closes is still said', async () => {
    const watcher = watch(kept(onNode()), run)
    await until('it listens', () => watcher.woken() > 0)
    const before = watcher.woken()
    const short = onEdge()
    short.notify(run)
    await short.close()
    await until('it was heard', () => watcher.woken() > before)
    expect(watcher.woken()).toBe(before + 1)
    await watcher.leave()
  })

  test('a stream that breaks comes again, and its watchers look at once', async () => {
    const [here, there] = [kept(onNode()), kept(onEdge())]
    const watcher = watch(there, run)
    await until('it listens', () => watcher.woken() > 0)
    const before = watcher.woken()
    bridge.dropStreams()
    await until('it looks', () => watcher.woken() > before)
    await wokenBy(watcher, here)
    expect(bridge.streams()).toBe(1)
    await watcher.leave()
  })

  test('after Redis went down all listen again by themselves, and look at once', async () => {
    const [here, there] = [kept(onNode()), kept(onEdge())]
    const watchers = [watch(here, run), watch(there, run)]
    await until('both listen', () => watchers.every(({ woken }) => woken() > 0))
    if ('restart' in server)
      await server.restart(async () => {
        // Hints within a process need no Redis.
        await Promise.all([
          wokenBy(watchers[0] ?? watch(here, run), here),
          wokenBy(watchers[1] ?? watch(there, run), there),
        ])
      })
    const before = watchers.map(({ woken }) => woken())
    await until('both look', () => watchers.every(({ woken }, i) => woken() > (before[i] ?? 0)))
    for (const [watcher, hub] of [
      [watchers[0], there],
      [watchers[1], here],
    ] as const)
      if (watcher) await wokenBy(watcher, hub)
    await Promise.all(watchers.map(({ leave }) => leave()))
    expect(logged.join('\n')).toContain('hub.lost')
  })

  test('a stream that is dead without a word is made anew', async () => {
    const redis = upstashRedis(bridge, 100)
    const there = kept(redisHub(redis, ports))
    const watcher = watch(there, run)
    // Each new stream has its watchers look once.
    await until('it was made anew twice', () => watcher.woken() >= 3)
    expect(bridge.streams()).toBeLessThanOrEqual(1)
    await watcher.leave()
  })

  test('a connection that is dead without a word is found by asking, and made anew', async () => {
    if ('skipped' in server) return
    const quick = openRedis(server.url, ports, 200)
    const there = kept(redisHub(quick.redis, ports))
    const watcher = watch(there, run)
    await until('it listens', () => watcher.woken() > 0)
    server.pause()
    await until('it was found', () => !quick.isConnected())
    server.resume()
    const before = watcher.woken()
    await until('it listens again', () => watcher.woken() > before)
    await wokenBy(watcher, kept(onNode()))
    expect(quick.isConnected()).toBe(true)
    await watcher.leave()
    await quick.close()
  })

  test('what strangers say on the channels harms nothing and reaches no other tenant', async () => {
    const there = kept(onEdge())
    const [mine, other] = [watch(there, run), watch(there, { tenantId: 'other' })]
    await until('both are listened for', () => mine.woken() + other.woken() === 2)
    for (const text of [
      '',
      ' ',
      'x',
      'x run_2 run_1',
      'x other\nrun_1',
      `x ${'y'.repeat(60_000)}`,
      'x run_1,message,tributary:look:other,x ',
    ])
      await raw.publish('tributary:look:acme', text)
    await raw.publish('tributary:look:acme', 'x run_1')
    await until('the hint after them is heard', () => mine.woken() > 1)
    expect(other.woken()).toBe(1)
    await Promise.all([mine.leave(), other.leave()])
  })
})

// The real service, when its address and token are there.
const { UPSTASH_REDIS_REST_URL: url = '', UPSTASH_REDIS_REST_TOKEN: token = '' } = process.env
const unnamed = url === '' || token === '' ? ', left out: no UPSTASH_REDIS_REST_URL and UPSTASH_REDIS_REST_TOKEN' : ''
describe.skipIf(unnamed !== '')(`hints over Upstash itself${unnamed}`, () => {
  const one = () => redisHub(upstashRedis({ url, token }), ports)
  hubContract(async () => {
    const [here, there] = [one(), one()]
    return { here, there, close: async () => void (await Promise.all([here.close(), there.close()])) }
  })
})
