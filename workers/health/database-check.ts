import type { Clock } from '../../shared/clock.ts'
import type { Db, Side } from '../../shared/db/db.ts'
import { errorData } from '../../shared/errors.ts'
import { databaseStanding, type Standing } from '../db/standing.ts'
import type { Check } from './serve-health.ts'

const patienceMs = 3_000

/** Whether the database can be worked with, looked up anew; no answer in three seconds is none. */
export async function databaseCheck(db: Db, side: Side, clock: Clock): Promise<Check> {
  const over = new AbortController()
  const late: Promise<Standing> = clock
    .sleep(patienceMs, over.signal)
    .then(() => ({ ready: false, why: 'The database gives no answer.', hint: '' }))
  const asked: Promise<Standing> = databaseStanding(db, side).catch((error: unknown) => ({
    ready: false,
    why: errorData(error).message,
    hint: '',
  }))
  const standing = await Promise.race([asked, late])
  over.abort()
  return standing.ready ? { name: 'database', ok: true } : { name: 'database', ok: false, why: standing.why }
}
