import type { Clock } from '../clock.ts'
import { describeError, type Log, rarely } from '../log.ts'
import { type Hub, inProcessHub, type Topic } from '../waking/hub.ts'
import type { Redis } from './redis.ts'

// A watcher that reads what it was woken for is back in a moment.
const lingerMs = 10_000
const publishMs = 2_000
const publishesAtOnce = 32
const publishesMax = 20_000
const retryMs = { first: 100, most: 5_000 }

/**
 * Hints between processes over Redis. Each tenant has a channel of its own, heard only while somebody here watches it; on
 * it go ids alone. A subscription that breaks comes again by itself, and then all watchers of its tenant look. Hints of
 * this hub reach it without the detour, whether Redis is there or not.
 *
 * `close` sends what is still to be said, within 2 s, and listens no more. Where connections belong to requests, so does a hub.
 */
export function redisHub(redis: Redis, { clock, log }: { clock: Clock; log: Log }): Hub & { close(): Promise<void> } {
  const origin = crypto.randomUUID().slice(0, 8)
  const closing = new AbortController()
  const channels = new Map<string, Channel>()
  const waiting = new Set<string>()
  const failed = rarely(clock)
  let sending: Promise<void> | undefined

  const say = (error: unknown): void => failed((times) => log.warn('hub.lost', { times, error: describeError(error) }))

  // What comes while some are on their way goes with the next; a hint that is doubled goes once.
  async function drain(): Promise<void> {
    await Promise.resolve()
    while (waiting.size > 0) {
      const batch = [...waiting].slice(0, publishesAtOnce)
      for (const one of batch) waiting.delete(one)
      await Promise.all(
        batch.map((one) => {
          const [tenantId = '', runId = ''] = one.split('\n')
          return redis.command(['PUBLISH', channelOf(tenantId), `${origin} ${runId}`], { timeoutMs: publishMs })
        }),
      ).catch((error: unknown) => {
        // The rows are the truth: whoever missed a hint looks again within seconds.
        waiting.clear()
        say(error)
      })
    }
  }

  function open(tenantId: string): Channel {
    const local = inProcessHub()
    const over = new AbortController()
    const end = AbortSignal.any([over.signal, closing.signal])
    const message = (text: string): void => {
      const [from, runId = ''] = text.split(' ')
      if (from !== origin) local.notify(topicOf(tenantId, runId))
    }
    const listen = async (): Promise<void> => {
      let pauseMs = retryMs.first
      while (!end.aborted) {
        const ready = (): void => {
          pauseMs = retryMs.first
          // What was said before somebody listened is found by looking.
          local.notifyAll()
        }
        await redis.subscribe(channelOf(tenantId), { ready, message }, end).catch(say)
        if (end.aborted) return
        await clock.sleep(pauseMs * (0.5 + Math.random() / 2), end)
        pauseMs = Math.min(retryMs.most, pauseMs * 2)
      }
    }
    const leave = (): void => {
      over.abort()
      if (channels.get(tenantId) === made) channels.delete(tenantId)
    }
    const made: Channel = { local, watchers: 0, timer: undefined, leave, listening: listen() }
    channels.set(tenantId, made)
    return made
  }

  return {
    notify(topic) {
      const { tenantId, runId = '' } = topic
      channels.get(tenantId)?.local.notify(topic)
      if (waiting.size >= publishesMax) return
      waiting.add(`${tenantId}\n${runId}`)
      sending ??= drain().finally(() => (sending = undefined))
    },
    async wait(topic, ms, signal) {
      const channel = channels.get(topic.tenantId) ?? open(topic.tenantId)
      clearTimeout(channel.timer)
      channel.watchers++
      try {
        await channel.local.wait(topic, ms, signal)
      } finally {
        channel.watchers--
        if (channel.watchers === 0)
          if (closing.signal.aborted) channel.leave()
          else channel.timer = setTimeout(channel.leave, lingerMs)
      }
    },
    async close() {
      closing.abort()
      await sending
      const open = [...channels.values()]
      for (const { timer, leave } of open) {
        clearTimeout(timer)
        leave()
      }
      await Promise.all(open.map(({ listening }) => listening))
    },
  }
}

type Channel = {
  local: ReturnType<typeof inProcessHub>
  watchers: number
  timer: ReturnType<typeof setTimeout> | undefined
  leave(): void
  listening: Promise<void>
}

const channelOf = (tenantId: string): string => `tributary:look:${tenantId}`

const topicOf = (tenantId: string, runId: string): Topic => (runId === '' ? { tenantId } : { tenantId, runId })
