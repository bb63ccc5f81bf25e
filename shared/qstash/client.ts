import { AppError } from '../errors.ts'
import { liveSecrets } from '../redact.ts'
import { within } from '../within.ts'
import { type QStashCalls, qstashCalls } from './rest.ts'

/** QStash as the product uses it, each call with an end. */
export type QStash = {
  /**
   * What `work` does with its calls. Rejects after 5 s, or when `signal` aborts; it may have been done all the
   * same. Throws UNAVAILABLE with the service's own words as the cause.
   */
  ask<T>(work: (calls: QStashCalls) => Promise<T>, signal?: AbortSignal): Promise<T>
}

const askMs = 5_000

/** Opens QStash with the token of an account. Nothing is kept between two calls, and nothing is told of this process. */
export function openQStash(env: { QSTASH_URL: string; QSTASH_TOKEN: string }): QStash {
  liveSecrets.guard(env.QSTASH_TOKEN)
  const calls = qstashCalls(env.QSTASH_URL, env.QSTASH_TOKEN)
  return {
    async ask(work, signal) {
      try {
        return await within(work(calls), askMs, 'QStash', signal)
      } catch (cause) {
        throw new AppError('UNAVAILABLE', 'QStash did not do it.', { cause })
      }
    },
  }
}
