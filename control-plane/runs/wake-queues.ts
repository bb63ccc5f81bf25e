import { and, eq, inArray } from 'drizzle-orm'
import { runStep } from '../../schema/tables/index.ts'
import { withTenant } from '../../shared/db/db.ts'
import { authOf, type Context } from '../context.ts'

/**
 * After the answer: wakes the queues in which steps of the run are ready or running, and says to its watchers that
 * something happened. Both are hints; whoever misses them looks again within seconds.
 */
export function wakeQueues(context: Context, runId: string, tenantId = authOf(context).tenantId): void {
  const { db, waker, hub } = context.ports
  hub.notify({ tenantId, runId })
  context.later(async () => {
    const steps = await withTenant(db, { tenantId, side: 'api' }, (tx) =>
      tx
        .selectDistinct({ queue: runStep.queue })
        .from(runStep)
        .where(
          and(eq(runStep.tenantId, tenantId), eq(runStep.runId, runId), inArray(runStep.state, ['ready', 'running'])),
        ),
    )
    await Promise.all(steps.map(({ queue }) => waker.wake({ tenantId, queue })))
  })
}
