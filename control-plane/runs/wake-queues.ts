import { wakeRun } from '../../shared/runs/wake-run.ts'
import { authOf, type Context } from '../context.ts'

/**
 * After the answer: wakes the queues in which steps of the run are ready or running, and says to its watchers that
 * something happened. Both are hints; whoever misses them looks again within seconds.
 */
export function wakeQueues(context: Context, runId: string, tenantId = authOf(context).tenantId): void {
  context.ports.hub.notify({ tenantId, runId })
  context.later(() => wakeRun(context.ports, { tenantId, runId }, 'api'))
}
