import { and, asc, eq, gt, inArray, ne } from 'drizzle-orm'
import type { Role } from '../../schema/roles.ts'
import { tenantUser, userRole } from '../../schema/tables/index.ts'
import { AppError } from '../../shared/errors.ts'
import { type Context, inTenant } from '../context.ts'
import { loaderOf } from '../graphql/batch.ts'
import { type Page, type PageArgs, readPage } from '../graphql/page.ts'
import { asReader } from '../tenants/read-tenant.ts'

/** People of a tenant that the key may read, in the order in which they were made; deleted ones are not among them. */
export function listUsers(
  context: Context,
  tenantId: string,
  args: PageArgs,
): Promise<Page<typeof tenantUser.$inferSelect>> {
  return readPage(context, args, {
    list: ['users', tenantId],
    position: (row) => [row.id, row.id],
    read: (limit, after) =>
      asReader(context, tenantId, 'people', (tx) =>
        tx
          .select()
          .from(tenantUser)
          .where(
            and(
              eq(tenantUser.tenantId, tenantId),
              ne(tenantUser.status, 'deleted'),
              after ? gt(tenantUser.id, after[1]) : undefined,
            ),
          )
          .orderBy(asc(tenantUser.id))
          .limit(limit),
      ),
  })
}

/** A person of the key's tenant, deleted ones included. Throws NOT_FOUND. */
export function readUser(context: Context, id: string): Promise<typeof tenantUser.$inferSelect> {
  return inTenant(context, async (tx, { tenantId }) => {
    const [row] = await tx
      .select()
      .from(tenantUser)
      .where(and(eq(tenantUser.tenantId, tenantId), eq(tenantUser.id, id)))
    if (!row) throw new AppError('NOT_FOUND', 'There is no such person.')
    return row
  })
}

/** Roles of a person; those of one page are read together. */
export function rolesOf(context: Context, user: { tenantId: string; id: string }): Promise<Role[]> {
  const read = async (ids: string[]): Promise<Map<string, Role[]>> => {
    const rows = await asReader(context, user.tenantId, 'roles of people', (tx) =>
      tx
        .select()
        .from(userRole)
        .where(and(eq(userRole.tenantId, user.tenantId), inArray(userRole.userId, ids)))
        .orderBy(asc(userRole.role)),
    )
    return new Map([...Map.groupBy(rows, (row) => row.userId)].map(([id, of]) => [id, of.map((row) => row.role)]))
  }
  return loaderOf(context, `roles of ${user.tenantId}`, read, () => [])(user.id)
}
