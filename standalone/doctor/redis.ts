import { describeError } from '../../shared/log.ts'
import { type Redis, RedisRefusal, redisScript } from '../../shared/redis/redis.ts'
import { upstashRedis } from '../../shared/redis/upstash.ts'
import { openRedis } from '../../workers/redis/ioredis.ts'
import { type Check, fail, type Finding, ok, warn } from './finding.ts'
import type { House } from './house.ts'

const timeoutMs = 3_000
const silentLog = { info: () => undefined, warn: () => undefined, error: () => undefined }
const script = redisScript(`return redis.call('GET', KEYS[1])`)

/** Redis answers, is new enough, and lets the login do all that the product does with it. */
export const redis: Check = {
  name: 'redis',
  concerns: ({ redisUrl, upstash }) => redisUrl !== undefined || upstash !== undefined,
  async look(house, signal) {
    const { redis, close, isUp } = open(house, signal)
    try {
      await isUp()
      await redis.command(['PING'], { timeoutMs, signal })
    } catch (error) {
      await close()
      return fail(`It does not answer: ${describeError(error)}`, todoFor(error, house))
    }
    try {
      return await rightsOf(redis, signal)
    } finally {
      await close()
    }
  },
}

function open(house: House, signal: AbortSignal): { redis: Redis; isUp(): Promise<void>; close(): Promise<void> } {
  if (house.upstash)
    return { redis: upstashRedis(house.upstash), isUp: async () => undefined, close: async () => undefined }
  let said: unknown
  const warned = (_event: string, fields: Record<string, unknown> = {}): void => void (said = fields['error'])
  const opened = openRedis(house.redisUrl ?? '', { clock: house.clock, log: { ...silentLog, warn: warned } })
  return {
    redis: opened.redis,
    close: opened.close,
    async isUp() {
      const until = performance.now() + timeoutMs
      while (!opened.isConnected()) {
        if (said !== undefined || performance.now() > until)
          throw new Error(String(said ?? `nothing in ${timeoutMs} ms`))
        await house.clock.sleep(20, signal)
      }
    },
  }
}

async function rightsOf(redis: Redis, signal: AbortSignal): Promise<Finding[]> {
  const key = `tributary:{doctor}:${crypto.randomUUID()}`
  const ask = (...words: [string, ...(string | number)[]]) => redis.command(words, { timeoutMs, signal })
  const needed: [what: string, does: () => Promise<unknown>][] = [
    ['SET', () => ask('SET', key, '1', 'PX', 3_000)],
    ['GET', () => ask('GET', key)],
    ['TIME', () => ask('TIME')],
    ['EVAL and EVALSHA', () => script.run(redis, [key], [], { timeoutMs, signal })],
    ['PUBLISH', () => ask('PUBLISH', 'tributary:doctor', '1')],
    ['SUBSCRIBE', () => listens(redis, signal)],
  ]
  const refused: string[] = []
  for (const [what, does] of needed) {
    try {
      await does()
    } catch (error) {
      refused.push(`${what} (${error instanceof RedisRefusal ? error.message.split(' ')[0] : 'no answer'})`)
    }
  }
  if (refused.length > 0)
    return [
      fail(
        `It does not let this login ${refused.join(', ')}.`,
        'Grant ~tributary:* &tributary:* and the commands that docs/self-host.md lists.',
      ),
    ]
  const info = await ask('INFO', 'server').then(String, () => '')
  const version = /redis_version:(\d+)\.(\d+)/.exec(info)
  const isOld = version !== null && Number(version[1]) * 100 + Number(version[2]) < 602
  return isOld
    ? [warn(`It is of version ${version[1]}.${version[2]}.`, 'Use Redis 6.2 or newer, or Valkey.')]
    : [
        ok(
          `It answers${version ? `, version ${version[1]}.${version[2]}` : ''}, and lets this login do what is needed.`,
        ),
      ]
}

async function listens(redis: Redis, signal: AbortSignal): Promise<void> {
  const end = new AbortController()
  let isReady = false
  const ready = { ready: () => void ((isReady = true), end.abort()), message: () => undefined }
  await redis.subscribe(
    'tributary:doctor',
    ready,
    AbortSignal.any([end.signal, signal, AbortSignal.timeout(timeoutMs)]),
  )
  if (!isReady) throw new Error('no answer')
}

function todoFor(error: unknown, { upstash }: House): string {
  const text = describeError(error)
  if (/WRONGPASS|NOAUTH|invalid username|Unauthorized/i.test(text))
    return upstash ? 'Correct UPSTASH_REDIS_REST_TOKEN.' : 'Correct user and password in REDIS_URL.'
  return upstash
    ? 'Check UPSTASH_REDIS_REST_URL, and that this machine reaches it.'
    : 'Start the server, or correct REDIS_URL; processes run without it, and limit nobody meanwhile.'
}
