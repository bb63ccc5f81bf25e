import { z } from 'zod'
import { mintToken, type OwnToken, verifyOwnToken } from '../auth/own-token.ts'
import { AppError } from '../errors.ts'
import { tenantIdPattern } from '../ids.ts'
import type { SigningKeys } from '../secrets/signing-keys.ts'

/** What a token allows: one read by one worker. `body` is the text that asks for it. */
export type AllowedRead = { worker: string; tenantId: string; operation: string; table: string; body: string }

// With 30 s for clocks that differ it is of no use a minute after it was made.
const lifetimeSeconds = 30

// A worker's id is of one life of one process: what it has forgotten was made for another.
const kindFor = (worker: string): OwnToken => ({
  purpose: 'read',
  typ: 'read+jwt',
  audience: `tributary/reader/${worker}`,
  lifetimeSeconds,
})

/** A token for one read: bound to worker, tenant, operation, table and every byte of the request; good for 30 s, and once. */
export async function mintReadToken(signing: SigningKeys, read: AllowedRead, now: Date): Promise<string> {
  const { worker, tenantId, operation, table } = read
  const claims = { sub: 'control-plane', tenant: tenantId, operation, table, hash: await hashOf(read.body) }
  return (await mintToken(signing, kindFor(worker), claims, now)).token
}

const claimsShape = z.object({
  sub: z.literal('control-plane'),
  tenant: z.string().regex(tenantIdPattern),
  operation: z.string(),
  table: z.string(),
  hash: z.string(),
  jti: z.string(),
})

/**
 * The id of a token that allows this read. Throws UNAUTHENTICATED for one of another worker, tenant, table, operation,
 * body, kind or time. Whether it was used before is the caller's to say.
 */
export async function verifyReadToken(
  signing: SigningKeys,
  read: AllowedRead,
  token: string,
  now: Date,
): Promise<string> {
  const parsed = claimsShape.safeParse(await verifyOwnToken(signing, kindFor(read.worker), token, now))
  const { tenantId, operation, table } = read
  const claims = parsed.data
  if (
    claims?.tenant === tenantId &&
    claims.operation === operation &&
    claims.table === table &&
    claims.hash === (await hashOf(read.body))
  )
    return claims.jti
  throw new AppError('UNAUTHENTICATED', 'This token is not valid.', { context: { why: 'made for another read' } })
}

async function hashOf(text: string): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', new TextEncoder().encode(text)))
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('')
}
