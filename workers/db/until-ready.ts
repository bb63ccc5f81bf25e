import type { Clock } from '../../shared/clock.ts'
import type { Db, Side } from '../../shared/db/db.ts'
import type { Log } from '../../shared/log.ts'
import { databaseStanding } from './standing.ts'

const lookAgainMs = 1_000

/**
 * Resolves when the database can be worked with, or `signal` aborts. What is missing is logged once, and what is missing
 * then. Throws FORBIDDEN for a login that the product refuses.
 */
export async function untilReady(
  { db, clock, log }: { db: Db; clock: Clock; log: Log },
  side: Side,
  signal: AbortSignal,
): Promise<void> {
  let said = ''
  while (!signal.aborted) {
    const standing = await databaseStanding(db, side)
    if (standing.ready) {
      if (said !== '') log.info('database.ready')
      return
    }
    if (said !== standing.why) log.warn('database.waiting', { why: standing.why, hint: standing.hint })
    said = standing.why
    await clock.sleep(lookAgainMs, signal)
  }
}
