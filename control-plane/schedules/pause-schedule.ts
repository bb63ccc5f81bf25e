import type { ScheduleRow } from '../../shared/schedules/fire-schedule.ts'
import type { Context } from '../context.ts'
import { changeSchedule, withSchedule } from './change-schedule.ts'

/** Stops a schedule from firing, that of a file too; runs go on. A repeat changes nothing. Throws NOT_FOUND. */
export function pauseSchedule(context: Context, id: string): Promise<ScheduleRow> {
  return withSchedule(context, id, async (tx, row, auth) => {
    if (row.pausedAt) return row
    const to = { pausedBy: auth.actor, pausedAt: context.ports.clock.now(), nextFireAt: null }
    return changeSchedule(context, tx, row, auth, to, 'schedule.paused')
  })
}
