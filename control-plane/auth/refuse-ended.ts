import { and, eq } from 'drizzle-orm'
import { apiKey, userIdentity } from '../../schema/tables/index.ts'
import type { Tx } from '../../shared/db/db.ts'
import type { Auth } from '../context.ts'
import { mayAct, readPerson, refused, rightsOf } from './person.ts'
import { isLive } from './session.ts'

/**
 * Throws UNAUTHENTICATED when the key or session has ended since the request began, or its person may do less than then.
 * For work that outlives its first answer; `tx` is bound to the caller's tenant.
 */
export async function refuseEnded(tx: Tx, auth: Auth, now: Date): Promise<void> {
  const { tenantId, bearer, actor } = auth
  if (!(await isGood(tx, auth, now))) throw refused({ tenantId, actor })
  if (bearer.kind === 'key') return
  const person = await readPerson(tx, tenantId, bearer.userId)
  if (!person || !mayAct(person) || !auth.scopes.isSubsetOf(rightsOf(person).scopes)) throw refused({ tenantId, actor })
}

async function isGood(tx: Tx, { tenantId, bearer }: Auth, now: Date): Promise<boolean> {
  if (bearer.kind === 'session') return isLive(tx, { tenantId, ...bearer }, now)
  if (bearer.kind === 'key') {
    const [row] = await tx
      .select({ revokedAt: apiKey.revokedAt, expiresAt: apiKey.expiresAt })
      .from(apiKey)
      .where(and(eq(apiKey.tenantId, tenantId), eq(apiKey.id, bearer.keyId)))
    return row !== undefined && row.revokedAt === null && (row.expiresAt === null || row.expiresAt > now)
  }
  const [row] = await tx
    .select({ notBefore: userIdentity.notBefore })
    .from(userIdentity)
    .where(
      and(
        eq(userIdentity.tenantId, tenantId),
        eq(userIdentity.issuer, bearer.issuer),
        eq(userIdentity.subject, bearer.subject),
      ),
    )
  return row !== undefined && bearer.issuedAt >= row.notBefore && bearer.tokenEndsAt > now
}
