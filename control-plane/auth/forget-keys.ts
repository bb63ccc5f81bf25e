import { and, eq, isNull } from 'drizzle-orm'
import { apiKey } from '../../schema/tables/index.ts'
import type { Tx } from '../../shared/db/db.ts'
import type { Context } from '../context.ts'

/**
 * Lets no one come in by what is remembered of keys that change in the caller's transaction: all that are not revoked, or
 * `keyIds`. Called before the commit, so that nobody is let in once the caller is answered; a commit that takes long is
 * followed by another.
 */
export async function forgetKeys(
  context: Context,
  tx: Tx,
  tenantId: string,
  keyIds?: readonly string[],
): Promise<void> {
  const { keyCache } = context
  if (!keyCache) return
  const ids = keyIds ?? (await idsOf(tx, tenantId))
  await keyCache.forget(ids)
  context.later(() => keyCache.forget(ids))
}

async function idsOf(tx: Tx, tenantId: string): Promise<string[]> {
  const rows = await tx
    .select({ id: apiKey.id })
    .from(apiKey)
    .where(and(eq(apiKey.tenantId, tenantId), isNull(apiKey.revokedAt)))
  return rows.map(({ id }) => id)
}
