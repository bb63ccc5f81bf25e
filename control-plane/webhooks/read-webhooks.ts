import { and, asc, eq, gt } from 'drizzle-orm'
import { webhook } from '../../schema/tables/index.ts'
import { AppError } from '../../shared/errors.ts'
import type { WebhookRow } from '../../shared/webhooks/open-webhook.ts'
import { authOf, type Context, readInTenant } from '../context.ts'
import { type Page, type PageArgs, readPage } from '../graphql/page.ts'

/** A webhook that is missing, or another tenant's. */
export const noSuchWebhook = (): AppError =>
  new AppError('NOT_FOUND', 'There is no such webhook.', { place: { path: 'id' } })

/** Webhooks of the tenant, by name. */
export function listWebhooks(context: Context, args: PageArgs): Promise<Page<WebhookRow>> {
  const { tenantId } = authOf(context)
  return readPage(context, args, {
    list: ['webhooks', tenantId],
    position: (row) => [row.name, row.id],
    read: (limit, after) =>
      readInTenant(context, (db) =>
        db
          .select()
          .from(webhook)
          .where(and(eq(webhook.tenantId, tenantId), after ? gt(webhook.name, after[0]) : undefined))
          .orderBy(asc(webhook.name))
          .limit(limit),
      ),
  })
}
