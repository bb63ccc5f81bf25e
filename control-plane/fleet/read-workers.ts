import { and, asc, count, eq, getTableColumns, gt, max, sql } from 'drizzle-orm'
import { platformTenantId } from '../../schema/roles.ts'
import { worker } from '../../schema/tables/index.ts'
import type { Tx } from '../../shared/db/db.ts'
import { lookInto } from '../audit/look-into.ts'
import { type Context, authOf, inTenant, readInTenant } from '../context.ts'
import { type FleetStanding, fleetStanding } from '../../shared/runs/fleet.ts'
import { type Page, type PageArgs, readPage } from '../graphql/page.ts'
import { platformReaders } from './read-queues.ts'

/** A worker process; `isLive` when it was seen within 30 seconds. */
export type WorkerRow = typeof worker.$inferSelect & { isLive: boolean }

/** How many live workers serve a tenant, or with null are there at all, and when one of them was last seen. */
export type WorkersSeen = { tenantId: string | null; count: number; seenAt: Date | null }

const isLive = sql<boolean>`${worker.lastSeen} > clock_timestamp() - interval '30 seconds'`

/**
 * The live workers that serve a tenant: that of the key; for the platform the named one, or all workers. Throws NOT_FOUND
 * for another tenant, and alike for one that there is not.
 */
export async function countWorkers(context: Context, given?: string | null): Promise<WorkersSeen> {
  const auth = authOf(context)
  const tenantId = given ?? (auth.tenantId === platformTenantId ? null : auth.tenantId)
  const read = async (tx: Tx): Promise<WorkersSeen> => {
    const [found] = await tx
      .select({ count: count(), seenAt: max(worker.lastSeen) })
      .from(worker)
      .where(and(eq(worker.draining, false), isLive, serves(tenantId)))
    return { tenantId, count: found?.count ?? 0, seenAt: found?.seenAt ?? null }
  }
  if (tenantId === null) return inTenant(context, read)
  return lookInto(context, tenantId, { what: 'workers', scopes: platformReaders }, read)
}

/** Worker processes that were seen within a day, oldest first: those that serve a tenant, or with null all. */
export function listWorkers(context: Context, args: PageArgs, tenantId: string | null): Promise<Page<WorkerRow>> {
  return readPage(context, args, {
    list: ['workers', tenantId],
    position: (row) => [row.id, row.id],
    read: async (limit, after) =>
      readInTenant(context, (db) =>
        db
          .select({ ...getTableColumns(worker), isLive })
          .from(worker)
          .where(and(serves(tenantId), after ? gt(worker.id, after[1]) : undefined))
          .orderBy(asc(worker.id))
          .limit(limit),
      ),
  })
}

/** The whole fleet in figures. For the platform. */
export const readFleet = (context: Context): Promise<FleetStanding> => inTenant(context, fleetStanding)

const serves = (tenantId: string | null) =>
  tenantId === null ? undefined : sql`(${worker.tenants} is null or ${tenantId} = any (${worker.tenants}))`
