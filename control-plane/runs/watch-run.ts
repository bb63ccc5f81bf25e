import type { RunState } from '../../schema/states.ts'
import { AppError } from '../../shared/errors.ts'
import { authOf, type Context } from '../context.ts'
import { type EventRow, readAfter } from './read-events.ts'
import { follow } from './shared-tail.ts'

const ended: readonly RunState[] = ['succeeded', 'failed', 'cancelled', 'timed_out']

/**
 * Events of a run after number `after`, each once and in order, as they come. Ends when the run has ended and its last
 * event is out, when the client is gone, or after the stream's time: then the client resumes after its last event.
 * Throws NOT_FOUND at the first step when there is no such run, and UNAUTHENTICATED once the key is revoked or has ended.
 */
export function watchRun(context: Context, runId: string, after: number): AsyncGenerator<EventRow> {
  const run = { tenantId: authOf(context).tenantId, runId }
  return follow<EventRow, number>(
    context,
    {
      name: `run ${run.tenantId} ${runId}`,
      topic: run,
      async read(tx, seen, limit) {
        const found = await readAfter(tx, run, seen, limit)
        if (!found) throw new AppError('NOT_FOUND', 'There is no such run.')
        return { events: found.events, last: ended.includes(found.state) ? found.eventSeq : undefined }
      },
      placeOf: ({ seq }) => seq,
      compare: (a, b) => a - b,
    },
    after,
  )
}
