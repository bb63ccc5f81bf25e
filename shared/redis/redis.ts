import type { Clock } from '../clock.ts'

/** What is used of a Redis. It holds nothing that may not be lost, and nothing that it says is trusted with more than that. */
export type Redis = {
  /**
   * One command and its answer, in one round trip. Rejects with the server's own words, after `timeoutMs` (default 250), or
   * when `signal` aborts; it may have been done all the same.
   */
  command(words: Words, options?: { timeoutMs?: number; signal?: AbortSignal | undefined }): Promise<unknown>
  /**
   * Hears a channel: `ready` when it listens, then `message` with each text. Resolves when `signal` has aborted, and rejects
   * when it can hear no more; what was said meanwhile is lost.
   */
  subscribe(channel: string, heard: Heard, signal: AbortSignal): Promise<void>
}

/** A command and its arguments. */
export type Words = readonly [string, ...(string | number)[]]
/** What a listener is told. */
export type Heard = { ready(): void; message(text: string): void }

/** How long a command may take unless it says otherwise: a request waits for it. */
export const commandMs = 250

const failuresMax = 3
const restMs = 1_000

/**
 * The same Redis, left alone for a second after three commands in a row have failed: they then reject at once, so that one
 * that is away costs its users no time.
 */
export function restful(redis: Redis, clock: Pick<Clock, 'now'>): Redis {
  let failures = 0
  let restsUntil = 0
  return {
    subscribe: redis.subscribe,
    async command(words, options) {
      if (clock.now().getTime() < restsUntil) throw new Error('Redis is left alone after failures')
      try {
        const answer = await redis.command(words, options)
        failures = 0
        return answer
      } catch (error) {
        // An unknown script is told, and whoever gave up has learnt nothing. Any other refusal is of a server that cannot work.
        if (!isUnknownScript(error) && !options?.signal?.aborted && ++failures >= failuresMax)
          restsUntil = clock.now().getTime() + restMs
        throw error
      }
    },
  }
}

/** An error that the server answered, as `NOSCRIPT` or `WRONGTYPE`; `message` begins with its word. */
export class RedisRefusal extends Error {
  override readonly name = 'RedisRefusal'
}

const isUnknownScript = (error: unknown): boolean =>
  error instanceof RedisRefusal && error.message.startsWith('NOSCRIPT')

/** A Lua script by its hash, so that its text is sent once and not with each call. */
export function redisScript(text: string): {
  run(
    redis: Redis,
    keys: readonly string[],
    values: readonly (string | number)[],
    options?: Parameters<Redis['command']>[1],
  ): Promise<unknown>
} {
  let hash: string | undefined
  return {
    async run(redis, keys, values, options) {
      hash ??= await sha1(text)
      try {
        return await redis.command(['EVALSHA', hash, keys.length, ...keys, ...values], options)
      } catch (error) {
        if (!isUnknownScript(error)) throw error
        return redis.command(['EVAL', text, keys.length, ...keys, ...values], options)
      }
    },
  }
}

// What Redis names scripts by; nothing is secured by it.
async function sha1(text: string): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-1', new TextEncoder().encode(text)))
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('')
}
