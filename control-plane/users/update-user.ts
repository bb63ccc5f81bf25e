import { and, eq, ne, sql } from 'drizzle-orm'
import { z } from 'zod'
import { accountLink, tenantUser } from '../../schema/tables/index.ts'
import type { Context } from '../context.ts'
import { changeUser, refuseDeleted, type UserRow } from './change-user.ts'
import { checkedFields, emailTaken, personalFields } from './personal-fields.ts'

const inputShape = z.object({
  email: personalFields.email.nullish(),
  username: personalFields.username.nullish(),
  firstName: personalFields.firstName.nullish(),
  lastName: personalFields.lastName.nullish(),
})

/** What to change of a person; what is absent or null stays. */
export type UserUpdate = z.input<typeof inputShape>

/**
 * Changes personal fields; the audit row names the fields; their values, those before too, are sealed in it. Without a difference nothing is written.
 * Throws BAD_INPUT, NOT_FOUND, ALREADY_EXISTS, CONFLICT for a deleted person, FORBIDDEN for one who may do more.
 */
export function updateUser(context: Context, id: string, given: UserUpdate): Promise<UserRow> {
  const input = checkedFields(inputShape, given)
  return changeUser(context, id, async ({ tx, user, note }) => {
    refuseDeleted(user)
    const next = {
      email: input.email ?? user.email,
      username: input.username ?? user.username,
      firstName: input.firstName ?? user.firstName,
      lastName: input.lastName ?? user.lastName,
    }
    const fields = (['email', 'username', 'firstName', 'lastName'] as const).filter((key) => next[key] !== user[key])
    if (fields.length === 0) return user
    const [holder] = await tx
      .select({ id: tenantUser.id })
      .from(tenantUser)
      .where(
        and(
          eq(tenantUser.tenantId, user.tenantId),
          ne(tenantUser.id, id),
          ne(tenantUser.status, 'deleted'),
          sql`lower(${tenantUser.email}) = lower(${next.email})`,
        ),
      )
    if (holder) throw emailTaken()
    await tx
      .update(tenantUser)
      .set(next)
      .where(and(eq(tenantUser.tenantId, user.tenantId), eq(tenantUser.id, id)))
    const values = fields.flatMap((key) => [
      [key, next[key]],
      [`${key}Before`, user[key]],
    ])
    // Links went to the address of before.
    if (fields.includes('email'))
      await tx.delete(accountLink).where(and(eq(accountLink.tenantId, user.tenantId), eq(accountLink.userId, id)))
    await note('user.updated', { fields }, Object.fromEntries(values))
    return { ...user, ...next }
  })
}
