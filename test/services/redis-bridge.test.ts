import { Redis } from '@upstash/redis'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { until } from '../support/control-plane.ts'
import { startRedis } from '../support/redis.ts'
import { type RedisBridge, startRedisBridge } from '../support/redis-bridge.ts'

const server = await startRedis()
const left = 'skipped' in server ? `, left out: ${server.skipped}` : ''
const { UPSTASH_REDIS_REST_URL: url = '', UPSTASH_REDIS_REST_TOKEN: token = '' } = process.env
const unnamed = url === '' || token === '' ? ', left out: no UPSTASH_REDIS_REST_URL and UPSTASH_REDIS_REST_TOKEN' : ''

// What the service does for its own client: the stand-in and the real one alike.
function serves(open: () => { url: string; token: string }): void {
  const mine = crypto.randomUUID()
  const name = (key: string): string => `test:${mine}:${key}`
  const client = (more: object = {}): Redis => new Redis({ ...open(), retry: false, ...more })

  test('values come back as they were, whatever the encoding of the answer', async () => {
    for (const responseEncoding of ['base64', false] as const) {
      const redis = client({ responseEncoding, automaticDeserialization: false })
      for (const value of ['OK', 'plain', 'ünïcödé 🦉', '', '12', '"quoted"', 'a\r\nb'])
        expect([await redis.set(name('v'), value, { ex: 60 }), await redis.get(name('v'))]).toEqual(['OK', value])
      expect(await redis.get(name('absent'))).toBeNull()
      expect(await redis.incrby(name('n'), 3)).toBe(responseEncoding === 'base64' ? 3 : 6)
      expect(await redis.mget(name('v'), name('absent'), name('n'))).toEqual(['a\r\nb', null, expect.anything()])
    }
  })

  test('a pipeline is done in order, a transaction at once, and the answers of both are in order', async () => {
    const redis = client()
    const piped = redis.pipeline().set(name('p'), 1, { ex: 60 }).incr(name('p')).get(name('p'))
    expect(await piped.exec()).toEqual(['OK', 2, 2])
    const multi = redis.multi().incr(name('p')).incr(name('p'))
    expect(await multi.exec()).toEqual([3, 4])
  })

  test('scripts run by text and by hash, and one that is not known is refused by name', async () => {
    const redis = client({ automaticDeserialization: false })
    const script = `return { KEYS[1], ARGV[1], '${mine}' }`
    const hash = redis.createScript(script)
    await expect(redis.evalsha('0'.repeat(40), [], [])).rejects.toThrow(/NOSCRIPT/)
    expect(await redis.eval(script, [name('k')], ['x'])).toEqual([name('k'), 'x', mine])
    expect(await hash.exec([name('k')], ['y'])).toEqual([name('k'), 'y', mine])
  })

  test('what it refuses and who it does not know are errors', async () => {
    await client().set(name('s'), 'text', { ex: 60 })
    await expect(client().lpush(name('s'), 1)).rejects.toThrow('WRONGTYPE')
    await expect(new Redis({ ...open(), token: 'wrong', retry: false }).get('x')).rejects.toThrow(
      /WRONGPASS|Unauthorized/,
    )
  })

  test('subscribers hear what is published on their channel and by their pattern', async () => {
    const heard: unknown[] = []
    const one = client().subscribe<string>(name('c'))
    const all = client().psubscribe<string>(`test:${mine}:*`)
    let listening = 0
    one.on('subscribe', () => void listening++)
    all.on('psubscribe', () => void listening++)
    one.on('message', ({ channel, message }) => void heard.push(['one', channel, message]))
    all.on('pmessage', ({ channel, message }) => void heard.push(['all', channel, message]))
    // The library says nothing of patterns in words; a message that comes through says it.
    await until('both listen', async () => {
      await client().publish(name('d'), '"first"')
      return listening >= 1 && heard.length > 0
    })
    heard.length = 0
    await client().publish(name('c'), '"hello, there"')
    await until('both heard it', () => heard.filter((one) => JSON.stringify(one).includes('hello')).length === 2)
    expect(heard).toContainEqual(['one', name('c'), 'hello, there'])
    await Promise.all([one.unsubscribe(), all.unsubscribe()])
  })
}

describe.skipIf(left !== '')(`the stand-in for Upstash, held to its own client${left}`, () => {
  let bridge: RedisBridge
  beforeAll(async () => {
    if ('url' in server) bridge = await startRedisBridge(server.url)
  })
  afterAll(async () => {
    await bridge[Symbol.asyncDispose]()
    if ('stop' in server) await server.stop()
  })
  serves(() => bridge)

  test('commands are taken from the path, too', async () => {
    const get = async (path: string): Promise<unknown> =>
      (await fetch(`${bridge.url}${path}`, { headers: { authorization: `Bearer ${bridge.token}` } })).json()
    expect(await get('/set/a%20key/b')).toEqual({ result: 'OK' })
    expect(await get('/get/a%20key')).toEqual({ result: 'b' })
  })

  test('latency is what it is set to', async () => {
    bridge.latencyMs = 80
    const begun = performance.now()
    await new Redis({ ...bridge, retry: false }).ping()
    expect(performance.now() - begun).toBeGreaterThanOrEqual(75)
    bridge.latencyMs = 0
  })
})

describe.skipIf(unnamed !== '')(`Upstash itself${unnamed}`, () => void serves(() => ({ url, token })))
