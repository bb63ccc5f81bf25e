import { Client } from '@upstash/qstash'
import { AppError } from '../errors.ts'
import { liveSecrets } from '../redact.ts'
import { within } from '../within.ts'

/** QStash as the product uses it: the calls of its own library, each with an end. */
export type QStash = {
  /**
   * What `work` does with the library's client. Rejects after 5 s, or when `signal` aborts; it may have been done all the
   * same. Throws UNAVAILABLE with the service's own words as the cause.
   */
  ask<T>(work: (client: Client) => Promise<T>, signal?: AbortSignal): Promise<T>
}

const askMs = 5_000

/** Opens QStash with the token of an account. Nothing is kept between two calls, and nothing is told of this process. */
export function openQStash(env: { QSTASH_URL: string; QSTASH_TOKEN: string }): QStash {
  liveSecrets.guard(env.QSTASH_TOKEN)
  const client = new Client({
    baseUrl: env.QSTASH_URL,
    token: env.QSTASH_TOKEN,
    // By default the library repeats for longer than anybody waits.
    retry: { retries: 1, backoff: () => 50 },
    enableTelemetry: false,
    // Otherwise a variable of the environment decides which server and keys are the right ones (2.12.0).
    devMode: false,
  })
  return {
    async ask(work, signal) {
      try {
        return await within(work(client), askMs, 'QStash', signal)
      } catch (cause) {
        throw new AppError('UNAVAILABLE', 'QStash did not do it.', { cause })
      }
    },
  }
}
