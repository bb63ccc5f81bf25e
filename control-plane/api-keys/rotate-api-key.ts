import { and, eq } from 'drizzle-orm'
import { scopes } from '../../schema/roles.ts'
import { apiKey } from '../../schema/tables/index.ts'
import { audit } from '../../shared/audit.ts'
import { withTenant } from '../../shared/db/db.ts'
import { AppError } from '../../shared/errors.ts'
import { forgetKeys } from '../auth/forget-keys.ts'
import { authOf, type Context } from '../context.ts'
import { insertApiKey } from './create-api-key.ts'
import type { ApiKeyRow } from './graphql.ts'
import { endOf, keyOwner, refuseMore } from './key-rights.ts'

/** How long the old key may stay good: a day, in seconds. */
export const overlapSecondsMax = 86_400

/** A key to replace. */
export type Rotation = {
  tenantId?: string | null | undefined
  id: string
  overlapSeconds?: number | null | undefined
  expiresAt?: Date | null | undefined
}

/**
 * Puts a new key of the same name and scopes in the place of one; the old is good for `overlapSeconds` more (default 0:
 * refused at once), and never longer than it was. The new one ends at `expiresAt`, by default with the old. Throws
 * BAD_INPUT, NOT_FOUND, CONFLICT for a key that is revoked, expired or replaced, FORBIDDEN when it may do more.
 */
export async function rotateApiKey(
  context: Context,
  input: Rotation,
): Promise<{ apiKey: ApiKeyRow; replaced: ApiKeyRow; token: string }> {
  const tenantId = keyOwner(context, input.tenantId)
  const overlapSeconds = input.overlapSeconds ?? 0
  if (overlapSeconds < 0 || overlapSeconds > overlapSecondsMax)
    throw new AppError('BAD_INPUT', `overlapSeconds must be 0 to ${overlapSecondsMax}.`, {
      place: { path: 'overlapSeconds' },
    })
  const auth = authOf(context)
  const { actor } = auth
  const isKey = and(eq(apiKey.tenantId, tenantId), eq(apiKey.id, input.id))
  return withTenant(context.ports.db, { tenantId, side: 'api' }, async (tx) => {
    const [old] = await tx.select().from(apiKey).where(isKey).for('update')
    if (!old) throw new AppError('NOT_FOUND', 'There is no such key.')
    refuseMore(auth, tenantId, old.scopes)
    const now = context.ports.clock.now()
    if (old.revokedAt !== null || old.replacedBy !== null || (old.expiresAt !== null && old.expiresAt <= now))
      throw new AppError('CONFLICT', 'This key is revoked, expired or replaced.')
    const made = await insertApiKey(tx, {
      tenantId,
      name: old.name,
      scopes: scopes.filter((scope) => old.scopes.includes(scope)),
      expiresAt: endOf(context, input.expiresAt ?? old.expiresAt),
      actor,
      requestId: context.requestId,
    })
    const lastMoment = new Date(now.getTime() + overlapSeconds * 1000)
    const end = {
      replacedBy: made.apiKey.id,
      expiresAt: old.expiresAt !== null && old.expiresAt < lastMoment ? old.expiresAt : lastMoment,
      // Without overlap it is revoked: an end in time would leave a slow clock elsewhere a moment.
      revokedAt: overlapSeconds === 0 ? now : null,
    }
    await tx.update(apiKey).set(end).where(isKey)
    await audit(tx, {
      tenantId,
      actor,
      action: 'api_key.rotated',
      target: input.id,
      requestId: context.requestId,
      details: { replacedBy: made.apiKey.id, overlapSeconds },
    })
    await forgetKeys(context, tx, tenantId, [input.id])
    return { ...made, replaced: { ...old, ...end } }
  })
}
