import { and, eq, inArray, sql } from 'drizzle-orm'
import type { QueueState, QueueType } from '../../schema/states.ts'
import { runStep, tenantQueue } from '../../schema/tables/index.ts'
import { audit } from '../../shared/audit.ts'
import { type Tx, withTenant } from '../../shared/db/db.ts'
import { AppError } from '../../shared/errors.ts'
import type { WorkerAction } from '../../shared/runs/fleet.ts'
import { steerQueues } from '../../shared/runs/steer-queues.ts'
import { holds } from '../auth/api-key.ts'
import { authOf, type Context } from '../context.ts'

/** What is asked of queues of one tenant: of all of them, of the named ones, or of those that the platform stopped. */
export type QueueControl = {
  tenantId: string
  action: WorkerAction
  force: boolean
  queues?: readonly QueueType[] | undefined
  heldOnly?: boolean
}

/** What the platform is called where a tenant reads who stopped its queue. */
export const platformName = 'platform'

/**
 * Starts, stops or restarts queues of a tenant, which the caller has made sure is the key's to control, and answers them.
 * A stop lets running steps end; by force they are given back, as those of a restart are, and run again from their
 * beginning. What is as it should be already stays untouched: a restart of steps that are on their way back is a repeat.
 * Hints go out after the commit. Throws NOT_FOUND, and CONFLICT when a tenant would start what the platform stopped.
 */
export async function controlQueues(context: Context, control: QueueControl): Promise<QueueType[]> {
  const { tenantId, action } = control
  const { db, hub, waker } = context.ports
  const queues = await withTenant(db, { tenantId, side: 'api' }, (tx) => changeQueues(context, tx, control))
  hub.notify({ tenantId })
  context.later(async () => {
    await steerQueues(context.ports, tenantId, 'api')
    if (action !== 'stop') await Promise.all(queues.map((queue) => waker.wake({ tenantId, queue })))
  })
  return queues
}

type QueueRow = typeof tenantQueue.$inferSelect

async function changeQueues(context: Context, tx: Tx, control: QueueControl): Promise<QueueType[]> {
  const { tenantId, action, force } = control
  const auth = authOf(context)
  const isPlatform = holds(auth, 'platform:admin')
  const all = await lockQueues(tx, control)
  if (all.length === 0) throw new AppError('NOT_FOUND', 'There is no such tenant.', { place: { path: 'tenantId' } })
  const held = all.filter((row) => row.desired !== 'running' && row.pausedBy === platformName)
  const rows = control.heldOnly ? held : all
  if (action !== 'stop' && !isPlatform && held.length > 0)
    throw new AppError('CONFLICT', `The platform has stopped ${held.map(({ queue }) => queue).join(', ')}.`, {
      hint: 'Only the operator of the platform starts it again; name the other queues to start those.',
    })
  const busy = action === 'restart' ? await busyQueues(tx, tenantId, rows) : new Set<QueueType>()
  const by = isPlatform ? platformName : auth.actor
  const changed = rows.filter((row) => (action === 'stop' ? isStop(row, force, isPlatform) : isStart(row, busy)))
  for (const row of changed)
    await tx
      .update(tenantQueue)
      .set(action === 'stop' ? stopped(row, force, by) : started(row, busy))
      .where(and(eq(tenantQueue.tenantId, tenantId), eq(tenantQueue.queue, row.queue)))
  if (changed.length > 0)
    await audit(tx, {
      tenantId,
      actor: auth.actor,
      action: { start: 'workers.started', stop: 'workers.stopped', restart: 'workers.restarted' }[action],
      target: tenantId,
      requestId: context.requestId,
      details: { queues: changed.map(({ queue }) => queue), ...(action === 'stop' ? { force } : {}) },
    })
  return rows.map(({ queue }) => queue)
}

// In the order of the ledger, which takes several queues of a tenant by name.
function lockQueues(tx: Tx, { tenantId, queues }: QueueControl): Promise<QueueRow[]> {
  const named = queues === undefined ? undefined : inArray(tenantQueue.queue, [...queues])
  return tx
    .select()
    .from(tenantQueue)
    .where(and(eq(tenantQueue.tenantId, tenantId), named))
    .orderBy(tenantQueue.queue)
    .for('update')
}

// A stop by the platform outranks one by the tenant.
const isStop = (row: QueueRow, force: boolean, isPlatform: boolean): boolean =>
  row.desired === 'running' || (force && row.desired === 'draining') || (isPlatform && row.pausedBy !== platformName)

const isStart = (row: QueueRow, busy: ReadonlySet<QueueType>): boolean =>
  row.desired !== 'running' || busy.has(row.queue)

function stopped(row: QueueRow, force: boolean, by: string) {
  const desired: QueueState = force || row.desired === 'stopped' ? 'stopped' : 'draining'
  const isNew = row.desired === 'running' || by === platformName
  return {
    desired,
    // What was told to stop is given back even when the queue is started again before its worker hears of it.
    generation: row.desired !== desired && desired === 'stopped' ? row.generation + 1 : row.generation,
    pausedBy: isNew ? by : row.pausedBy,
    pausedAt: isNew ? sql`clock_timestamp()` : row.pausedAt,
  }
}

function started(row: QueueRow, busy: ReadonlySet<QueueType>) {
  return {
    desired: 'running' as const,
    generation: busy.has(row.queue) ? row.generation + 1 : row.generation,
    pausedBy: null,
    pausedAt: null,
  }
}

// Queues in which a step runs that no restart has called back yet.
async function busyQueues(tx: Tx, tenantId: string, rows: readonly QueueRow[]): Promise<Set<QueueType>> {
  const found = await tx
    .selectDistinct({ queue: runStep.queue, generation: runStep.generation })
    .from(runStep)
    .where(and(eq(runStep.tenantId, tenantId), eq(runStep.state, 'running')))
  const isCurrent = (row: QueueRow): boolean =>
    found.some(({ queue, generation }) => queue === row.queue && generation === row.generation)
  return new Set(rows.filter(isCurrent).map(({ queue }) => queue))
}
