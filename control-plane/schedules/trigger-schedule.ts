import { AppError, type ErrorCode, errorCodes } from '../../shared/errors.ts'
import { fireNow } from '../../shared/schedules/fire-schedule.ts'
import type { Context } from '../context.ts'
import { wakeQueues } from '../runs/wake-queues.ts'
import { withSchedule } from './change-schedule.ts'
import type { FireRow } from './read-schedules.ts'

/**
 * Starts a run of a schedule now, with its parameters and the present day of its zone, whatever its overlap policy and
 * also while it is paused. Its next times stay. Throws NOT_FOUND, and why the run was refused; the refusal is kept among
 * its fires.
 */
export async function triggerSchedule(context: Context, id: string): Promise<FireRow> {
  const { fire, started } = await withSchedule(context, id, (tx, row, { actor }) =>
    fireNow(tx, row, { actor, requestId: context.requestId }),
  )
  if ('problem' in started) {
    const { code, message, hint } = started.problem
    if (!Object.hasOwn(errorCodes, code)) throw new Error(`${code} is no error code`)
    // Checked above: problems are made of errors.
    throw new AppError(code as ErrorCode, message, hint === undefined ? {} : { hint })
  }
  wakeQueues(context, started.runId)
  return fire
}
