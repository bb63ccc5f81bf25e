import { and, eq } from 'drizzle-orm'
import { tenantUser } from '../../schema/tables/index.ts'
import { endAccess } from '../auth/end-access.ts'
import type { Context } from '../context.ts'
import { changeUser, keepAnAdministrator, refuseDeleted, type UserRow } from './change-user.ts'

/**
 * Takes every permission from a person, whose sessions end and who keeps role and password for when `activateUser` is
 * called; a repeat changes nothing.
 * Throws NOT_FOUND, FORBIDDEN, and CONFLICT for the last active administrator.
 */
export function deactivateUser(context: Context, id: string): Promise<UserRow> {
  return changeUser(context, id, async (change) => {
    const { tx, user, note } = change
    refuseDeleted(user)
    if (user.status === 'deactivated') return user
    await keepAnAdministrator(change)
    await tx
      .update(tenantUser)
      .set({ status: 'deactivated' })
      .where(and(eq(tenantUser.tenantId, user.tenantId), eq(tenantUser.id, id)))
    await endAccess(context, tx, { tenantId: user.tenantId, userId: id }, 'deactivated')
    await note('user.deactivated', { from: user.status })
    return { ...user, status: 'deactivated' }
  })
}
