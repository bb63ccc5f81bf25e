import { eq } from 'drizzle-orm'
import { z } from 'zod'
import { limitsOf, type Plan, type PlanLimits, plans, queueLimitOf } from '../../schema/config/tenant.ts'
import { tenant, tenantLimit, tenantQueue } from '../../schema/tables/index.ts'
import { audit } from '../../shared/audit.ts'
import type { Tx } from '../../shared/db/db.ts'
import { AppError } from '../../shared/errors.ts'
import { steerQueues } from '../../shared/runs/steer-queues.ts'
import { authOf, type Context } from '../context.ts'
import { inLockedTenant, type TenantRow } from '../tenants/suspend-tenant.ts'

/** The numbers of a plan, by name. */
// Keys of a constant object: exactly the names of the numbers.
export const limitNames = Object.keys(plans.STARTER) as (keyof PlanLimits)[]

/**
 * Gives a tenant another plan: its limits and those of its queues follow at once, memory and threads with its next
 * process. What the platform set beside the plan stays. More than the new plan holds is kept, and nothing is added until
 * there is room. A repeat changes nothing. Throws NOT_FOUND, BAD_INPUT for the platform, CONFLICT for one that has left.
 */
export async function changePlan(context: Context, tenantId: string, plan: Plan): Promise<TenantRow> {
  const changedRow = await inLockedTenant(context, tenantId, async (tx, row) => {
    refuseGone(row)
    if (row.plan === plan) return row
    const overrides = await overridesOf(tx, tenantId)
    await writeLimits(tx, tenantId, plan, overrides)
    return changed(context, tx, row, { plan }, 'tenant.plan_changed', { from: row.plan, to: plan })
  })
  context.later(() => steerQueues(context.ports, tenantId, 'api'))
  return changedRow
}

/** What to set beside the plan; null gives a number back to the plan, what is absent stays. */
export type LimitChanges = { readonly [name in keyof PlanLimits]?: number | null | undefined }

/**
 * Sets numbers of a tenant beside its plan, at once and beyond a change of the plan. Throws NOT_FOUND, CONFLICT, and
 * BAD_INPUT for what is no positive whole number or more than the database counts.
 */
export async function setTenantLimits(context: Context, tenantId: string, given: LimitChanges): Promise<TenantRow> {
  const changes = limitNames.filter((name) => given[name] !== undefined)
  for (const name of changes) if (given[name] !== null) checkLimit(name, given[name])
  const changedRow = await inLockedTenant(context, tenantId, async (tx, row) => {
    refuseGone(row)
    const overrides: Partial<PlanLimits> = { ...(await overridesOf(tx, tenantId)) }
    for (const name of changes) {
      const value = given[name]
      if (value === null || value === undefined) delete overrides[name]
      else overrides[name] = value
    }
    await writeLimits(tx, tenantId, planOf(row), overrides)
    const details = Object.fromEntries(changes.map((name) => [name, given[name]]))
    return changed(context, tx, row, {}, 'tenant.limits_set', details)
  })
  context.later(() => steerQueues(context.ports, tenantId, 'api'))
  return changedRow
}

const bytes = z.int().min(2 ** 20)
const limitShapes: Partial<Record<keyof PlanLimits, z.ZodType>> = {
  memoryBytes: z.int().min(128 * 2 ** 20),
  diskBytes: bytes,
  runsPerMonth: z.int().min(1),
  rowsPerMonth: z.int().min(1),
  threads: z.int().min(1).max(256),
}
const countShape = z.int32().min(1)

function checkLimit(name: keyof PlanLimits, value: unknown): void {
  if ((limitShapes[name] ?? countShape).safeParse(value).success) return
  throw new AppError('BAD_INPUT', `${name} is too small, too large or no whole number.`, {
    place: { path: `limits.${name}` },
  })
}

async function overridesOf(tx: Tx, tenantId: string): Promise<Partial<PlanLimits>> {
  const [row] = await tx
    .select({ overrides: tenantLimit.overrides })
    .from(tenantLimit)
    .where(eq(tenantLimit.tenantId, tenantId))
  return row?.overrides ?? {}
}

async function writeLimits(tx: Tx, tenantId: string, plan: Plan, overrides: Partial<PlanLimits>): Promise<void> {
  await tx.update(tenantLimit).set(limitsOf(plan, overrides)).where(eq(tenantLimit.tenantId, tenantId))
  await tx
    .update(tenantQueue)
    .set({ maxRunning: queueLimitOf(plan, overrides) })
    .where(eq(tenantQueue.tenantId, tenantId))
}

async function changed(
  context: Context,
  tx: Tx,
  row: TenantRow,
  values: { plan?: Plan },
  action: string,
  details: Record<string, unknown>,
): Promise<TenantRow> {
  const next = { ...values, version: row.version + 1 }
  await tx.update(tenant).set(next).where(eq(tenant.id, row.id))
  const { actor } = authOf(context)
  await audit(tx, { tenantId: row.id, actor, action, target: row.id, requestId: context.requestId, details })
  return { ...row, ...next }
}

const isPlan = (name: string): name is Plan => Object.hasOwn(plans, name)

function planOf({ plan }: TenantRow): Plan {
  if (isPlan(plan)) return plan
  throw new AppError('CONFLICT', 'The plan of this tenant exists no more: change it first.')
}

function refuseGone({ status }: TenantRow): void {
  if (status === 'offboarded') throw new AppError('CONFLICT', 'This tenant has left.')
}
