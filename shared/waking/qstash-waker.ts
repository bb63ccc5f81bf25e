import type { Clock } from '../clock.ts'
import { describeError, type Log, rarely } from '../log.ts'
import { openQStash, type QStash } from '../qstash/client.ts'
import type { QStashMessage } from '../qstash/rest.ts'
import type { WakeMessage } from './wake-message.ts'
import { inProcessWaker, type WakeTarget, type Waker } from './waker.ts'

const messagesPerBatch = 100
const messagesMax = 10_000
const coursesAtOnce = 8
// Wake-ups of one queue on their way at once, and begun in a second, unless the queue's own limit was told.
const flow = { parallelism: 4, rate: 20, period: 1 } as const
// A worker may hold a wake-up for four minutes.
const timeoutSeconds = 300
const retries = 2

/**
 * Wakes workers through QStash, which calls `url`. What is asked for together goes in one call; one that fails is logged
 * and survived, and later ones are tried again. In a message there are the names of a queue and its tenant, nothing else.
 * Listeners hear the wake-ups of this process; those that QStash delivers are another's to tell.
 *
 * With `failedUrl` QStash tells that address of each wake-up that it gave up. Where connections belong to requests, so does a waker. Must not be called inside a transaction.
 */
export function qstashWaker(
  qstash: QStash,
  {
    url,
    failedUrl,
    clock,
    log,
    signal,
  }: {
    url: string
    failedUrl?: string | undefined
    clock: Clock
    log: Log
    signal?: AbortSignal
  },
): Waker {
  const local = inProcessWaker()
  const waiting = new Map<string, QStashMessage>()
  const failed = rarely(clock)
  let sending: Promise<void> | undefined

  const survive = (error: unknown): void =>
    failed((times) => log.warn('wake.lost', { times, error: describeError(error) }))

  // What comes while a call is on its way goes together with the next; a wake-up that is doubled goes once.
  async function drain(): Promise<void> {
    await Promise.resolve()
    while (waiting.size > 0) {
      const batch = [...waiting].slice(0, messagesPerBatch)
      for (const [key] of batch) waiting.delete(key)
      const messages = batch.map(([, message]) => message)
      try {
        const answers = await qstash.ask((calls) => calls.batch(messages), signal)
        const refused = answers.filter((answer) => !('messageId' in answer))
        if (refused.length > 0) throw new Error(`${refused.length} of ${messages.length} messages were refused`)
      } catch (error) {
        // The rows are the truth, and the next tick wakes whoever was missed.
        waiting.clear()
        survive(error)
      }
    }
  }

  return {
    async wake(target, { unheld = false } = {}) {
      await local.wake(target)
      if (waiting.size >= messagesMax) return
      waiting.set(`${flowKey(target)} ${unheld}`, messageFor({ url, failedUrl }, target, unheld))
      await (sending ??= drain().finally(() => (sending = undefined)))
    },
    listen: local.listen,
    async steer(courses) {
      for (let at = 0; at < courses.length; at += coursesAtOnce) {
        await Promise.all(
          courses.slice(at, at + coursesAtOnce).map(async ({ paused, maxRunning, ...target }) => {
            const key = flowKey(target)
            await qstash.ask(async ({ flowControl }) => {
              await (paused ? flowControl.pause(key) : flowControl.resume(key))
              await flowControl.pin(key, { parallelism: maxRunning })
            }, signal)
          }),
        ).catch(survive)
      }
    },
  }
}

/** Makes wakers of an environment that has QStash; undefined otherwise. */
export function qstashWakers(
  env: {
    QSTASH_URL: string
    QSTASH_TOKEN?: string | undefined
    WAKE_URL?: string | undefined
    WAKE_FAILED_URL?: string | undefined
  },
  ports: { clock: Clock; log: Log },
): (() => Waker) | undefined {
  const { QSTASH_URL, QSTASH_TOKEN, WAKE_URL: url, WAKE_FAILED_URL: failedUrl } = env
  if (QSTASH_TOKEN === undefined || url === undefined) return undefined
  const qstash = openQStash({ QSTASH_URL, QSTASH_TOKEN })
  return () => qstashWaker(qstash, { ...ports, url, failedUrl })
}

/** What QStash counts wake-ups of a queue by. */
export const flowKey = ({ tenantId, queue }: WakeTarget): string => `q.${queue}.t.${tenantId}`

function messageFor(
  { url, failedUrl }: { url: string; failedUrl: string | undefined },
  { tenantId, queue }: WakeTarget,
  unheld: boolean,
): QStashMessage {
  const body: WakeMessage = { v: 1, tenantId, queue }
  const key = flowKey({ tenantId, queue })
  return {
    url,
    body: JSON.stringify(body),
    ...(unheld ? {} : { flowControl: { key, ...flow } }),
    // Of this one message: a repeat of the call is no second message, and no later wake-up is taken for a repeat.
    deduplicationId: `${key}.${crypto.randomUUID()}`,
    timeout: timeoutSeconds,
    retries,
    label: `tenant.${tenantId}`,
    ...(failedUrl === undefined ? {} : { failureCallback: failedUrl }),
  }
}
