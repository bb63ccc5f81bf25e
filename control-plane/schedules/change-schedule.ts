import { and, eq } from 'drizzle-orm'
import { schedule } from '../../schema/tables/index.ts'
import { audit } from '../../shared/audit.ts'
import type { Tx } from '../../shared/db/db.ts'
import type { ScheduleRow } from '../../shared/schedules/fire-schedule.ts'
import { type Auth, type Context, inTenant } from '../context.ts'
import { noSuchSchedule } from './read-schedules.ts'

/** One transaction that holds a schedule of the tenant. Throws NOT_FOUND, alike for another tenant's. */
export function withSchedule<T>(
  context: Context,
  id: string,
  work: (tx: Tx, row: ScheduleRow, auth: Auth) => Promise<T>,
): Promise<T> {
  return inTenant(context, async (tx, auth) => {
    const [row] = await tx
      .select()
      .from(schedule)
      .where(and(eq(schedule.tenantId, auth.tenantId), eq(schedule.id, id)))
      .for('update')
    if (!row) throw noSuchSchedule()
    return work(tx, row, auth)
  })
}

/** Writes a change of a schedule as its next version, with its audit row. */
export async function changeSchedule(
  context: Context,
  tx: Tx,
  row: ScheduleRow,
  { actor }: Auth,
  to: Partial<ScheduleRow>,
  action: string,
): Promise<ScheduleRow> {
  const { tenantId, id } = row
  const [changed] = await tx
    .update(schedule)
    .set({ ...to, version: row.version + 1, updatedAt: context.ports.clock.now() })
    .where(and(eq(schedule.tenantId, tenantId), eq(schedule.id, id)))
    .returning()
  if (!changed) throw new Error('a schedule that is held is not there')
  await audit(tx, { tenantId, actor, action, target: id, requestId: context.requestId, details: {} })
  return changed
}
