import { and, eq } from 'drizzle-orm'
import { session } from '../../schema/tables/index.ts'
import { audit } from '../../shared/audit.ts'
import { type Tx, withTenant } from '../../shared/db/db.ts'
import { AppError } from '../../shared/errors.ts'
import { hashSecret, sameHash } from '../../shared/secrets/api-key.ts'
import { mayAct, readPerson, refused } from '../auth/person.ts'
import {
  endSessions,
  mintAccessToken,
  randomHex,
  type RefreshToken,
  refreshTokenOf,
  sessionEnd,
  type SessionRow,
  sessionTimes,
  splitRefreshToken,
} from '../auth/session.ts'
import type { Context } from '../context.ts'
import type { SessionTokens } from './login.ts'

type Outcome = { session: SessionRow; refreshToken: string } | 'repeat' | 'reused' | 'none'

/**
 * The next pair of tokens for a refresh token, which is good once. The one before, within 10 s of its use, is a repeat:
 * CONFLICT, and the session goes on. Any older or later use of a token that once was good is taken for a theft and ends the
 * session, with an audit row. Throws UNAUTHENTICATED with the one text for that and whatever else is not good.
 */
export async function refreshSession(context: Context, text: string): Promise<SessionTokens> {
  const token = splitRefreshToken(text)
  if (!token) throw refused()
  const { tenantId } = token
  const outcome = await withTenant(context.ports.db, { tenantId, side: 'api' }, (tx) => rotate(context, tx, token))
  if (outcome === 'repeat')
    throw new AppError('CONFLICT', 'This session was refreshed a moment ago.', {
      hint: 'Use the tokens that the other request got; if they are lost, sign in again.',
    })
  if (outcome === 'reused' || outcome === 'none') throw refused()
  const { token: accessToken, expiresAt } = await mintAccessToken(context.ports, outcome.session)
  return { accessToken, expiresAt, ...outcome }
}

async function rotate(context: Context, tx: Tx, token: RefreshToken): Promise<Outcome> {
  const { tenantId, id, family } = token
  const { requestId } = context
  const now = context.ports.clock.now()
  const isSession = and(eq(session.tenantId, tenantId), eq(session.id, id))
  const [row] = await tx.select().from(session).where(isSession).for('update')
  const [familyHash, tokenHash] = [await hashSecret(family), await hashSecret(token.secret)]
  // Without the family's secret it never was one of ours: whoever only knows the id of a session cannot end it.
  if (!row || !sameHash(familyHash, row.familyHash)) return 'none'
  if (row.endedAt !== null || row.expiresAt <= now) return 'none'
  const { userId } = row
  const actor = `user:${userId}`
  if (!sameHash(tokenHash, row.tokenHash)) {
    const isPrevious = row.previousHash !== null && sameHash(tokenHash, row.previousHash)
    if (isPrevious && now.getTime() - row.refreshedAt.getTime() <= sessionTimes.repeatMs) return 'repeat'
    await audit(tx, { tenantId, actor, action: 'session.reuse_detected', target: id, requestId })
    await endSessions(tx, { tenantId, sessionId: id, why: 'reuse', actor, requestId }, now)
    return 'reused'
  }
  const person = await readPerson(tx, tenantId, userId)
  if (!person || !mayAct(person)) return 'none'
  const secret = randomHex()
  const [next] = await tx
    .update(session)
    .set({
      tokenHash: await hashSecret(secret),
      previousHash: tokenHash,
      refreshedAt: now,
      expiresAt: sessionEnd(row.startedAt, now),
    })
    .where(isSession)
    .returning()
  if (!next) throw new Error('an update answered no row')
  await audit(tx, { tenantId, actor, action: 'session.refreshed', target: id, requestId })
  return { session: next, refreshToken: refreshTokenOf({ tenantId, id, family, secret }) }
}
