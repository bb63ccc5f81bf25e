import { platformTenantId } from '../../schema/roles.ts'
import type { QueueType } from '../../schema/states.ts'
import { AppError } from '../../shared/errors.ts'
import { controlFleet, type WorkerAction } from '../../shared/runs/fleet.ts'
import { holds } from '../auth/api-key.ts'
import { authOf, type Context, inTenant } from '../context.ts'
import { controlQueues } from './control-queues.ts'

/** What is asked of which queues; `force` counts for a stop. */
export type ControlRequest = {
  action: WorkerAction
  tenantId?: string | null | undefined
  queues?: readonly QueueType[] | null | undefined
  all?: boolean | null | undefined
  force?: boolean | null | undefined
}

/** Which queues it was about: of one tenant, or all there are. */
export type Controlled = { tenantId: string; queues: QueueType[] } | 'all'

/**
 * Starts, stops or restarts queues of one tenant in one transaction, or turns the platform's switch over all of them. A
 * repeat changes nothing and leaves no audit row. Throws FORBIDDEN for another tenant, whether it exists or not; NOT_FOUND
 * to the platform for one that does not; BAD_INPUT; and CONFLICT when a tenant would start what the platform stopped.
 */
export async function controlWorkers(context: Context, request: ControlRequest): Promise<Controlled> {
  const auth = authOf(context)
  const { action, all } = request
  const force = request.force ?? false
  const tenantId = request.tenantId ?? auth.tenantId
  if ((all || tenantId !== auth.tenantId) && !holds(auth, 'platform:admin'))
    throw new AppError('FORBIDDEN', 'This key has no say over queues of other tenants.')
  if (all) {
    if (request.tenantId || request.queues)
      throw new AppError('BAD_INPUT', 'all means every queue of every tenant.', { place: { path: 'all' } })
    await controlAll(context, { action, force })
    return 'all'
  }
  if (tenantId === platformTenantId)
    throw new AppError('BAD_INPUT', 'Name a tenant, or all.', { place: { path: 'tenantId' } })
  if (request.queues?.length === 0)
    throw new AppError('BAD_INPUT', 'Name at least one queue, or leave them out for all.', {
      place: { path: 'queues' },
    })
  const queues = await controlQueues(context, { tenantId, action, force, queues: request.queues ?? undefined })
  return { tenantId, queues }
}

// A stop keeps what each queue wants, so that a start brings back what was: what a tenant stopped stays stopped. What the
// platform stopped tenant by tenant starts in the same way; a repeat goes on where a crash left that.
async function controlAll(context: Context, wanted: { action: WorkerAction; force: boolean }): Promise<void> {
  const { waker } = context.ports
  const { requestId } = context
  const { held, wake } = await inTenant(context, (tx, { actor }) => controlFleet(tx, { ...wanted, actor, requestId }))
  if (wanted.action === 'stop') return
  for (const tenantId of held) await controlQueues(context, { tenantId, action: 'start', force: false, heldOnly: true })
  context.later(async () => void (await Promise.all(wake.map((target) => waker.wake(target)))))
}
