import { sql } from 'drizzle-orm'
import { platformTenantId } from '../../schema/roles.ts'
import type { TenantState } from '../../schema/states.ts'
import type { tenant } from '../../schema/tables/index.ts'
import { audit } from '../../shared/audit.ts'
import { rowsOf, withTenant } from '../../shared/db/db.ts'
import { authOf, type Context } from '../context.ts'
import { type Page, type PageArgs, readPage } from '../graphql/page.ts'
import { tenantOfJson } from './tenant-of-json.ts'

/** Which tenants; what is absent does not filter. */
export type TenantFilter = { status?: TenantState | null | undefined; plan?: string | null | undefined }

/**
 * Tenants of the platform by id, without the platform itself. Only for keys that hold a scope of the platform: the database
 * answers it inside the platform's own tenant and nowhere else, whose log says who listed them.
 */
export function listTenants(
  context: Context,
  args: PageArgs,
  { status = null, plan = null }: TenantFilter,
): Promise<Page<typeof tenant.$inferSelect>> {
  return readPage(context, args, {
    list: ['tenants', status, plan],
    position: (row) => [row.id, row.id],
    read: async (limit, after) => {
      const rows = await withTenant(context.ports.db, { tenantId: platformTenantId, side: 'api' }, async (tx) => {
        await audit(tx, {
          tenantId: platformTenantId,
          actor: authOf(context).actor,
          action: 'tenant.listed',
          target: platformTenantId,
          requestId: context.requestId,
          details: { status, plan, after: after?.[1] ?? null },
        })
        return rowsOf<{ row: Record<string, unknown> }>(
          tx,
          sql`select app.list_tenants(${after?.[1] ?? null}, ${status}, ${plan}, ${limit}) as row`,
        )
      })
      return rows.map(({ row }) => tenantOfJson(row))
    },
  })
}
