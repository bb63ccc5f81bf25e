import { Redis as Client, type RedisOptions } from 'ioredis'
import type { Clock } from '../../shared/clock.ts'
import { describeError, type Log, rarely } from '../../shared/log.ts'
import { commandMs, type Heard, type Redis, RedisRefusal } from '../../shared/redis/redis.ts'
import { within } from '../../shared/within.ts'

/** An open Redis. */
export type OpenRedis = {
  redis: Redis
  /** False while it is away; then commands reject at once. */
  isConnected(): boolean
  close(): Promise<void>
}

const retryMs = { first: 100, most: 5_000 }

/**
 * Opens the Redis of `url` over two connections, one of which listens. They come by themselves, again after each break,
 * 0.1 s later and then later each time, up to 5 s. A connection that is dead without a word is found after twice
 * `askEveryMs` at the latest.
 */
export function openRedis(url: string, { clock, log }: { clock: Clock; log: Log }, askEveryMs = 10_000): OpenRedis {
  const options: RedisOptions = {
    connectTimeout: 10_000,
    // One that is dead answers no farewell.
    disconnectTimeout: 200,
    retryStrategy: (times) =>
      Math.min(retryMs.most, retryMs.first * 2 ** Math.min(times - 1, 10)) * (0.5 + Math.random() / 2),
    // What was not answered is not asked again: a repeat would take points twice.
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: 0,
    enableOfflineQueue: false,
    // Whoever listened is told that it is over and subscribes anew.
    autoResubscribe: false,
    protocol: 2,
    disableClientInfo: true,
  }
  const asking = new Client(url, { ...options, connectionName: 'tributary' })
  const listening = new Client(url, { ...options, connectionName: 'tributary-hints' })
  const away = rarely(clock)
  for (const client of [asking, listening])
    client.on('error', (error) => away((times) => log.warn('redis.away', { times, error: describeError(error) })))

  type Listener = Heard & { end(error: Error): void }
  const listeners = new Map<string, Set<Listener>>()
  listening.on('message', (channel: string, text: string) => {
    for (const one of listeners.get(channel) ?? []) one.message(text)
  })
  listening.on('close', () => {
    for (const ones of listeners.values())
      for (const one of ones) one.end(new Error('the connection to Redis has ended'))
  })

  const closing = new AbortController()
  const asked = ask()
  // A listener hears nothing for hours, and a dead connection looks the same: only an answer tells them apart.
  async function ask(): Promise<void> {
    for (;;) {
      await clock.sleep(askEveryMs, closing.signal)
      if (closing.signal.aborted) return
      for (const client of [asking, listening])
        if (client.status === 'ready')
          await within(client.ping(), askEveryMs, 'Redis', closing.signal).catch(() => {
            if (!closing.signal.aborted) client.disconnect(true)
          })
    }
  }

  return {
    isConnected: () => asking.status === 'ready',
    redis: {
      async command([name, ...values], { timeoutMs = commandMs, signal } = {}) {
        try {
          return await within(asking.call(name, values), timeoutMs, 'Redis', signal)
        } catch (error) {
          throw error instanceof Error && error.name === 'ReplyError' ? new RedisRefusal(error.message) : error
        }
      },
      async subscribe(channel, heard, signal) {
        if (signal.aborted) return
        let isHeard = false
        let stop = (): void => undefined
        const own = listeners.get(channel) ?? new Set()
        listeners.set(channel, own)
        let one: Listener | undefined
        try {
          await new Promise<void>((resolve, reject) => {
            stop = resolve
            signal.addEventListener('abort', stop, { once: true })
            one = { ...heard, end: reject }
            own.add(one)
            const begun = listening.subscribe(channel).then(() => {
              isHeard = true
              heard.ready()
            })
            begun.catch(reject)
          })
        } finally {
          signal.removeEventListener('abort', stop)
          if (one) own.delete(one)
          if (own.size === 0 && listeners.get(channel) === own) {
            listeners.delete(channel)
            if (isHeard && listening.status === 'ready') listening.unsubscribe(channel).catch(() => undefined)
          }
        }
      },
    },
    async close() {
      closing.abort()
      await asked
      asking.disconnect()
      listening.disconnect()
    },
  }
}
