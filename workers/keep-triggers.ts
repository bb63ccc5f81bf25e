import { sql } from 'drizzle-orm'
import { withLedger } from '../shared/db/db.ts'
import { describeError } from '../shared/log.ts'
import type { Ports } from '../shared/ports.ts'
import { fireDue } from '../shared/schedules/fire-due.ts'
import { watchesAtOnce, watchFiles, type WatchOptions } from './watches/watch-files.ts'

const duePerRound = 100
const sweepMs = 3_600_000
const rowsPerSweep = 10_000

/**
 * Fires what is due, looks at watched folders and forgets what decides nothing any more, every `everyMs` until `stop`
 * aborts; resolves then. Each goes its own pace, so that a server that does not answer holds up no schedule. Safe in many
 * processes. Failures are logged.
 */
export async function keepTriggers(
  ports: Ports,
  options: WatchOptions & { everyMs: number },
  stop: AbortSignal,
): Promise<void> {
  const { everyMs } = options
  await Promise.all([
    rounds(ports, 'fire', everyMs, stop, async () => (await fireDue(ports, 'worker', { signal: stop })) >= duePerRound),
    rounds(ports, 'watch', everyMs, stop, async () => (await watchFiles(ports, options, stop)) >= watchesAtOnce),
    rounds(ports, 'sweep', sweepMs, stop, async () => {
      await withLedger(ports.db, 'worker', (tx) => tx.execute(sql`select app.sweep_triggers(${rowsPerSweep})`))
      await withLedger(ports.db, 'worker', (tx) => tx.execute(sql`select app.sweep_requests(${rowsPerSweep})`))
      return false
    }),
  ])
}

// A full round is followed by the next at once.
async function rounds(
  ports: Ports,
  name: string,
  everyMs: number,
  stop: AbortSignal,
  round: () => Promise<boolean>,
): Promise<void> {
  while (!stop.aborted) {
    let hasMore = false
    try {
      hasMore = await round()
    } catch (error) {
      if (!stop.aborted) ports.log.error('triggers.keep', { name, error: describeError(error) })
    }
    if (!hasMore) await ports.clock.sleep(everyMs, stop)
  }
}
