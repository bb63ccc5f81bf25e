import { and, eq, ne } from 'drizzle-orm'
import { platformTenantId, type Role, scopesOf, systemRoles, tenantRoles } from '../../schema/roles.ts'
import { tenant, tenantUser, userRole } from '../../schema/tables/index.ts'
import { audit } from '../../shared/audit.ts'
import type { Tx } from '../../shared/db/db.ts'
import { AppError } from '../../shared/errors.ts'
import { type Auth, type Context, inTenant } from '../context.ts'

/** A person as the tables have it. */
export type UserRow = typeof tenantUser.$inferSelect

/** What a change of a person works with; `note` writes its audit row, in which what is personal is sealed. */
export type UserChange = {
  tx: Tx
  auth: Auth
  user: UserRow
  roles: Role[]
  note(action: string, details?: Record<string, unknown>, personal?: Record<string, string>): Promise<void>
}

/**
 * One transaction that changes a person of the key's tenant. Changes of a tenant's people take turns, so that two of them
 * cannot each leave the other's administrator as the last. Throws NOT_FOUND, and FORBIDDEN for a person who may do more
 * than the key.
 */
export function changeUser<T>(context: Context, id: string, work: (change: UserChange) => Promise<T>): Promise<T> {
  return inTenant(context, async (tx, auth) => {
    const { tenantId, actor } = auth
    await lockPeople(tx, tenantId)
    const [user] = await tx
      .select()
      .from(tenantUser)
      .where(and(eq(tenantUser.tenantId, tenantId), eq(tenantUser.id, id)))
    if (!user) throw new AppError('NOT_FOUND', 'There is no such person.')
    const held = await tx
      .select({ role: userRole.role })
      .from(userRole)
      .where(and(eq(userRole.tenantId, tenantId), eq(userRole.userId, id)))
    const roles = held.map(({ role }) => role)
    refuseBeyond(auth, roles)
    const note: UserChange['note'] = (action, details = {}, personal) => {
      const entry = { tenantId, actor, action, target: id, requestId: context.requestId, details }
      return personal ? audit(tx, { ...entry, subject: id, personal }, context.ports.secrets) : audit(tx, entry)
    }
    return work({ tx, auth, user, roles, note })
  })
}

/** Waits until no other transaction changes people of the tenant; answers the tenant. */
export async function lockPeople(tx: Tx, tenantId: string): Promise<typeof tenant.$inferSelect> {
  // Not FOR UPDATE, which would hold up every insert that refers to the tenant.
  const [row] = await tx.select().from(tenant).where(eq(tenant.id, tenantId)).for('no key update')
  if (!row) throw new Error('the tenant of a key is not there')
  return row
}

/** Throws FORBIDDEN when the roles bring a scope that the key has not. */
export function refuseBeyond(auth: Auth, roles: readonly Role[]): void {
  if (scopesOf(roles).every((scope) => auth.scopes.has(scope))) return
  throw new AppError('FORBIDDEN', 'This role may do more than the key.', {
    hint: 'Use a key that has every scope of the role.',
  })
}

/** Throws BAD_INPUT when people of this tenant cannot have the role: those of the platform are its own people's alone. */
export function refuseForeignRole(tenantId: string, role: Role): void {
  const own: readonly Role[] = tenantId === platformTenantId ? systemRoles : tenantRoles
  if (own.includes(role)) return
  throw new AppError('BAD_INPUT', 'People of this tenant cannot have this role.', { place: { path: 'role' } })
}

/**
 * Throws CONFLICT when nobody would be left to administer the tenant: for the last administrator who is active, whoever
 * else is only invited, and in a tenant without an active one for the last who is invited.
 */
export async function keepAnAdministrator({ tx, user, roles }: UserChange): Promise<void> {
  if (!roles.includes('TENANT_ADMIN') || (user.status !== 'active' && user.status !== 'invited')) return
  const others = await tx
    .select({ status: tenantUser.status })
    .from(userRole)
    .innerJoin(tenantUser, and(eq(tenantUser.tenantId, userRole.tenantId), eq(tenantUser.id, userRole.userId)))
    .where(and(eq(userRole.tenantId, user.tenantId), eq(userRole.role, 'TENANT_ADMIN'), ne(userRole.userId, user.id)))
  if (others.some(({ status }) => status === 'active' || status === user.status)) return
  throw new AppError('CONFLICT', 'This is the last active administrator of the tenant.', {
    hint: 'Make another person TENANT_ADMIN first, and have it activated.',
  })
}

/** Throws CONFLICT for a person who was deleted. */
export function refuseDeleted(user: UserRow): void {
  if (user.status === 'deleted') throw new AppError('CONFLICT', 'This person was deleted.')
}
