import { platformTenantId } from '../../schema/roles.ts'
import { AppError } from '../../shared/errors.ts'
import { type QueueStanding, queueStandings } from '../../shared/runs/fleet.ts'
import { lookInto } from '../audit/look-into.ts'
import { refuseEnded } from '../auth/refuse-ended.ts'
import { authOf, type Context, inTenant } from '../context.ts'
import { platformReaders } from './read-queues.ts'

// Without a hint, this is how late a change can be.
const lookAgainMs = 5000
// However much happens, no more than two events a second.
const gapMs = 500
const queuesPerTenant = 100

/**
 * How the queues of a tenant stand: first all of them, then those that changed, at most twice a second. Ends when the
 * client is gone or after the stream's time. Throws NOT_FOUND at the first step for a tenant that the key may not see and
 * alike for one that there is not, and UNAUTHENTICATED once the key is revoked or has ended.
 */
export async function* watchQueues(context: Context, given?: string | null): AsyncGenerator<QueueStanding[]> {
  const { hub, clock } = context.ports
  const tenantId = given ?? authOf(context).tenantId
  if (tenantId === platformTenantId)
    throw new AppError('BAD_INPUT', 'Name the tenant to watch.', { place: { path: 'tenantId' } })
  const until = clock.now().getTime() + context.waits.streamMs
  await lookInto(context, tenantId, { what: 'queues', scopes: platformReaders }, async () => undefined)
  let shown: Map<string, string> | undefined
  while (!context.signal.aborted) {
    // Listening begins before reading: what is committed after the read still ends the wait.
    const over = new AbortController()
    const hint = hub.wait({ tenantId }, lookAgainMs, AbortSignal.any([over.signal, context.signal]))
    try {
      const rows = await inTenant(context, async (tx, auth) => {
        await refuseEnded(tx, auth, clock.now())
        return queueStandings(tx, { tenantId, limit: queuesPerTenant })
      })
      const changed = rows.filter((row) => shown?.get(row.queue) !== faceOf(row))
      if (!shown || changed.length > 0) yield changed
      shown = new Map(rows.map((row) => [row.queue, faceOf(row)]))
      if (clock.now().getTime() >= until) return
      await clock.sleep(gapMs, context.signal)
      await hint
    } finally {
      over.abort()
    }
  }
}

// What counts as a change: not that time passes.
function faceOf({ waitingSeconds: _waiting, seenAt: _seen, ...row }: QueueStanding): string {
  return JSON.stringify(row)
}
