import { and, eq } from 'drizzle-orm'
import { tenant } from '../../schema/tables/index.ts'
import { linkToken } from '../../shared/auth/account-link.ts'
import { AppError } from '../../shared/errors.ts'
import { putMail } from '../../shared/outbox.ts'
import { linkMail, makeLink } from '../auth/account-links.ts'
import type { Context } from '../context.ts'
import { changeUser, refuseDeleted, type UserRow } from './change-user.ts'
import { welcomeOf } from './create-user.ts'

/**
 * Makes a new one-time link by which an invited or active person sets a password; the one before is good no more. Where the
 * tenant's configuration has people welcomed by mail it is sent, else it is answered, this once. Throws NOT_FOUND,
 * FORBIDDEN for a person who may do more than the caller, CONFLICT for one who is deactivated or deleted.
 */
export function inviteUser(context: Context, id: string): Promise<{ user: UserRow; link: string | undefined }> {
  return changeUser(context, id, async ({ tx, user, note }) => {
    refuseDeleted(user)
    if (user.status === 'deactivated') throw new AppError('CONFLICT', 'This person is deactivated.')
    const { tenantId } = user
    const [owner] = await tx
      .select()
      .from(tenant)
      .where(and(eq(tenant.id, tenantId)))
    if (!owner) throw new Error('the tenant of a person is not there')
    const isMailed = owner.configuration.userManagement.welcomeMail
    const seed = await makeLink(context, tx, { tenantId, userId: id, purpose: 'activate' })
    if (isMailed) await putMail(tx, linkMail(context, seed, welcomeOf(user, owner.companyName), 'invited'))
    await note('user.invited', { isMailed })
    return { user, link: isMailed ? undefined : await linkToken(context.ports.signing, seed) }
  })
}
