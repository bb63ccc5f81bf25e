import { eq } from 'drizzle-orm'
import { tenant, tenantLimit, tenantQueue } from '../../schema/tables/index.ts'
import { type Tx, withTenant } from '../../shared/db/db.ts'
import { AppError } from '../../shared/errors.ts'
import { holds } from '../auth/api-key.ts'
import { authOf, type Context } from '../context.ts'

/** The tenant of this id. Throws NOT_FOUND when there is none, and alike when the key may not see it. */
export async function readTenant(context: Context, id: string): Promise<typeof tenant.$inferSelect> {
  const [row] = await asReader(context, id, (tx) => tx.select().from(tenant).where(eq(tenant.id, id)))
  if (!row) throw missing()
  return row
}

/** What its plan allows. */
export async function readLimits(context: Context, id: string): Promise<typeof tenantLimit.$inferSelect | undefined> {
  const [row] = await asReader(context, id, (tx) => tx.select().from(tenantLimit).where(eq(tenantLimit.tenantId, id)))
  return row
}

/** Its logical queues, by name. */
export function readQueues(context: Context, id: string): Promise<(typeof tenantQueue.$inferSelect)[]> {
  return asReader(context, id, (tx) =>
    tx.select().from(tenantQueue).where(eq(tenantQueue.tenantId, id)).orderBy(tenantQueue.queue),
  )
}

/** Works inside a tenant that the key may read: its own, or any for the platform. Throws NOT_FOUND for another. */
export function asReader<T>(context: Context, tenantId: string, work: (tx: Tx) => Promise<T>): Promise<T> {
  const auth = authOf(context)
  if (auth.tenantId !== tenantId && !holds(auth, ['platform:admin', 'platform:read'])) throw missing()
  return withTenant(context.ports.db, { tenantId, side: 'api' }, work)
}

const missing = (): AppError => new AppError('NOT_FOUND', 'There is no such tenant.')
