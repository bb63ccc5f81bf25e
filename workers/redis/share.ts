import type { Clock } from '../../shared/clock.ts'
import type { Log } from '../../shared/log.ts'
import { redisHub } from '../../shared/redis/hub.ts'
import { type Redis, restful } from '../../shared/redis/redis.ts'
import { liveSecrets } from '../../shared/redact.ts'
import type { Hub } from '../../shared/waking/hub.ts'
import type { Metric } from '../health/metrics.ts'
import { openRedis } from './ioredis.ts'

/** What a process shares with others over Redis. */
export type Shared = {
  hub: Hub
  redis: Redis | undefined
  /** Whether Redis answers; nothing where there is none. */
  metrics(): Metric[]
  close(): Promise<void>
}

/**
 * Hints over the Redis of `url`, or over `hub` where there is none: all processes of a deployment are given the same. It
 * starts without Redis, too, and finds it later.
 */
export function shareOver(url: string | undefined, hub: Hub, ports: { clock: Clock; log: Log }): Shared {
  if (url === undefined) return { hub, redis: undefined, metrics: () => [], close: async () => undefined }
  liveSecrets.guard(decodeURIComponent(new URL(url).password))
  const opened = openRedis(url, ports)
  const redis = restful(opened.redis, ports.clock)
  const over = redisHub(redis, ports)
  return {
    hub: over,
    redis,
    metrics: () => [
      {
        name: 'redis_up',
        help: '1 while Redis answers; without it nobody is limited, and events are up to 5 s late.',
        type: 'gauge',
        values: { '': opened.isConnected() ? 1 : 0 },
      },
    ],
    async close() {
      await over.close()
      await opened.close()
    },
  }
}
