import { and, eq } from 'drizzle-orm'
import type { QueueType } from '../../schema/states.ts'
import { tenantQueue } from '../../schema/tables/index.ts'
import { audit } from '../../shared/audit.ts'
import { withTenant } from '../../shared/db/db.ts'
import { AppError } from '../../shared/errors.ts'
import { steerQueues } from '../../shared/runs/steer-queues.ts'
import { authOf, type Context } from '../context.ts'

/** Limits of one queue; what is absent stays. */
export type LimitsRequest = {
  tenantId: string
  queue: QueueType
  maxRunning?: number | null | undefined
  stepsPerTurn?: number | null | undefined
}

const maxima = { maxRunning: 1000, stepsPerTurn: 100 } as const

/**
 * Sets how many steps of a queue run at once and how many it gets per turn. What runs above a lower limit goes on. A
 * repeat changes nothing and leaves no audit row. Throws BAD_INPUT, and NOT_FOUND.
 */
export async function setQueueLimits(context: Context, { tenantId, queue, ...wanted }: LimitsRequest): Promise<void> {
  const maxRunning = bounded('maxRunning', wanted.maxRunning)
  const stepsPerTurn = bounded('stepsPerTurn', wanted.stepsPerTurn)
  if (maxRunning === undefined && stepsPerTurn === undefined)
    throw new AppError('BAD_INPUT', 'Give maxRunning or stepsPerTurn.')
  const { db, hub, waker } = context.ports
  const isThis = and(eq(tenantQueue.tenantId, tenantId), eq(tenantQueue.queue, queue))
  await withTenant(db, { tenantId, side: 'api' }, async (tx) => {
    const [row] = await tx.select().from(tenantQueue).where(isThis).for('update')
    if (!row) throw new AppError('NOT_FOUND', 'There is no such tenant.', { place: { path: 'tenantId' } })
    const next = { maxRunning: maxRunning ?? row.maxRunning, quantum: stepsPerTurn ?? row.quantum }
    if (next.maxRunning === row.maxRunning && next.quantum === row.quantum) return
    await tx.update(tenantQueue).set(next).where(isThis)
    await audit(tx, {
      tenantId,
      actor: authOf(context).actor,
      action: 'queue.limited',
      target: queue,
      requestId: context.requestId,
      details: {
        from: { maxRunning: row.maxRunning, stepsPerTurn: row.quantum },
        to: { maxRunning: next.maxRunning, stepsPerTurn: next.quantum },
      },
    })
  })
  hub.notify({ tenantId })
  context.later(async () => {
    await steerQueues(context.ports, tenantId, 'api')
    await waker.wake({ tenantId, queue })
  })
}

function bounded(name: keyof typeof maxima, value: number | null | undefined): number | undefined {
  if (value === null || value === undefined) return undefined
  if (value >= 1 && value <= maxima[name]) return value
  throw new AppError('BAD_INPUT', `${name} must be 1 to ${maxima[name]}.`, { place: { path: name } })
}
