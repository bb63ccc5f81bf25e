import { and, eq } from 'drizzle-orm'
import { apiKey } from '../../schema/tables/index.ts'
import { audit } from '../../shared/audit.ts'
import { withTenant } from '../../shared/db/db.ts'
import { AppError } from '../../shared/errors.ts'
import { forgetKeys } from '../auth/forget-keys.ts'
import { authOf, type Context } from '../context.ts'
import type { ApiKeyRow } from './graphql.ts'
import { keyOwner } from './key-rights.ts'

/** Refuses a key from the next request on. A repeat answers the key and changes nothing. Throws NOT_FOUND, FORBIDDEN. */
export async function revokeApiKey(
  context: Context,
  input: { tenantId?: string | null | undefined; id: string },
): Promise<ApiKeyRow> {
  const { id } = input
  const tenantId = keyOwner(context, input.tenantId)
  const { actor } = authOf(context)
  const isKey = and(eq(apiKey.tenantId, tenantId), eq(apiKey.id, id))
  return withTenant(context.ports.db, { tenantId, side: 'api' }, async (tx) => {
    const [found] = await tx.select().from(apiKey).where(isKey).for('update')
    if (!found) throw new AppError('NOT_FOUND', 'There is no such key.')
    if (found.revokedAt !== null) return found
    const revokedAt = context.ports.clock.now()
    await tx.update(apiKey).set({ revokedAt }).where(isKey)
    await audit(tx, { tenantId, actor, action: 'api_key.revoked', target: id, requestId: context.requestId })
    await forgetKeys(context, tx, tenantId, [id])
    return { ...found, revokedAt }
  })
}
