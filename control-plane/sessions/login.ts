import { and, eq, sql } from 'drizzle-orm'
import { userPassword } from '../../schema/tables/index.ts'
import { rowsOf, withTenant } from '../../shared/db/db.ts'
import { AppError } from '../../shared/errors.ts'
import { tenantIdPattern } from '../../shared/ids.ts'
import { accountOf, addressOf, countAttempt, forgetAttempts } from '../auth/attempts.ts'
import { isShort, passwordBytesMax } from '../auth/password.ts'
import { mayAct, type Person, readPerson } from '../auth/person.ts'
import { mintAccessToken, type SessionRow, startSession } from '../auth/session.ts'
import type { Context } from '../context.ts'

/** Who wants in. */
export type Login = { tenantId: string; email: string; password: string }

/** The tokens of a session: one for requests, and one to get the next two with. */
export type SessionTokens = { accessToken: string; expiresAt: Date; refreshToken: string; session: SessionRow }

/**
 * Starts a session for a person with a password. An unknown tenant or address, a wrong password, and a person who is not
 * active give the same answer for the same work. Throws UNAUTHENTICATED, RATE_LIMITED after too many failures of the
 * account or the address, BAD_INPUT for a password that is too long for any account.
 */
export async function login(context: Context, { tenantId, email, password }: Login): Promise<SessionTokens> {
  if (!isShort(password) || email.length > 254)
    throw new AppError('BAD_INPUT', `A password has at most ${passwordBytesMax} bytes, an address 254 characters.`)
  const counted = [accountOf('account', tenantId, email), ...addressOf(context)]
  await countAttempt(context, counted)
  const found = tenantIdPattern.test(tenantId) ? await findAccount(context, tenantId, email) : undefined
  const { isRight, isOutdated } = await context.identity.passwords.verify(password, found?.hash)
  const { userId, hash } = found ?? {}
  if (!isRight || userId === undefined || hash === undefined) throw wrong(found && { tenantId, userId })
  const next = isOutdated ? await context.identity.passwords.hash(password) : undefined
  const now = context.ports.clock.now()
  const started = await withTenant(context.ports.db, { tenantId, side: 'api' }, async (tx) => {
    // Between the look and now the password may have been changed, or the person deactivated.
    const isPassword = and(eq(userPassword.tenantId, tenantId), eq(userPassword.userId, userId))
    const person = await readPerson(tx, tenantId, userId, 'share')
    const [kept] = await tx.select({ hash: userPassword.hash }).from(userPassword).where(isPassword).for('update')
    if (kept?.hash !== hash || !person || !mayAct(person)) return undefined
    if (next !== undefined) await tx.update(userPassword).set({ hash: next }).where(isPassword)
    return startSession(tx, { tenantId, userId, requestId: context.requestId }, now)
  })
  if (!started) throw wrong({ tenantId, userId })
  await forgetAttempts(context, counted)
  const { token, expiresAt } = await mintAccessToken(context.ports, started.session)
  return { accessToken: token, expiresAt, ...started }
}

/** The one refusal of a sign-in. Failures of tenants that there are go to their audit log, counted. */
export const wrong = (known?: { tenantId: string; userId?: string | undefined }): AppError =>
  new AppError('UNAUTHENTICATED', 'Tenant, address or password is wrong, or the account is not active.', {
    hint: 'Check the three; a person of the tenant who keeps its people can send a new link.',
    context: known ? { tenantId: known.tenantId, actor: known.userId ? `user:${known.userId}` : 'unknown' } : {},
  })

// Undefined for no such tenant; without an account only the tenant is known. One query, whatever there is.
async function findAccount(
  { ports }: Context,
  tenantId: string,
  email: string,
): Promise<{ userId: string | undefined; hash: string | undefined } | undefined> {
  const [row] = await withTenant(ports.db, { tenantId, side: 'api' }, (tx) =>
    rowsOf<{ user_id: string | null; hash: string | null; status: string; tenant_status: Person['tenantStatus'] }>(
      tx,
      sql`select u.id as user_id, p.hash, coalesce(u.status, '') as status, t.status as tenant_status
          from app.tenant t
          left join app.tenant_user u on u.tenant_id = t.id and u.status <> 'deleted' and lower(u.email) = lower(${email})
          left join app.user_password p on p.tenant_id = u.tenant_id and p.user_id = u.id
          where t.id = ${tenantId}`,
    ),
  )
  if (!row) return undefined
  const isActive = mayAct({ status: row.status, tenantStatus: row.tenant_status, roles: [] })
  return { userId: row.user_id ?? undefined, hash: (isActive ? row.hash : null) ?? undefined }
}
