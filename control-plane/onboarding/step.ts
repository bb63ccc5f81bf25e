import { eq, sql } from 'drizzle-orm'
import { tenant } from '../../schema/tables/index.ts'
import { audit } from '../../shared/audit.ts'
import { type Tx, withTenant } from '../../shared/db/db.ts'
import { authOf, type Context } from '../context.ts'

/** Steps of onboarding, in order; `tenant.provisioned` holds those that are done. */
export const onboardingSteps = ['tenant', 'keys', 'queues', 'lake', 'folders', 'user', 'active'] as const
/** A step of onboarding. */
export type OnboardingStep = (typeof onboardingSteps)[number]

/**
 * Does a step unless it is done, and notes it with an audit row in the same transaction. The tenant's row is locked: two
 * calls at once take turns. Undefined when the step was done before, or the tenant is no longer provisioning.
 */
export function once<T>(
  context: Context,
  tenantId: string,
  step: OnboardingStep,
  work: (tx: Tx) => Promise<T>,
): Promise<T | undefined> {
  return withTenant(context.ports.db, { tenantId, side: 'api' }, async (tx) => {
    const [row] = await tx.select().from(tenant).where(eq(tenant.id, tenantId)).for('update')
    // One that is being offboarded meanwhile gets nothing more, and above all is not made active.
    if (row?.status !== 'provisioning' || row.provisioned.includes(step)) return undefined
    const done = await work(tx)
    await note(context, tx, tenantId, step)
    return done
  })
}

/** Notes a step as done, with its audit row, in the caller's transaction. */
export async function note(context: Context, tx: Tx, tenantId: string, step: OnboardingStep): Promise<void> {
  await tx
    .update(tenant)
    .set({ provisioned: sql`array_append(${tenant.provisioned}, ${step})` })
    .where(eq(tenant.id, tenantId))
  await audit(tx, {
    tenantId,
    actor: authOf(context).actor,
    action: 'tenant.provisioned',
    target: tenantId,
    requestId: context.requestId,
    details: { step },
  })
}
