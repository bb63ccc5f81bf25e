import { z } from 'zod'
import { AppError } from '../errors.ts'
import { tenantIdPattern } from '../ids.ts'
import type { SigningKeys } from '../secrets/signing-keys.ts'
import { mintToken, type OwnToken, verifyOwnToken } from './own-token.ts'

/** Parts of the house that call each other. */
export type Part = 'control-plane' | 'worker'

/** Who calls, and for which tenant. */
export type ServiceCall = { caller: Part; tenantId: string }

// One call, not a session: it is minted for each, and is of no use a minute later.
const lifetimeSeconds = 60

const kindFor = (callee: Part): OwnToken => ({
  purpose: 'service',
  typ: 'service+jwt',
  audience: `tributary/${callee}`,
  lifetimeSeconds,
})

/** A token by which one part of the house calls another for one tenant; good for 60 s. No person's token goes that way. */
export async function mintServiceToken(
  signing: SigningKeys,
  call: ServiceCall & { callee: Part },
  now: Date,
): Promise<string> {
  const claims = { sub: call.caller, tenant: call.tenantId }
  return (await mintToken(signing, kindFor(call.callee), claims, now)).token
}

const claimsShape = z.object({ sub: z.enum(['control-plane', 'worker']), tenant: z.string().regex(tenantIdPattern) })

/** Who calls `callee`, and for which tenant. Throws UNAUTHENTICATED for a token of another callee, kind or time. */
export async function verifyServiceToken(
  signing: SigningKeys,
  callee: Part,
  token: string,
  now: Date,
): Promise<ServiceCall> {
  const claims = claimsShape.safeParse(await verifyOwnToken(signing, kindFor(callee), token, now))
  if (!claims.success) throw new AppError('UNAUTHENTICATED', 'This token is not valid.')
  return { caller: claims.data.sub, tenantId: claims.data.tenant }
}
