import { z } from 'zod'
import type { Clock } from '../clock.ts'
import { type Bucket, type RateLimit, standingOf } from '../rate-limit.ts'
import type { SigningKeys } from '../secrets/signing-keys.ts'
import { type Redis, redisScript } from './redis.ts'

// A bucket that nobody took from for a minute is full again whatever its size: Redis may then forget it.
const keptMs = 61_000

// One call does all buckets or none, by the server's clock; KEYS and the limits from ARGV[4] on go together. A bucket
// that is not there, or not readable, is full. Only what is taken is written: levels rise by themselves.
const script = redisScript(`
local now = tonumber(ARGV[1])
if now == nil then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end
local points = tonumber(ARGV[2])
local found, allowed = {}, true
for i, key in ipairs(KEYS) do
  local limit = tonumber(ARGV[i + 3])
  local has, at = limit, now
  local level = redis.call('GET', key)
  if level then
    local kept, since = string.match(level, '^(%S+) (%S+)$')
    kept, since = tonumber(kept), tonumber(since)
    if kept and since then
      at = math.max(now, since)
      has = math.min(limit, kept + (at - since) * limit / 60000)
    end
  end
  found[i] = { has, at }
  if has < math.min(points, limit) then allowed = false end
end
local answer = { string.format('%.17g', now) }
for i, key in ipairs(KEYS) do
  answer[i + 1] = string.format('%.17g', found[i][1])
  if allowed and points > 0 then
    local left = found[i][1] - math.min(points, tonumber(ARGV[i + 3]))
    redis.call('SET', key, string.format('%.17g %.17g', left, found[i][2]), 'PX', ARGV[3])
  end
end
return answer`)

/**
 * Limits that all who share a Redis count together, in one round trip. Keys name a tenant and nothing else in the clear,
 * and are gone a minute after their last use. `clock` takes the place of the server's own time. Rejects when Redis does not answer
 * within 250 ms, or not as it should.
 */
export function redisRateLimit(redis: Redis, signing: SigningKeys, clock?: Pick<Clock, 'now'>): RateLimit {
  return {
    async take(buckets, points, signal) {
      const { key } = await signing.current('limit')
      const names = await Promise.all(buckets.map((bucket) => nameOf(key, bucket)))
      const limits = buckets.map(({ pointsPerMinute }) => pointsPerMinute)
      const now = clock ? clock.now().getTime() : ''
      const answer = await script.run(redis, names, [now, points, keptMs, ...limits], { signal })
      const [at = 0, ...levels] = answerShape.parse(answer)
      if (levels.length !== buckets.length) throw new Error('Redis answered for other buckets than were asked for')
      const [first, ...others] = buckets.map((bucket, i) => ({
        bucket,
        has: Math.min(bucket.pointsPerMinute, Math.max(0, levels[i] ?? 0)),
      }))
      if (!first) throw new Error('no bucket was asked for')
      return standingOf([first, ...others], points, at)
    },
  }
}

const answerShape = z.array(z.string().max(40).pipe(z.coerce.number())).min(2)

// The tenant in braces: a cluster keeps together what one call takes from. Names may be addresses, which are personal.
async function nameOf(key: CryptoKey, { kind, tenantId = '', name }: Bucket): Promise<string> {
  const text = new TextEncoder().encode(JSON.stringify([kind, tenantId, name]))
  const mac = new Uint8Array(await crypto.subtle.sign('HMAC', key, text)).subarray(0, 16)
  return `tributary:{${tenantId}}:limit:${kind}:${Array.from(mac, (byte) => byte.toString(16).padStart(2, '0')).join('')}`
}
