import { eq } from 'drizzle-orm'
import { tenant, tenantLimit, tenantQueue } from '../../schema/tables/index.ts'
import type { Tx } from '../../shared/db/db.ts'
import { AppError } from '../../shared/errors.ts'
import { lookInto } from '../audit/look-into.ts'
import type { Context } from '../context.ts'

/** The tenant of this id. Throws NOT_FOUND when there is none, and alike when the key may not see it. */
export async function readTenant(context: Context, id: string): Promise<typeof tenant.$inferSelect> {
  const [row] = await asReader(context, id, 'profile', (tx) => tx.select().from(tenant).where(eq(tenant.id, id)))
  if (!row) throw missing()
  return row
}

/** What its plan allows. */
export async function readLimits(context: Context, id: string): Promise<typeof tenantLimit.$inferSelect | undefined> {
  const [row] = await asReader(context, id, 'limits', (tx) =>
    tx.select().from(tenantLimit).where(eq(tenantLimit.tenantId, id)),
  )
  return row
}

/** Its logical queues, by name. */
export function readQueues(context: Context, id: string): Promise<(typeof tenantQueue.$inferSelect)[]> {
  return asReader(context, id, 'queues', (tx) =>
    tx.select().from(tenantQueue).where(eq(tenantQueue.tenantId, id)).orderBy(tenantQueue.queue),
  )
}

/**
 * Works inside a tenant that the key may read: its own, or any for the platform, which that tenant's log then says.
 * `what` names what is read. Throws NOT_FOUND for another.
 */
export function asReader<T>(
  context: Context,
  tenantId: string,
  what: string,
  work: (tx: Tx) => Promise<T>,
): Promise<T> {
  return lookInto(context, tenantId, { what, scopes: ['platform:admin', 'platform:read'] }, work)
}

const missing = (): AppError => new AppError('NOT_FOUND', 'There is no such tenant.')
