import { and, eq } from 'drizzle-orm'
import type { RunState } from '../../schema/states.ts'
import { pipelineRun } from '../../schema/tables/index.ts'
import { type Tx, withTenant } from '../../shared/db/db.ts'
import { AppError, type ErrorCode, errorCodes, isErrorCode } from '../../shared/errors.ts'
import type { Context } from '../context.ts'

const lookAgainMs = 1000
const ended: readonly RunState[] = ['succeeded', 'failed', 'cancelled', 'timed_out']

/** How a run stands. */
export type RunOutcome = Pick<typeof pipelineRun.$inferSelect, 'state' | 'error'>

/** True for a state that no longer changes by itself. */
export const hasEnded = (state: RunState): boolean => ended.includes(state)

/** Waits until a run has ended, or for `waitMs`, and answers how it stands then. */
export async function waitForRun(
  context: Context,
  run: { tenantId: string; runId: string },
  waitMs: number,
): Promise<RunOutcome> {
  const { clock, hub, db } = context.ports
  const until = clock.now().getTime() + waitMs
  for (;;) {
    const over = new AbortController()
    const left = until - clock.now().getTime()
    const hint = hub.wait(run, Math.max(1, Math.min(lookAgainMs, left)), over.signal)
    try {
      const found = await withTenant(db, { tenantId: run.tenantId, side: 'api' }, (tx) => readOutcome(tx, run))
      if (hasEnded(found.state) || left <= 0) return found
      await hint
    } finally {
      over.abort()
    }
  }
}

/** How a run stands, in the caller's transaction. */
export async function readOutcome(tx: Tx, run: { tenantId: string; runId: string }): Promise<RunOutcome> {
  const [row] = await tx
    .select({ state: pipelineRun.state, error: pipelineRun.error })
    .from(pipelineRun)
    .where(and(eq(pipelineRun.tenantId, run.tenantId), eq(pipelineRun.runId, run.runId)))
  if (!row) throw new Error('a run that was started is not there')
  return row
}

/**
 * What a run of the platform's own that did not succeed means for the call that waits for it: UNAVAILABLE when it has not
 * ended, CONFLICT when it was stopped, the run's own code when it failed. `what` begins the sentence.
 */
export function outcomeError({ state, error }: RunOutcome, what: string): AppError {
  if (state === 'failed') {
    const code: ErrorCode = error && isErrorCode(error.code) ? error.code : 'INTERNAL'
    const at = error?.step ?? 'unknown'
    return new AppError(code, `${what} failed at step ${at}: ${error?.message ?? 'no reason is known'}`, {
      hint: `${error?.hint ?? errorCodes[code].hint} Then repeat the call to go on.`,
    })
  }
  if (hasEnded(state)) return new AppError('CONFLICT', `${what} was stopped.`, { hint: 'Repeat the call to go on.' })
  const why = state === 'queued' ? 'no worker took it up in time' : 'it is still running'
  return new AppError('UNAVAILABLE', `${what} is not done: ${why}.`, {
    hint: 'Start a worker if none runs, then repeat the call to finish.',
  })
}
