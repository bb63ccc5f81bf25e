import { and, eq, sql } from 'drizzle-orm'
import { webhook } from '../../schema/tables/index.ts'
import { audit } from '../../shared/audit.ts'
import { AppError } from '../../shared/errors.ts'
import { ownerOf, type WebhookRow } from '../../shared/webhooks/open-webhook.ts'
import { makeWebhookSecret } from '../../shared/webhooks/signature.ts'
import { type Context, inTenant } from '../context.ts'
import { noSuchWebhook } from './read-webhooks.ts'

/** How long the secret before stays good beside the new one, in seconds. */
export const webhookOverlap = { default: 86_400, max: 604_800 } as const

/**
 * Gives a webhook a new secret, which is in this answer and nowhere else. The one before stays good for `overlapSeconds`;
 * any older one is not. Throws NOT_FOUND, BAD_INPUT.
 */
export function rotateWebhook(
  context: Context,
  { id, overlapSeconds }: { id: string; overlapSeconds?: number | null | undefined },
): Promise<{ webhook: WebhookRow; secret: string }> {
  const overlap = overlapSeconds ?? webhookOverlap.default
  if (overlap < 0 || overlap > webhookOverlap.max)
    throw new AppError('BAD_INPUT', `overlapSeconds must be 0 to ${webhookOverlap.max}.`, {
      place: { path: 'overlapSeconds' },
    })
  return inTenant(context, async (tx, { tenantId, actor }) => {
    const { secrets } = context.ports
    const isIt = and(eq(webhook.tenantId, tenantId), eq(webhook.id, id))
    const [row] = await tx.select().from(webhook).where(isIt).for('update')
    if (!row) throw noSuchWebhook()
    const secret = makeWebhookSecret()
    const version = row.version + 1
    const [changed] = await tx
      .update(webhook)
      .set({
        version,
        sealed: await secrets.seal(tx, ownerOf({ ...row, version }, 0), { secret }),
        previousSealed: overlap === 0 ? null : row.sealed,
        previousUntil: overlap === 0 ? null : sql`now() + ${overlap} * interval '1 second'`,
        updatedAt: sql`now()`,
      })
      .where(isIt)
      .returning()
    if (!changed) throw new Error('a webhook that is held is not there')
    const { requestId } = context
    await audit(tx, {
      tenantId,
      actor,
      requestId,
      action: 'webhook.rotated',
      target: id,
      details: { version, overlap },
    })
    return { webhook: changed, secret }
  })
}
