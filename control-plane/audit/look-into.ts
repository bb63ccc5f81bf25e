import { eq } from 'drizzle-orm'
import type { Scope } from '../../schema/roles.ts'
import { tenant } from '../../schema/tables/index.ts'
import { audit } from '../../shared/audit.ts'
import { type Tx, withTenant } from '../../shared/db/db.ts'
import { AppError } from '../../shared/errors.ts'
import { holds } from '../auth/api-key.ts'
import { authOf, type Context } from '../context.ts'

/** What is looked at, in a word for the tenant, and which scopes open the tenants that are not the key's own. */
export type Look = { what: string; scopes: readonly Scope[] }

/**
 * Works inside the key's own tenant, or inside another one for a key with one of the scopes: then that tenant's log says
 * who looked at what, in the transaction of the look. Throws NOT_FOUND alike for a tenant that the key may not see and for
 * one that there is not.
 */
export function lookInto<T>(
  context: Context,
  tenantId: string,
  { what, scopes }: Look,
  work: (tx: Tx) => Promise<T>,
): Promise<T> {
  const auth = authOf(context)
  const isForeign = auth.tenantId !== tenantId
  if (isForeign && !holds(auth, scopes)) throw missing({ isForeign })
  return withTenant(context.ports.db, { tenantId, side: 'api' }, async (tx) => {
    if (!isForeign) return work(tx)
    const [owner] = await tx.select({ id: tenant.id }).from(tenant).where(eq(tenant.id, tenantId))
    if (!owner) throw missing()
    const seen = await work(tx)
    const { actor } = auth
    const { requestId } = context
    await audit(tx, { tenantId, actor, action: 'tenant.read', target: tenantId, requestId, details: { what } })
    return seen
  })
}

const missing = (context: Record<string, unknown> = {}): AppError =>
  new AppError('NOT_FOUND', 'There is no such tenant.', { context })
