import { and, eq } from 'drizzle-orm'
import { schedule } from '../../schema/tables/index.ts'
import { audit } from '../../shared/audit.ts'
import type { Context } from '../context.ts'
import { withSchedule } from './change-schedule.ts'
import { belongsToFile } from './upsert-schedule.ts'

/** Removes a schedule with what is known of its slots; runs stay. Throws NOT_FOUND, CONFLICT for the schedule of a file. */
export function deleteSchedule(context: Context, id: string): Promise<string> {
  return withSchedule(context, id, async (tx, row, { tenantId, actor }) => {
    if (row.source === 'yaml') throw belongsToFile()
    await tx.delete(schedule).where(and(eq(schedule.tenantId, tenantId), eq(schedule.id, id)))
    const details = { pipeline: row.pipeline, name: row.name }
    const { requestId } = context
    await audit(tx, { tenantId, actor, action: 'schedule.deleted', target: id, requestId, details })
    return id
  })
}
