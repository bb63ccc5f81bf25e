import { SignJWT } from 'jose'
import { newId } from '../ids.ts'
import type { SigningKeys, SigningPurpose } from '../secrets/signing-keys.ts'
import { type Claims, verifyToken } from './verify-token.ts'

/** The issuer of every token of our own. No provider can have this name: theirs are URLs. */
export const ownIssuer = 'tributary'

/** A kind of token of our own. A token of one kind is never taken for one of another: purpose, type and audience differ. */
export type OwnToken = {
  purpose: Extract<SigningPurpose, 'session' | 'service' | 'read'>
  typ: string
  audience: string
  lifetimeSeconds: number
}

/** A signed token of this kind for `sub`, with further claims. */
export async function mintToken(
  signing: SigningKeys,
  kind: OwnToken,
  { sub, ...claims }: { sub: string; [claim: string]: string },
  now: Date,
): Promise<{ token: string; expiresAt: Date }> {
  const { id, key } = await signing.current(kind.purpose)
  const iat = Math.floor(now.getTime() / 1000)
  const exp = iat + kind.lifetimeSeconds
  const token = await new SignJWT(claims)
    .setProtectedHeader({ alg: 'HS256', kid: id, typ: kind.typ })
    .setIssuer(ownIssuer)
    .setAudience(kind.audience)
    .setSubject(sub)
    .setJti(newId('token'))
    .setIssuedAt(iat)
    .setExpirationTime(exp)
    .sign(key)
  return { token, expiresAt: new Date(exp * 1000) }
}

/** The claims of a token of this kind. Throws UNAUTHENTICATED for anything else. */
export function verifyOwnToken(signing: SigningKeys, kind: OwnToken, token: string, now: Date): Promise<Claims> {
  return verifyToken(
    token,
    {
      algorithms: ['HS256'],
      issuer: ownIssuer,
      audience: kind.audience,
      typ: kind.typ,
      lifetimeSeconds: kind.lifetimeSeconds,
      isOwn: true,
      charsMax: 2048,
      keyOf: (kid) => signing.find(kind.purpose, kid),
    },
    now,
  )
}
