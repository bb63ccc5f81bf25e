import type { SigningKeys } from '../../shared/secrets/signing-keys.ts'

/**
 * What an input is recognised by: a keyed hash, since it may hold a password that could be guessed from a plain one. It
 * begins with the id of its key. The same input in another order of keys is the same input.
 */
export async function hashOf(signing: SigningKeys, input: unknown): Promise<string> {
  const { id, key } = await signing.current('request')
  return `${id}:${await sign(key, input)}`
}

/** Whether a hash, which may be of an earlier key, is that of this input. `now` is its hash by the current key. */
export async function isHashOf(signing: SigningKeys, hash: string, input: unknown, now: string): Promise<boolean> {
  if (hash === now) return true
  const id = hash.slice(0, hash.lastIndexOf(':'))
  const key = await signing.find('request', id)
  return key !== undefined && hash === `${id}:${await sign(key, input)}`
}

async function sign(key: CryptoKey, input: unknown): Promise<string> {
  const tag = await crypto.subtle.sign('HMAC', key, new TextEncoder().encode(canonical(input)))
  return Array.from(new Uint8Array(tag), (byte) => byte.toString(16).padStart(2, '0')).join('')
}

function canonical(value: unknown): string {
  return JSON.stringify(value, (_key, part: unknown) =>
    typeof part === 'object' && part !== null && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)))
      : part,
  )
}
