import { AppError } from '../../shared/errors.ts'
import { quotaExceeded, quotaRefusal } from '../../shared/quota-error.ts'
import { refusedRetry, retryRun as retryInLedger } from '../../shared/runs/ledger.ts'
import { type Context, inTenant } from '../context.ts'
import { wakeQueues } from './wake-queues.ts'

/**
 * Runs again what did not succeed and all that comes after it, or everything from `fromStep` on; what succeeded before
 * stays. Throws NOT_FOUND for the run or the step, CONFLICT for a run that has not ended or has nothing to retry, and
 * QUOTA_EXCEEDED when a new run would be refused for it; a retry is no new run of the month.
 */
export async function retryRun(
  context: Context,
  input: { runId: string; fromStep?: string | null | undefined },
): Promise<void> {
  const { runId } = input
  const from = input.fromStep ?? null
  const answer = await inTenant(context, async (tx, { actor }) => {
    const usedUp = await refusedRetry(tx, runId)
    if (usedUp) throw quotaExceeded(quotaRefusal.parse(usedUp))
    return retryInLedger(tx, { runId, from, actor, requestId: context.requestId })
  })
  if ('state' in answer && !('refused' in answer)) return wakeQueues(context, runId)
  if (answer.refused === 'NOT_FOUND')
    throw new AppError('NOT_FOUND', from === null ? 'There is no such run.' : 'There is no such run or step.')
  if (answer.refused === 'GROUP_BUSY')
    throw new AppError('CONFLICT', `The place of this run in its group is taken by ${answer.runId}.`, {
      hint: 'Wait until that run has ended, or cancel it.',
    })
  throw new AppError(
    'CONFLICT',
    `A run that is ${answer.state} cannot be retried${from === null ? '' : ' from there'}.`,
    {
      hint: 'Failed, cancelled and timed out runs can be retried; succeeded ones from a step.',
    },
  )
}
