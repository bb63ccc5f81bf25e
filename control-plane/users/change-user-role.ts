import { and, eq } from 'drizzle-orm'
import type { Role } from '../../schema/roles.ts'
import { userRole } from '../../schema/tables/index.ts'
import type { Context } from '../context.ts'
import {
  changeUser,
  keepAnAdministrator,
  refuseBeyond,
  refuseDeleted,
  refuseForeignRole,
  type UserRow,
} from './change-user.ts'

/**
 * Gives a person this role and takes any other. A repeat changes nothing. Throws BAD_INPUT, NOT_FOUND, CONFLICT for a deleted person
 * and for the last active administrator, FORBIDDEN when the old or the new role may do more than the key.
 */
export function changeUserRole(context: Context, id: string, role: Role): Promise<UserRow> {
  return changeUser(context, id, async (change) => {
    const { tx, auth, user, roles, note } = change
    refuseDeleted(user)
    refuseBeyond(auth, [role])
    refuseForeignRole(auth.tenantId, role)
    if (roles.length === 1 && roles[0] === role) return user
    if (role !== 'TENANT_ADMIN') await keepAnAdministrator(change)
    await tx.delete(userRole).where(and(eq(userRole.tenantId, user.tenantId), eq(userRole.userId, id)))
    await tx.insert(userRole).values({ tenantId: user.tenantId, userId: id, role })
    await note('user.role_changed', { from: roles, to: role })
    return user
  })
}
