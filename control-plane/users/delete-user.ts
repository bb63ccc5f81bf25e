import { and, eq, like } from 'drizzle-orm'
import { eraseSubject } from '../../shared/audit-personal.ts'
import { outbox, tenantUser, userRole } from '../../schema/tables/index.ts'
import { endAccess } from '../auth/end-access.ts'
import type { Context } from '../context.ts'
import { forgetAnswers } from '../idempotency/keep-answers.ts'
import { changeUser, keepAnAdministrator, type UserRow } from './change-user.ts'

/**
 * Erases what is personal of a person, in the audit log and in mail too, ends every way in, and takes the roles. The id stays, for
 * what the audit log says of it; a repeat changes nothing. Throws NOT_FOUND, FORBIDDEN, and CONFLICT for the last active administrator.
 */
export function deleteUser(context: Context, id: string): Promise<UserRow> {
  return changeUser(context, id, async (change) => {
    const { tx, user, roles, note } = change
    if (user.status === 'deleted') return user
    await keepAnAdministrator(change)
    const { tenantId } = user
    const erased = { email: '', username: '', firstName: '', lastName: '', status: 'deleted' } as const
    await tx
      .update(tenantUser)
      .set(erased)
      .where(and(eq(tenantUser.tenantId, tenantId), eq(tenantUser.id, id)))
    await tx.delete(userRole).where(and(eq(userRole.tenantId, tenantId), eq(userRole.userId, id)))
    await tx.delete(outbox).where(and(eq(outbox.tenantId, tenantId), like(outbox.dedupeKey, `user.% ${id}%`)))
    await endAccess(context, tx, { tenantId, userId: id }, 'deleted')
    await eraseSubject(tx, tenantId, id)
    await forgetAnswers(tx, tenantId, id)
    await note('user.deleted', { roles })
    return { ...user, ...erased }
  })
}
