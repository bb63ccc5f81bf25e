import { and, asc, eq, gt } from 'drizzle-orm'
import { apiKey } from '../../schema/tables/index.ts'
import type { Context } from '../context.ts'
import { type Page, type PageArgs, readPage } from '../graphql/page.ts'
import { asReader } from '../tenants/read-tenant.ts'
import type { ApiKeyRow } from './graphql.ts'

/** Keys of a tenant that the caller may read, without their hashes. */
export function listApiKeys(context: Context, tenantId: string, args: PageArgs): Promise<Page<ApiKeyRow>> {
  return readPage(context, args, {
    list: ['apiKeys', tenantId],
    position: (row) => [row.id, row.id],
    read: (limit, after) =>
      asReader(context, tenantId, 'API keys', (tx) =>
        tx
          .select({
            tenantId: apiKey.tenantId,
            id: apiKey.id,
            name: apiKey.name,
            scopes: apiKey.scopes,
            createdBy: apiKey.createdBy,
            createdAt: apiKey.createdAt,
            expiresAt: apiKey.expiresAt,
            revokedAt: apiKey.revokedAt,
            lastUsedAt: apiKey.lastUsedAt,
            replacedBy: apiKey.replacedBy,
          })
          .from(apiKey)
          .where(and(eq(apiKey.tenantId, tenantId), after ? gt(apiKey.id, after[1]) : undefined))
          .orderBy(asc(apiKey.id))
          .limit(limit),
      ),
  })
}
