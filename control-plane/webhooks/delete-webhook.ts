import { and, eq } from 'drizzle-orm'
import { webhook } from '../../schema/tables/index.ts'
import { audit } from '../../shared/audit.ts'
import { type Context, inTenant } from '../context.ts'
import { noSuchWebhook } from './read-webhooks.ts'

/** Removes a webhook with its secrets; its runs stay. Throws NOT_FOUND. */
export function deleteWebhook(context: Context, id: string): Promise<string> {
  return inTenant(context, async (tx, { tenantId, actor }) => {
    const [row] = await tx
      .delete(webhook)
      .where(and(eq(webhook.tenantId, tenantId), eq(webhook.id, id)))
      .returning({ name: webhook.name })
    if (!row) throw noSuchWebhook()
    const { requestId } = context
    await audit(tx, { tenantId, actor, requestId, action: 'webhook.deleted', target: id, details: { name: row.name } })
    return id
  })
}
