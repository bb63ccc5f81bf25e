import { and, eq } from 'drizzle-orm'
import { tenantUser } from '../../schema/tables/index.ts'
import type { Context } from '../context.ts'
import { changeUser, refuseDeleted, type UserRow } from './change-user.ts'

/** Makes an invited or deactivated person active; a repeat changes nothing. Throws NOT_FOUND, FORBIDDEN, CONFLICT. */
export function activateUser(context: Context, id: string): Promise<UserRow> {
  return changeUser(context, id, async ({ tx, user, note }) => {
    refuseDeleted(user)
    if (user.status === 'active') return user
    await tx
      .update(tenantUser)
      .set({ status: 'active' })
      .where(and(eq(tenantUser.tenantId, user.tenantId), eq(tenantUser.id, id)))
    await note('user.activated', { from: user.status })
    return { ...user, status: 'active' }
  })
}
