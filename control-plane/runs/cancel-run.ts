import { AppError } from '../../shared/errors.ts'
import { cancelRun as cancelInLedger } from '../../shared/runs/ledger.ts'
import { type Context, inTenant } from '../context.ts'
import { wakeQueues } from './wake-queues.ts'

const reasonCharsMax = 500

/**
 * Asks a run to stop: waiting steps end at once, running ones as soon as their worker hears it. A repeat changes nothing.
 * Throws NOT_FOUND, and CONFLICT for a run that has ended in another way.
 */
export async function cancelRun(
  context: Context,
  input: { runId: string; reason?: string | null | undefined },
): Promise<void> {
  const { runId } = input
  const reason = (input.reason ?? 'requested').slice(0, reasonCharsMax)
  // The ledger itself cancels with the word "deadline" and ends such a run as timed out.
  const told = reason === 'deadline' ? 'requested' : reason
  const state = await inTenant(context, (tx, { actor }) =>
    cancelInLedger(tx, { runId, reason: told, actor, requestId: context.requestId }),
  )
  if (state === null) throw new AppError('NOT_FOUND', 'There is no such run.')
  if (state !== 'cancelling' && state !== 'cancelled')
    throw new AppError('CONFLICT', `This run has already ended: ${state}.`)
  wakeQueues(context, runId)
}
