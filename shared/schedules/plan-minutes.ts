import { eq } from 'drizzle-orm'
import { triggerLimits } from '../../schema/config/triggers.ts'
import { tenant } from '../../schema/tables/index.ts'
import type { Tx } from '../db/db.ts'

/** How many minutes the times of a schedule must lie apart, by the plan of the tenant. */
export async function planMinutes(tx: Tx, tenantId: string): Promise<number> {
  const [row] = await tx.select({ plan: tenant.plan }).from(tenant).where(eq(tenant.id, tenantId))
  const minutes: Readonly<Record<string, number>> = triggerLimits.scheduleMinutes
  return minutes[row?.plan ?? ''] ?? triggerLimits.scheduleMinutes.STARTER
}
