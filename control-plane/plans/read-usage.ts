import { and, count, eq, inArray, sum } from 'drizzle-orm'
import { type Quota, quotas } from '../../schema/config/quotas.ts'
import { pipelineRun, tenantLimit, tenantQueue, tenantUsage } from '../../schema/tables/index.ts'
import type { Tx } from '../../shared/db/db.ts'
import type { Context } from '../context.ts'
import { asReader } from '../tenants/read-tenant.ts'

/** How much of a quota is used. `percent` is whole and rounded down; it passes 100 where a load was let to its end. */
export type Usage = { quota: Quota; limit: number; used: number; percent: number; resetsAt: Date | null }

/** What a tenant uses of each quota, in the order of the list; nothing for one without limits. Throws NOT_FOUND. */
export function readUsage(context: Context, tenantId: string): Promise<Usage[]> {
  const now = context.ports.clock.now()
  const month = now.toISOString().slice(0, 7)
  return asReader(context, tenantId, 'usage', async (tx) => {
    const [limits] = await tx.select().from(tenantLimit).where(eq(tenantLimit.tenantId, tenantId))
    if (!limits) return []
    const used = await usedOf(tx, tenantId, month)
    // Keys of a constant object: exactly the names of the quotas.
    return (Object.keys(quotas) as Quota[]).map((quota) => {
      const limit = limits[quotas[quota].limit]
      const taken = used.get(quota) ?? 0
      return {
        quota,
        limit,
        used: taken,
        percent: Math.floor((taken / limit) * 100),
        resetsAt: quotas[quota].isMonthly ? new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() + 1, 1)) : null,
      }
    })
  })
}

async function usedOf(tx: Tx, tenantId: string, month: string): Promise<Map<Quota, number>> {
  const counters = await tx
    .select()
    .from(tenantUsage)
    .where(and(eq(tenantUsage.tenantId, tenantId), inArray(tenantUsage.period, ['', month])))
  const [queued] = await tx
    .select({ used: count() })
    .from(pipelineRun)
    .where(and(eq(pipelineRun.tenantId, tenantId), inArray(pipelineRun.state, ['queued', 'running', 'cancelling'])))
  const [running] = await tx
    .select({ used: sum(tenantQueue.running).mapWith(Number) })
    .from(tenantQueue)
    .where(eq(tenantQueue.tenantId, tenantId))
  return new Map<Quota, number>([
    ...counters.map(({ quota, used }) => [quota, used] as const),
    ['queuedRuns', queued?.used ?? 0],
    ['runningSteps', running?.used ?? 0],
  ])
}
