import { and, eq, inArray } from 'drizzle-orm'
import { runStep } from '../../schema/tables/index.ts'
import { type Side, withTenant } from '../db/db.ts'
import type { Ports } from '../ports.ts'

/** Wakes the queues in which steps of the run are ready or running. A hint: who misses it looks again within seconds. */
export async function wakeRun(
  { db, waker }: Pick<Ports, 'db' | 'waker'>,
  { tenantId, runId }: { tenantId: string; runId: string },
  side: Side,
): Promise<void> {
  const steps = await withTenant(db, { tenantId, side }, (tx) =>
    tx
      .selectDistinct({ queue: runStep.queue })
      .from(runStep)
      .where(
        and(eq(runStep.tenantId, tenantId), eq(runStep.runId, runId), inArray(runStep.state, ['ready', 'running'])),
      ),
  )
  await Promise.all(steps.map(({ queue }) => waker.wake({ tenantId, queue })))
}
