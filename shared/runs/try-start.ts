import type { TriggerProblem } from '../../schema/tables/index.ts'
import type { Tx } from '../db/db.ts'
import { AppError, errorCodes, type ErrorCode } from '../errors.ts'
import { quotaError } from '../quota-error.ts'
import { type NewRun, startInTransaction } from './start-in-transaction.ts'

/**
 * What became of a start that no caller waits for: the run, or why there is none. `later` when it may help to try again,
 * `busy` when another run has its place in the pipeline's group, `never` when somebody has to change something first.
 */
export type Tried = { runId: string } | { problem: TriggerProblem; retry: 'later' | 'busy' | 'never' }

/**
 * Starts a run as `startInTransaction`, and answers a refusal instead of throwing it: nothing of the attempt is kept then,
 * and the caller's transaction goes on. A repeat of the idempotency key answers the first run. What is no refusal is
 * thrown.
 */
export async function tryStart(tx: Tx, run: NewRun): Promise<Tried> {
  try {
    const started = await tx.transaction((inner) => startInTransaction(inner, run))
    if ('runId' in started) return { runId: started.runId }
    const [first] = started.problems
    const place = first ? `${first.file}:${first.line}:${first.column} ${first.message}` : 'unknown'
    return refusal('CONFIG_INVALID', `The pipeline is not usable: ${place}`)
  } catch (thrown) {
    const error = quotaError(thrown) ?? thrown
    if (!(error instanceof AppError) || error.code === 'INTERNAL') throw thrown
    return refusal(error.code, error.message, error.hint, error.retry)
  }
}

function refusal(
  code: ErrorCode,
  message: string,
  hint: string = errorCodes[code].hint,
  retry: 'later' | 'never' = errorCodes[code].retry,
): Tried {
  const problem = { code, message: message.slice(0, 1000), hint }
  if (code === 'CONFLICT') return { problem, retry: 'busy' }
  // A tenant that was suspended in this very moment is looked at again when it is active.
  return { problem, retry: code === 'TENANT_NOT_ACTIVE' ? 'later' : retry }
}
