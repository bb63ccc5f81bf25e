import { and, eq } from 'drizzle-orm'
import { accountLink, identityProvider, userIdentity, userPassword } from '../../schema/tables/index.ts'
import type { Tx } from '../../shared/db/db.ts'
import { authOf, type Context } from '../context.ts'
import { endSessions } from './session.ts'

/**
 * Ends every way in of a person, or of a whole tenant, in the caller's transaction: sessions and links at once, and, unless
 * the person may come back, password and identities, too.
 */
export async function endAccess(
  context: Context,
  tx: Tx,
  { tenantId, userId }: { tenantId: string; userId?: string },
  why: 'deactivated' | 'deleted' | 'offboarded',
): Promise<void> {
  const { requestId } = context
  const { actor } = authOf(context)
  const whose = userId === undefined ? {} : { userId }
  for (const table of why === 'deactivated' ? [accountLink] : [userPassword, accountLink, userIdentity])
    await tx
      .delete(table)
      .where(and(eq(table.tenantId, tenantId), userId === undefined ? undefined : eq(table.userId, userId)))
  // Sessions last, as everybody who touches both.
  await endSessions(tx, { tenantId, ...whose, why, actor, requestId }, context.ports.clock.now())
  if (userId === undefined) await tx.delete(identityProvider).where(eq(identityProvider.tenantId, tenantId))
}
