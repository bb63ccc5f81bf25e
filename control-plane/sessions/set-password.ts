import { and, eq } from 'drizzle-orm'
import { type LinkPurpose, accountLink, tenant, tenantUser, userPassword } from '../../schema/tables/index.ts'
import { splitLinkToken } from '../../shared/auth/account-link.ts'
import { audit } from '../../shared/audit.ts'
import { type Tx, withTenant } from '../../shared/db/db.ts'
import { AppError } from '../../shared/errors.ts'
import { isGoodLink } from '../auth/account-links.ts'
import { accountOf, addressOf, countAttempt, forgetAttempts } from '../auth/attempts.ts'
import { refuseWeak } from '../auth/password.ts'
import { readPerson } from '../auth/person.ts'
import { endSessions } from '../auth/session.ts'
import { authOf, type Context, inTenant, readInTenant } from '../context.ts'

/**
 * Sets a person's password by a one-time link, which is used up; sessions that the person has end. A link of an invitation
 * makes an invited person active. Throws BAD_INPUT for a weak password (the link stays good), RATE_LIMITED, and
 * UNAUTHENTICATED with one text for a link that is unknown, wrong, used, replaced or too old, or of somebody who may not
 * come in.
 */
export async function setPasswordByLink(
  context: Context,
  purpose: LinkPurpose,
  { token, password }: { token: string; password: string },
): Promise<void> {
  refuseWeak(password, 'password')
  const address = addressOf(context)
  await countAttempt(context, address)
  const link = splitLinkToken(token)
  if (link?.purpose !== purpose) throw badLink()
  const { tenantId, userId } = link
  const scope = { tenantId, side: 'api' } as const
  // Only a good link is worth the hash.
  if (!(await withTenant(context.ports.db, scope, (tx) => isGoodLink(context, tx, token, link)))) throw badLink()
  const hash = await context.identity.passwords.hash(password)
  await withTenant(context.ports.db, scope, async (tx) => {
    // As whoever changes people of the tenant: one of the two waits.
    await tx.select({ id: tenant.id }).from(tenant).where(eq(tenant.id, tenantId)).for('no key update')
    if (!(await isGoodLink(context, tx, token, link))) throw badLink()
    const person = await readPerson(tx, tenantId, userId)
    const isInvited = purpose === 'activate' && person?.status === 'invited'
    if (person?.tenantStatus !== 'active' || (person.status !== 'active' && !isInvited)) throw badLink()
    if (isInvited) {
      await tx
        .update(tenantUser)
        .set({ status: 'active' })
        .where(and(eq(tenantUser.tenantId, tenantId), eq(tenantUser.id, userId)))
      await note(context, tx, tenantId, userId, 'user.activated', { from: 'invited' })
    }
    await storePassword(context, tx, { tenantId, userId, hash }, undefined)
  })
  await forgetAttempts(context, address)
}

/**
 * Changes the password of the caller, who goes on; other sessions end, and links are good no more. Throws BAD_INPUT for a
 * wrong or weak password and for a caller without one, RATE_LIMITED as sign-ins do.
 */
export async function changePassword(
  context: Context,
  { current, next }: { current: string; next: string },
): Promise<void> {
  const { tenantId, bearer } = authOf(context)
  if (bearer.kind !== 'session') throw new AppError('BAD_INPUT', 'Only a person who signed in has a password here.')
  refuseWeak(next, 'newPassword')
  const { userId, sessionId } = bearer
  const isOfUser = and(eq(userPassword.tenantId, tenantId), eq(userPassword.userId, userId))
  const [known] = await readInTenant(context, (db) =>
    db
      .select({ email: tenantUser.email, hash: userPassword.hash })
      .from(tenantUser)
      .innerJoin(
        userPassword,
        and(eq(userPassword.tenantId, tenantUser.tenantId), eq(userPassword.userId, tenantUser.id)),
      )
      .where(isOfUser),
  )
  if (!known) throw wrongPassword()
  const counted = [accountOf('account', tenantId, known.email), ...addressOf(context)]
  await countAttempt(context, counted)
  const { isRight } = await context.identity.passwords.verify(current, known.hash)
  if (!isRight) throw wrongPassword()
  const hash = await context.identity.passwords.hash(next)
  await inTenant(context, async (tx) => {
    const [kept] = await tx.select({ hash: userPassword.hash }).from(userPassword).where(isOfUser).for('update')
    if (kept?.hash !== known.hash) throw wrongPassword()
    await storePassword(context, tx, { tenantId, userId, hash }, sessionId)
  })
  await forgetAttempts(context, counted)
}

async function storePassword(
  context: Context,
  tx: Tx,
  { tenantId, userId, hash }: { tenantId: string; userId: string; hash: string },
  exceptId: string | undefined,
): Promise<void> {
  const now = context.ports.clock.now()
  await tx
    .insert(userPassword)
    .values({ tenantId, userId, hash, setAt: now })
    .onConflictDoUpdate({ target: [userPassword.tenantId, userPassword.userId], set: { hash, setAt: now } })
  await tx.delete(accountLink).where(and(eq(accountLink.tenantId, tenantId), eq(accountLink.userId, userId)))
  await note(context, tx, tenantId, userId, 'user.password_set', {})
  const { requestId } = context
  await endSessions(tx, { tenantId, userId, exceptId, why: 'password', actor: `user:${userId}`, requestId }, now)
}

const note = (
  { requestId }: Context,
  tx: Tx,
  tenantId: string,
  userId: string,
  action: string,
  details: Record<string, unknown>,
): Promise<void> => audit(tx, { tenantId, actor: `user:${userId}`, action, target: userId, requestId, details })

const badLink = (): AppError =>
  new AppError('UNAUTHENTICATED', 'This link is not valid.', {
    hint: 'Ask for a new one: it is good once, and not for long.',
  })

const wrongPassword = (): AppError =>
  new AppError('BAD_INPUT', 'The current password is wrong.', { place: { path: 'currentPassword' } })
