import { z } from 'zod'
import type { SigningKeys } from '../secrets/signing-keys.ts'

/** What the secret of a one-time link follows from. It stands in the database and in messages; a key is missing to it. */
export const linkSeed = z.object({
  tenantId: z.string(),
  userId: z.string(),
  purpose: z.enum(['activate', 'reset']),
  nonce: z.string(),
  keyId: z.string(),
})
/** A seed. */
export type LinkSeed = z.output<typeof linkSeed>

const forms = { activate: 'act', reset: 'rst' } as const

/** The secret of a one-time link, `act_<tenant>.<person>.<code>`; undefined when its key is not configured any more. */
export async function linkToken(signing: SigningKeys, seed: LinkSeed): Promise<string | undefined> {
  const key = await signing.find('link', seed.keyId)
  if (!key) return undefined
  const { tenantId, userId, purpose, nonce } = seed
  const text = new TextEncoder().encode(JSON.stringify([tenantId, userId, purpose, nonce]))
  const code = new Uint8Array(await crypto.subtle.sign('HMAC', key, text))
  const digits = Array.from(code, (byte) => byte.toString(16).padStart(2, '0')).join('')
  return `${forms[purpose]}_${tenantId}.${userId}.${digits}`
}

/** Whose link a token says to be; undefined for what has not the form of one. Nothing of it is verified. */
export function splitLinkToken(token: string): Pick<LinkSeed, 'tenantId' | 'userId' | 'purpose'> | undefined {
  const [form, tenantId, userId] =
    /^(act|rst)_([a-z][a-z0-9_]{1,47})\.(usr_[0-9a-f]{32})\.[0-9a-f]{64}$/.exec(token)?.slice(1) ?? []
  if (tenantId === undefined || userId === undefined) return undefined
  return { tenantId, userId, purpose: form === 'act' ? 'activate' : 'reset' }
}
