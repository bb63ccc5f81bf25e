import { and, eq } from 'drizzle-orm'
import { userIdentity } from '../../schema/tables/index.ts'
import { audit } from '../../shared/audit.ts'
import { AppError } from '../../shared/errors.ts'
import { endSessions } from '../auth/session.ts'
import { type Context, inTenant } from '../context.ts'

/**
 * Ends the caller's session, or all that the person has, and answers how many ended. Tokens of an identity provider from
 * before now are refused from then on, too. Throws BAD_INPUT for a key, which is revoked instead.
 */
export function logout(context: Context, isEverywhere: boolean): Promise<number> {
  return inTenant(context, async (tx, { tenantId, actor, bearer }) => {
    if (bearer.kind === 'key')
      throw new AppError('BAD_INPUT', 'A key has no session.', { hint: 'Revoke it: revokeApiKey.' })
    const { userId } = bearer
    const { requestId } = context
    const now = context.ports.clock.now()
    const isOfPerson = and(eq(userIdentity.tenantId, tenantId), eq(userIdentity.userId, userId))
    const isThis =
      bearer.kind === 'provider'
        ? and(isOfPerson, eq(userIdentity.issuer, bearer.issuer), eq(userIdentity.subject, bearer.subject))
        : undefined
    let left = 0
    if (isEverywhere || isThis) {
      const closed = await tx
        .update(userIdentity)
        .set({ notBefore: now })
        .where(isEverywhere ? isOfPerson : isThis)
        .returning({ issuer: userIdentity.issuer })
      left = closed.length
      for (const { issuer } of closed)
        await audit(tx, {
          tenantId,
          actor,
          action: 'user.tokens_refused',
          target: userId,
          requestId,
          details: { issuer },
        })
    }
    if (!isEverywhere && bearer.kind === 'provider') return left
    const which = bearer.kind === 'session' && !isEverywhere ? { sessionId: bearer.sessionId } : {}
    return left + (await endSessions(tx, { tenantId, userId, ...which, why: 'logout', actor, requestId }, now))
  })
}
