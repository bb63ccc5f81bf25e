import { and, eq, ne, sql } from 'drizzle-orm'
import { platformTenantId, type Role } from '../../schema/roles.ts'
import { tenantUser, userIdentity, userRole } from '../../schema/tables/index.ts'
import { audit } from '../../shared/audit.ts'
import type { Claims } from '../../shared/auth/verify-token.ts'
import { type Tx, withTenant } from '../../shared/db/db.ts'
import { newId } from '../../shared/ids.ts'
import { type Person, readPerson } from '../auth/person.ts'
import type { Context } from '../context.ts'
import { quotaError } from '../../shared/quota-error.ts'
import { lockPeople } from '../users/change-user.ts'
import { personalFields } from '../users/personal-fields.ts'
import type { Provider } from './authenticate-provider.ts'

/**
 * The roles that the claims give: what is mapped, or the provider's default when nothing is; none for somebody who may
 * not come in. Undefined when the provider does not say roles: then they are kept here.
 */
export function wantedRoles({ roleClaim, roleMap, defaultRole }: Provider, claims: Claims): Role[] | undefined {
  if (roleClaim === null) return undefined
  const values = [claimAt(claims, roleClaim)].flat()
  const mapped = values.flatMap((value) =>
    typeof value === 'string' && Object.hasOwn(roleMap, value) ? (roleMap[value] ?? []) : [],
  )
  if (mapped.length > 0) return [...new Set(mapped)].sort()
  return defaultRole === null ? [] : [defaultRole]
}

/**
 * The person behind a subject that was not seen before: the one of the verified address, who is active from then on, or a
 * new one when the provider may make people. Undefined when there is none or it may not come in. Throws QUOTA_EXCEEDED.
 */
export async function personOf(context: Context, provider: Provider, claims: Claims): Promise<string | undefined> {
  const { tenantId, issuer } = provider
  const email = personalFields.email.safeParse(claims['email'])
  if (!email.success || claims['email_verified'] !== true) return undefined
  try {
    return await withTenant(context.ports.db, { tenantId, side: 'api' }, async (tx) => {
      const { configuration, status } = await lockPeople(tx, tenantId)
      if (status !== 'active') return undefined
      const [found] = await tx
        .select()
        .from(tenantUser)
        .where(
          and(
            eq(tenantUser.tenantId, tenantId),
            ne(tenantUser.status, 'deleted'),
            sql`lower(${tenantUser.email}) = lower(${email.data})`,
          ),
        )
      if (found?.status === 'deactivated' || (!found && !provider.createsPeople)) return undefined
      const fallback =
        provider.defaultRole ?? (tenantId === platformTenantId ? undefined : configuration.userManagement.defaultRole)
      const userId = found?.id ?? (await makePerson(context, tx, provider, claims, email.data, fallback))
      if (userId === undefined) return undefined
      await tx.insert(userIdentity).values({ tenantId, issuer, subject: claims.sub, userId }).onConflictDoNothing()
      await note(context, tx, tenantId, userId, 'user.identity_linked', { issuer })
      if (found?.status !== 'invited') return userId
      await tx
        .update(tenantUser)
        .set({ status: 'active' })
        .where(and(eq(tenantUser.tenantId, tenantId), eq(tenantUser.id, userId)))
      await note(context, tx, tenantId, userId, 'user.activated', { from: 'invited', issuer })
      return userId
    })
  } catch (thrown) {
    throw quotaError(thrown) ?? thrown
  }
}

/** Gives a person the roles that its provider says, and answers them. The provider is who decides, also about the last administrator. */
export async function followRoles(
  context: Context,
  { tenantId, userId, person, roles }: { tenantId: string; userId: string; person: Person; roles: Role[] },
): Promise<Role[]> {
  if (isSame(person.roles, roles)) return roles
  await withTenant(context.ports.db, { tenantId, side: 'api' }, async (tx) => {
    await lockPeople(tx, tenantId)
    const current = await readPerson(tx, tenantId, userId)
    if (!current || isSame(current.roles, roles)) return
    await tx.delete(userRole).where(and(eq(userRole.tenantId, tenantId), eq(userRole.userId, userId)))
    await tx.insert(userRole).values(roles.map((role) => ({ tenantId, userId, role })))
    await note(context, tx, tenantId, userId, 'user.role_changed', { from: current.roles, to: roles, by: 'provider' })
  })
  return roles
}

async function makePerson(
  context: Context,
  tx: Tx,
  provider: Provider,
  claims: Claims,
  email: string,
  fallback: Role | undefined,
): Promise<string | undefined> {
  const roles = wantedRoles(provider, claims) ?? (fallback ? [fallback] : [])
  if (roles.length === 0) return undefined
  const { tenantId, issuer } = provider
  const id = newId('user')
  const names = {
    username: personalFields.username.safeParse(claims['preferred_username']).data ?? email.slice(0, 100),
    firstName: personalFields.firstName.safeParse(claims['given_name']).data ?? '',
    lastName: personalFields.lastName.safeParse(claims['family_name']).data ?? '',
  }
  await tx.insert(tenantUser).values({ tenantId, id, email, ...names, status: 'active' })
  await tx.insert(userRole).values(roles.map((role) => ({ tenantId, userId: id, role })))
  await audit(
    tx,
    {
      tenantId,
      actor: `user:${id}`,
      action: 'user.created',
      target: id,
      requestId: context.requestId,
      details: { roles, issuer },
      subject: id,
      personal: { email, ...names },
    },
    context.ports.secrets,
  )
  return id
}

const note = (
  context: Context,
  tx: Tx,
  tenantId: string,
  userId: string,
  action: string,
  details: Record<string, unknown>,
): Promise<void> =>
  audit(tx, { tenantId, actor: `user:${userId}`, action, target: userId, requestId: context.requestId, details })

// A name may hold dots itself; else it is a way into the claims, as `realm_access.roles`.
function claimAt(claims: Claims, name: string): unknown {
  if (Object.hasOwn(claims, name)) return claims[name]
  return name.split('.').reduce<unknown>(
    // An object of the token's own JSON; a field that it has not itself is absent.
    (at, part) =>
      typeof at === 'object' && at !== null && Object.hasOwn(at, part)
        ? (at as Record<string, unknown>)[part]
        : undefined,
    claims,
  )
}

const isSame = (a: readonly Role[], b: readonly Role[]): boolean => a.toSorted().join(' ') === b.toSorted().join(' ')
