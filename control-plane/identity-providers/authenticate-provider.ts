import { and, eq } from 'drizzle-orm'
import { identityProvider, userIdentity } from '../../schema/tables/index.ts'
import { type Claims, verifyToken } from '../../shared/auth/verify-token.ts'
import { withTenant } from '../../shared/db/db.ts'
import { tenantIdPattern } from '../../shared/ids.ts'
import type { Auth, Context } from '../context.ts'
import { mayAct, readPerson, refused, rightsOf } from '../auth/person.ts'
import { providerAlgorithms } from './provider-keys.ts'
import { followRoles, personOf, wantedRoles } from './provider-person.ts'

/** A provider as a tenant has configured it. */
export type Provider = typeof identityProvider.$inferSelect

// An access token of the large providers lives an hour to a day.
const lifetimeSeconds = 86_400

/**
 * The authority behind a token of the identity provider that the tenant `x-tenant-id` has configured. Issuer and audience
 * must be those of this tenant's configuration: a token for another tenant's client says nothing here, though its issuer
 * be the same. The person is found by issuer and subject, or for the first time by a verified address; roles follow the
 * claims. Throws UNAUTHENTICATED with the one text.
 */
export async function authenticateProvider(
  context: Context,
  token: string,
  issuer: string,
  tenantId: string | null,
): Promise<Auth> {
  const { db, clock } = context.ports
  if (tenantId === null || !tenantIdPattern.test(tenantId)) throw refused()
  const now = clock.now()
  const side = { tenantId, side: 'api' } as const
  const [provider] = await withTenant(db, side, (tx) =>
    tx
      .select()
      .from(identityProvider)
      .where(and(eq(identityProvider.tenantId, tenantId), eq(identityProvider.issuer, issuer))),
  )
  if (!provider) throw refused()
  const claims = await verified(context, provider, token, now)
  const roles = wantedRoles(provider, claims)
  if (roles?.length === 0 || !isOfDomain(provider, claims)) throw refused({ tenantId, actor: 'unknown' })
  const [known] = await withTenant(db, side, (tx) =>
    tx
      .select()
      .from(userIdentity)
      .where(
        and(eq(userIdentity.tenantId, tenantId), eq(userIdentity.issuer, issuer), eq(userIdentity.subject, claims.sub)),
      ),
  )
  const issuedAt = new Date(claims.iat * 1000)
  const userId = known?.userId ?? (await personOf(context, provider, claims))
  if (userId === undefined) throw refused({ tenantId, actor: 'unknown' })
  const actor = `user:${userId}`
  if (known && issuedAt < known.notBefore) throw refused({ tenantId, actor })
  const person = await withTenant(db, side, (tx) => readPerson(tx, tenantId, userId))
  if (!person || !mayAct(person)) throw refused({ tenantId, actor })
  const current = roles ? { ...person, roles: await followRoles(context, { tenantId, userId, person, roles }) } : person
  const bearer = {
    kind: 'provider',
    userId,
    issuer,
    subject: claims.sub,
    issuedAt,
    tokenEndsAt: new Date(claims.exp * 1000),
    roles: current.roles,
  } as const
  return { tenantId, actor, bearer, expiresAt: undefined, ...rightsOf(current) }
}

function verified(context: Context, provider: Provider, token: string, now: Date): Promise<Claims> {
  const { issuer, audience } = provider
  const { providerKeys } = context.identity
  return verifyToken(
    token,
    {
      algorithms: providerAlgorithms,
      issuer,
      audience,
      typ: undefined,
      lifetimeSeconds,
      isOwn: false,
      charsMax: 8_192,
      keyOf: (kid, algorithm) => providerKeys.find(provider, kid, algorithm, now),
    },
    now,
  ).catch(() => {
    throw refused()
  })
}

function isOfDomain({ emailDomains }: Provider, claims: Claims): boolean {
  if (emailDomains.length === 0) return true
  const { email, email_verified: isVerified } = claims
  if (typeof email !== 'string' || isVerified !== true) return false
  return emailDomains.includes(email.slice(email.lastIndexOf('@') + 1).toLowerCase())
}
