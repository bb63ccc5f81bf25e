import { and, asc, eq, gt, isNull, lt, ne, or, sql } from 'drizzle-orm'
import { z } from 'zod'
import { type SessionEnd, session } from '../../schema/tables/index.ts'
import { mintToken, type OwnToken, verifyOwnToken } from '../../shared/auth/own-token.ts'
import { audit } from '../../shared/audit.ts'
import { type Tx, withTenant } from '../../shared/db/db.ts'
import { isId, newId, tenantIdPattern } from '../../shared/ids.ts'
import type { Ports } from '../../shared/ports.ts'
import { hashSecret } from '../../shared/secrets/api-key.ts'
import type { Auth } from '../context.ts'
import { mayAct, readPerson, refused, rightsOf } from './person.ts'

/** A session as the table has it. */
export type SessionRow = typeof session.$inferSelect

/** How long things live. A session that is not refreshed for a week is over, and every one after 30 days. */
export const sessionTimes = {
  accessSeconds: 15 * 60,
  idleMs: 7 * 86_400_000,
  sessionMs: 30 * 86_400_000,
  /** For so long a refresh token that has just been replaced is taken for a repeat and not for a theft. */
  repeatMs: 10_000,
  /** Sessions of one person at once; one more ends the oldest. */
  max: 20,
} as const

const accessKind: OwnToken = {
  purpose: 'session',
  typ: 'at+jwt',
  audience: 'tributary/api',
  lifetimeSeconds: sessionTimes.accessSeconds,
}

/** An access token of a session; it says who and where, and nothing of what somebody may do. */
export const mintAccessToken = (
  { signing, clock }: Pick<Ports, 'signing' | 'clock'>,
  { tenantId, userId, id }: Pick<SessionRow, 'tenantId' | 'userId' | 'id'>,
): Promise<{ token: string; expiresAt: Date }> =>
  mintToken(signing, accessKind, { sub: userId, tenant: tenantId, session: id }, clock.now())

const claimsShape = z.object({
  sub: z.string().refine((id) => isId('user', id)),
  tenant: z.string().regex(tenantIdPattern),
  session: z.string().refine((id) => isId('session', id)),
})

/**
 * The authority behind an access token. Session, person, roles and tenant are read again, so that whatever ended or changed
 * counts at once. Throws UNAUTHENTICATED with the one text.
 */
export async function authenticateSession(
  { db, signing, clock }: Pick<Ports, 'db' | 'signing' | 'clock'>,
  token: string,
): Promise<Auth> {
  const now = clock.now()
  const verified = await verifyOwnToken(signing, accessKind, token, now).catch(() => undefined)
  const claims = claimsShape.safeParse(verified)
  if (!claims.success) throw refused()
  const { sub: userId, tenant: tenantId, session: sessionId } = claims.data
  const actor = `user:${userId}`
  const person = await withTenant(db, { tenantId, side: 'api' }, async (tx) =>
    (await isLive(tx, { tenantId, userId, sessionId }, now)) ? readPerson(tx, tenantId, userId) : undefined,
  )
  if (!person || !mayAct(person)) throw refused()
  const bearer = { kind: 'session', userId, sessionId, roles: person.roles } as const
  return { tenantId, actor, bearer, expiresAt: undefined, ...rightsOf(person) }
}

/** Whether the person's session is not over. */
export async function isLive(
  tx: Tx,
  { tenantId, userId, sessionId }: { tenantId: string; userId: string; sessionId: string },
  now: Date,
): Promise<boolean> {
  const [row] = await tx
    .select({ endedAt: session.endedAt, expiresAt: session.expiresAt })
    .from(session)
    .where(and(eq(session.tenantId, tenantId), eq(session.id, sessionId), eq(session.userId, userId)))
  return row !== undefined && row.endedAt === null && row.expiresAt > now
}

/** Starts a session in the caller's transaction, with its audit row; the refresh token is shown this once. */
export async function startSession(
  tx: Tx,
  { tenantId, userId, requestId }: { tenantId: string; userId: string; requestId: string },
  now: Date,
): Promise<{ session: SessionRow; refreshToken: string }> {
  const id = newId('session')
  const [family, secret] = [randomHex(), randomHex()]
  const [made] = await tx
    .insert(session)
    .values({
      tenantId,
      id,
      userId,
      familyHash: await hashSecret(family),
      tokenHash: await hashSecret(secret),
      startedAt: now,
      refreshedAt: now,
      expiresAt: sessionEnd(now, now),
    })
    .returning()
  if (!made) throw new Error('an insert answered no row')
  await audit(tx, { tenantId, actor: `user:${userId}`, action: 'session.started', target: id, requestId })
  await makeRoom(tx, made, requestId, now)
  return { session: made, refreshToken: refreshTokenOf({ tenantId, id, family, secret }) }
}

/** When a session ends that was refreshed now and is not refreshed again. */
export const sessionEnd = (startedAt: Date, now: Date): Date =>
  new Date(Math.min(startedAt.getTime() + sessionTimes.sessionMs, now.getTime() + sessionTimes.idleMs))

/** Whose sessions end, and who ends them. */
export type Ending = {
  tenantId: string
  userId?: string
  sessionId?: string
  /** This one goes on. */
  exceptId?: string | undefined
  why: SessionEnd
  actor: string
  requestId: string
}

/** Ends sessions in the caller's transaction, each with its audit row, and answers how many. */
export async function endSessions(tx: Tx, ending: Ending, now: Date): Promise<number> {
  const { tenantId, userId, sessionId, exceptId, why, actor, requestId } = ending
  const ended = await tx
    .update(session)
    .set({ endedAt: now, endedWhy: why })
    .where(
      and(
        eq(session.tenantId, tenantId),
        isNull(session.endedAt),
        gt(session.expiresAt, now),
        userId === undefined ? undefined : eq(session.userId, userId),
        sessionId === undefined ? undefined : eq(session.id, sessionId),
        exceptId === undefined ? undefined : ne(session.id, exceptId),
      ),
    )
    .returning({ id: session.id })
  for (const { id } of ended)
    await audit(tx, { tenantId, actor, action: 'session.ended', target: id, requestId, details: { why } })
  return ended.length
}

/** A refresh token: which session, the secret of all its tokens, and the secret of this one. */
export type RefreshToken = { tenantId: string; id: string; family: string; secret: string }

/** Its text. */
export const refreshTokenOf = ({ tenantId, id, family, secret }: RefreshToken): string =>
  `ref_${tenantId}.${id}.${family}.${secret}`

/** Its parts; undefined for what has not the form of one. */
export function splitRefreshToken(token: string): RefreshToken | undefined {
  const [tenantId, id, family, secret] =
    /^ref_([a-z][a-z0-9_]{1,47})\.(ses_[0-9a-f]{32})\.([0-9a-f]{64})\.([0-9a-f]{64})$/.exec(token)?.slice(1) ?? []
  if (tenantId === undefined || id === undefined || family === undefined || secret === undefined) return undefined
  return { tenantId, id, family, secret }
}

/** 256 random bits. */
export const randomHex = (): string =>
  Array.from(crypto.getRandomValues(new Uint8Array(32)), (byte) => byte.toString(16).padStart(2, '0')).join('')

// What is long over is forgotten, and of what goes on only so many are kept.
async function makeRoom(tx: Tx, { tenantId, userId, id }: SessionRow, requestId: string, now: Date): Promise<void> {
  const ofPerson = and(eq(session.tenantId, tenantId), eq(session.userId, userId))
  const longAgo = new Date(now.getTime() - sessionTimes.sessionMs)
  await tx.delete(session).where(and(ofPerson, or(lt(session.expiresAt, longAgo), lt(session.endedAt, longAgo))))
  const live = await tx
    .select({ id: session.id })
    .from(session)
    .where(and(ofPerson, isNull(session.endedAt), gt(session.expiresAt, now)))
    .orderBy(asc(session.startedAt), asc(sql`${session.id} = ${id}`), asc(session.id))
  for (const { id: sessionId } of live.slice(0, Math.max(0, live.length - sessionTimes.max)))
    await endSessions(tx, { tenantId, userId, sessionId, why: 'too_many', actor: `user:${userId}`, requestId }, now)
}
