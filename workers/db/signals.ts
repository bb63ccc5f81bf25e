import { sql } from 'drizzle-orm'
import pg from 'pg'
import { type QueueType, queueTypes } from '../../schema/states.ts'
import type { Clock } from '../../shared/clock.ts'
import type { Db } from '../../shared/db/db.ts'
import { describeError, type Log } from '../../shared/log.ts'
import { type Hub, inProcessHub, type Topic } from '../../shared/waking/hub.ts'
import { inProcessWaker, type Waker } from '../../shared/waking/waker.ts'

/** Hints between processes over PostgreSQL, on one connection that listens. */
export type Signals = {
  waker: Waker
  hub: Hub
  /** False while hints of other processes are not heard; they then look by themselves. */
  isListening(): boolean
  close(): Promise<void>
}

/** Channels; what goes over them are ids alone, and they are hints: lost, doubled or late they cost time, nothing else. */
export const channels = { wake: 'tributary_wake', run: 'tributary_run' } as const

const textsPerStatement = 500
const textsMax = 20_000
// A connection that is dead without a word is found by asking it; until then hints are missed.
const askEveryMs = 15_000
const retryMs = { first: 100, most: 5_000 }

/**
 * Opens both ports over the database of `url`. They work at once; the connection that listens comes by itself, again
 * after each break, 0.1 s later and then twice as long up to 5 s. Hints of this process reach it without the detour.
 *
 * They are sent after the change they tell of, in a statement of their own: PostgreSQL lets one transaction with a
 * NOTIFY commit at a time, which would make every change of every tenant wait for every other.
 */
export function openSignals(url: string, ports: { db: Db; clock: Clock; log: Log }): Signals {
  const origin = crypto.randomUUID().slice(0, 8)
  const local = { waker: inProcessWaker(), hub: inProcessHub() }
  const closing = new AbortController()
  const waiting = new Map<string, keyof typeof channels>()
  let sending = Promise.resolve()
  let isSending = false
  let isListening = false

  function send(channel: keyof typeof channels, ...words: string[]): void {
    if (waiting.size >= textsMax) return
    waiting.set([origin, ...words].join(' '), channel)
    if (isSending) return
    isSending = true
    sending = drain().finally(() => (isSending = false))
  }

  // What comes while a statement is on its way goes together with the next; a hint that is doubled goes once.
  async function drain(): Promise<void> {
    await Promise.resolve()
    while (waiting.size > 0) {
      const batch = [...waiting].slice(0, textsPerStatement)
      for (const [text] of batch) waiting.delete(text)
      const texts = sql.join(
        batch.map(([text, channel]) => sql`(${channels[channel]}, ${text})`),
        sql`, `,
      )
      try {
        await ports.db.execute(sql`select pg_notify(c, t) from (values ${texts}) v (c, t)`)
      } catch {
        // The rows are the truth: whoever missed a hint looks again within seconds.
        waiting.clear()
      }
    }
  }

  function hear(channel: string, text: string): void {
    const [from, tenantId = '', word = ''] = text.split(' ')
    if (from === origin || tenantId === '') return
    if (channel === channels.run) local.hub.notify(topicOf(tenantId, word))
    else if (isQueue(word)) void local.waker.wake({ tenantId, queue: word })
  }

  async function listen(): Promise<void> {
    let pauseMs = retryMs.first
    while (!closing.signal.aborted) {
      const client = new pg.Client({
        connectionString: url,
        connectionTimeoutMillis: 10_000,
        query_timeout: 10_000,
        keepAlive: true,
        application_name: 'tributary signals',
      })
      const gone = new AbortController()
      for (const event of ['error', 'end'] as const) client.on(event, () => gone.abort())
      client.on('notification', ({ channel, payload = '' }) => hear(channel, payload))
      try {
        await client.connect()
        await client.query(`listen ${channels.wake}; listen ${channels.run}`)
        isListening = true
        pauseMs = retryMs.first
        // What was said before somebody listened is found by looking.
        local.hub.notifyAll()
        const end = AbortSignal.any([gone.signal, closing.signal])
        while (!end.aborted) {
          await ports.clock.sleep(askEveryMs, end)
          if (!end.aborted) await client.query('select 1')
        }
        if (!closing.signal.aborted) ports.log.warn('signals.lost')
      } catch (error) {
        if (isListening) ports.log.warn('signals.lost', { error: describeError(error) })
      } finally {
        isListening = false
        // A server that is gone without a word answers no farewell either.
        await Promise.race([client.end().catch(() => undefined), ports.clock.sleep(1_000)])
      }
      await ports.clock.sleep(pauseMs * (0.5 + Math.random() / 2), closing.signal)
      pauseMs = Math.min(retryMs.most, pauseMs * 2)
    }
  }

  const listening = listen()
  return {
    waker: {
      async wake(target) {
        await local.waker.wake(target)
        send('wake', target.tenantId, target.queue)
      },
      listen: local.waker.listen,
    },
    hub: {
      notify(topic) {
        local.hub.notify(topic)
        send('run', topic.tenantId, ...(topic.runId === undefined ? [] : [topic.runId]))
      },
      wait: local.hub.wait,
    },
    isListening: () => isListening,
    async close() {
      closing.abort()
      await listening
      await sending
    },
  }
}

const topicOf = (tenantId: string, runId: string): Topic => (runId === '' ? { tenantId } : { tenantId, runId })

const isQueue = (word: string): word is QueueType => queueTypes.some((queue) => queue === word)
