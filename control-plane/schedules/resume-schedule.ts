import { databaseTime, firstTime, type ScheduleRow } from '../../shared/schedules/fire-schedule.ts'
import type { Context } from '../context.ts'
import { changeSchedule, withSchedule } from './change-schedule.ts'

/**
 * Lets a paused schedule fire again from its next time on; times that passed meanwhile were not missed. A repeat changes
 * nothing. Throws NOT_FOUND.
 */
export function resumeSchedule(context: Context, id: string): Promise<ScheduleRow> {
  return withSchedule(context, id, async (tx, row, auth) => {
    if (!row.pausedAt) return row
    const nextFireAt = firstTime(row, await databaseTime(tx))
    const to = { pausedBy: null, pausedAt: null, nextFireAt, failures: 0, problem: null }
    return changeSchedule(context, tx, row, auth, to, 'schedule.resumed')
  })
}
