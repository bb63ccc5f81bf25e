import type { RunState } from '../../schema/states.ts'
import { AppError } from '../../shared/errors.ts'
import { refuseEnded } from '../auth/refuse-ended.ts'
import { authOf, type Context, inTenant } from '../context.ts'
import { type EventRow, readAfter } from './read-events.ts'

const ended: readonly RunState[] = ['succeeded', 'failed', 'cancelled', 'timed_out']
const eventsPerRead = 200
// Without a hint, this is how late an event can be.
const lookAgainMs = 5000

/**
 * Events of a run after number `after`, each once and in order, as they come. Ends when the run has ended and its last
 * event is out, when the client is gone, or after the stream's time: then the client resumes after its last event.
 * Throws NOT_FOUND at the first step when there is no such run, and UNAUTHENTICATED once the key is revoked or has ended.
 */
export async function* watchRun(context: Context, runId: string, after: number): AsyncGenerator<EventRow> {
  const { hub, clock } = context.ports
  const run = { tenantId: authOf(context).tenantId, runId }
  const until = clock.now().getTime() + context.waits.streamMs
  let seen = after
  while (!context.signal.aborted) {
    // Listening begins before reading: what is committed after the read still ends the wait.
    const over = new AbortController()
    const hint = hub.wait(run, lookAgainMs, AbortSignal.any([over.signal, context.signal]))
    try {
      const found = await inTenant(context, async (tx, auth) => {
        await refuseEnded(tx, auth, clock.now())
        return readAfter(tx, run, seen, eventsPerRead)
      })
      if (!found) throw new AppError('NOT_FOUND', 'There is no such run.')
      for (const event of found.events) {
        seen = event.seq
        yield event
      }
      if (found.events.length > 0) continue
      if (ended.includes(found.state) && seen >= found.eventSeq) return
      if (clock.now().getTime() >= until) return
      await hint
    } finally {
      over.abort()
    }
  }
}
