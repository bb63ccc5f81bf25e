import { eq } from 'drizzle-orm'
import { tenantQueue } from '../../schema/tables/index.ts'
import { type Side, withTenant } from '../db/db.ts'
import type { Ports } from '../ports.ts'

/**
 * Tells whoever carries wake-ups how the queues of a tenant stand now. A hint, after the commit: what is told is read anew,
 * so that of two changes at once the last word is that of the rows.
 */
export async function steerQueues(
  { db, waker }: Pick<Ports, 'db' | 'waker'>,
  tenantId: string,
  side: Side,
): Promise<void> {
  if (!waker.steer) return
  const rows = await withTenant(db, { tenantId, side }, (tx) =>
    tx
      .select({ queue: tenantQueue.queue, desired: tenantQueue.desired, maxRunning: tenantQueue.maxRunning })
      .from(tenantQueue)
      .where(eq(tenantQueue.tenantId, tenantId)),
  )
  await waker.steer(
    rows.map(({ queue, desired, maxRunning }) => ({ tenantId, queue, paused: desired !== 'running', maxRunning })),
  )
}
