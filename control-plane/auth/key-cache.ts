import { z } from 'zod'
import { tenantStates } from '../../schema/states.ts'
import type { Clock } from '../../shared/clock.ts'
import { describeError, type Log, rarely } from '../../shared/log.ts'
import { type Redis, redisScript } from '../../shared/redis/redis.ts'
import { hashSecret } from '../../shared/secrets/api-key.ts'
import type { SigningKeys } from '../../shared/secrets/signing-keys.ts'

const factsShape = z.strictObject({
  tenantId: z.string(),
  scopes: z.array(z.string()),
  tenantStatus: z.enum(tenantStates),
  /** Its end in milliseconds since 1970, if it has one. */
  expiresMs: z.number().nullable(),
})
/** What the database says of a good key. */
export type KeyFacts = z.output<typeof factsShape>

/** A key as it is presented. */
type PresentedKey = { id: string; secret: string }

/** Remembers what the database said of good keys, for 5 s at most. */
export type KeyCache = {
  /** What was said of this very key, id and secret; undefined when nothing is known, or Redis does not answer. Never rejects. */
  find(key: PresentedKey): Promise<KeyFacts | undefined>
  /** Remembers what was read at `readAt`, unless the key was just forgotten. */
  keep(key: PresentedKey, facts: KeyFacts, readAt: Date): Promise<void>
  /**
   * Forgets keys, and what is still on its way of them. Call it when they change, before the commit and after it. Never
   * rejects: where Redis does not hear it, the 5 s hold.
   */
  forget(keyIds: readonly string[]): Promise<void>
}

const keptMs = 5_000
// Clocks of two isolates may differ by so much; what was read later than that is a lie.
const aheadMs = 1_000
// Longer than anything lives that was read before: while it stands nothing of the key is remembered.
const forgottenMs = keptMs + 2 * aheadMs
const keysAtOnce = 500
const charsMax = 8_192

const forgetAll = redisScript(
  `for _, key in ipairs(KEYS) do redis.call('SET', key, '-', 'PX', ARGV[1]) end return #KEYS`,
)

const entryShape = z.strictObject({ facts: factsShape, readAt: z.number() })

/**
 * A cache in Redis. What it holds is no secret, and proves itself: each entry is signed together with the key that it is
 * for, so that one which was moved, made up or changed says nothing, and one that is shown again is too old after 5 s.
 */
export function redisKeyCache(
  redis: Redis,
  { signing, clock, log }: { signing: SigningKeys; clock: Pick<Clock, 'now'>; log: Log },
): KeyCache {
  const failed = rarely(clock)
  const say = (error: unknown): void =>
    failed((times) => log.warn('key_cache.lost', { times, error: describeError(error) }))
  return {
    async find(key) {
      try {
        const entry = await redis.command(['GET', await nameOf(key.id)])
        if (typeof entry !== 'string' || entry.length > charsMax) return undefined
        const [signature = '', keyId = '', text = ''] = /^([0-9a-f]{64}) (\S+) (.*)$/.exec(entry)?.slice(1) ?? []
        const signer = await signing.find('key-cache', keyId)
        if (!signer || !(await crypto.subtle.verify('HMAC', signer, bytesOf(signature), signedText(key, text))))
          return undefined
        const { facts, readAt } = entryShape.parse(JSON.parse(text))
        const age = clock.now().getTime() - readAt
        return age >= -aheadMs && age < keptMs ? facts : undefined
      } catch (error) {
        say(error)
        return undefined
      }
    },
    async keep(key, facts, readAt) {
      const leftMs = readAt.getTime() + keptMs - clock.now().getTime()
      if (leftMs <= 0) return
      const text = JSON.stringify({ facts, readAt: readAt.getTime() } satisfies z.input<typeof entryShape>)
      const { id, key: signer } = await signing.current('key-cache')
      const signature = new Uint8Array(await crypto.subtle.sign('HMAC', signer, signedText(key, text)))
      // Only where nothing stands: not over a forgotten one.
      await redis
        .command(['SET', await nameOf(key.id), `${hex(signature)} ${id} ${text}`, 'PX', Math.min(keptMs, leftMs), 'NX'])
        .catch(say)
    },
    async forget(keyIds) {
      try {
        for (let from = 0; from < keyIds.length; from += keysAtOnce)
          await forgetAll.run(redis, await Promise.all(keyIds.slice(from, from + keysAtOnce).map(nameOf)), [
            forgottenMs,
          ])
      } catch (error) {
        say(error)
      }
    },
  }
}

// By the id and not by the secret: who revokes a key does not know that.
const nameOf = async (keyId: string): Promise<string> => `tributary:key:${await hashSecret(keyId)}`

const signedText = ({ id, secret }: PresentedKey, text: string): Uint8Array<ArrayBuffer> =>
  new TextEncoder().encode(`${id}.${secret}\n${text}`)

const hex = (bytes: Uint8Array): string => Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('')

const bytesOf = (text: string): Uint8Array<ArrayBuffer> =>
  Uint8Array.from(text.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16))
