import { sha256 } from '@noble/hashes/sha2.js'
import { newId } from '../ids.ts'

/** A key as it is shown once, and what is kept of it. */
export type NewApiKey = { id: string; token: string; secretHash: string }

/**
 * A new API key: `key_<id>.<secret>`. The id finds the row, the secret is 256 random bits, of which only the SHA-256 is
 * kept: with that much randomness a slow hash would add nothing.
 */
export async function makeApiKey(): Promise<NewApiKey> {
  const id = newId('apiKey')
  const secret = hex(crypto.getRandomValues(new Uint8Array(32)))
  return { id, token: `${id}.${secret}`, secretHash: await hashSecret(secret) }
}

/** Id and secret of a presented key, or undefined when it has not the form of one. */
export function splitApiKey(token: string): { id: string; secret: string } | undefined {
  const match = /^(key_[0-9a-f]{32})\.([0-9a-f]{64})$/.exec(token)
  return match?.[1] && match[2] ? { id: match[1], secret: match[2] } : undefined
}

/**
 * SHA-256 of a secret, in hexadecimal. Not by WebCrypto: every request with a key waits for one, and a trip to a thread of
 * the runtime takes longer than the hash.
 */
export async function hashSecret(secret: string): Promise<string> {
  return hex(sha256(new TextEncoder().encode(secret)))
}

/** Compares two hashes in a time that does not depend on where they differ. */
export function sameHash(a: string, b: string): boolean {
  let difference = a.length ^ b.length
  for (let i = 0; i < a.length; i++) difference |= a.charCodeAt(i) ^ b.charCodeAt(i % Math.max(1, b.length))
  return difference === 0
}

const hex = (bytes: Uint8Array): string => Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('')
