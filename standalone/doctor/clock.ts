import { sql } from 'drizzle-orm'
import { rowsOf } from '../../shared/db/db.ts'
import { askable } from './facts.ts'
import { type Check, fail, ok, skipped } from './finding.ts'

const skewMaxMs = 2_000

/** This machine's clock agrees with the database's: leases, tokens and schedules are told by both. */
export const clock: Check = {
  name: 'clock',
  concerns: ({ part }) => part !== 'embedded',
  async look(house) {
    const found = await askable(house)
    if (!found) return skipped('The database has to answer first.')
    const before = house.clock.now().getTime()
    const [row] = await rowsOf<{ at: string }>(
      found.db,
      sql`select (extract(epoch from clock_timestamp()) * 1000)::text as at`,
    )
    const after = house.clock.now().getTime()
    // The answer was made somewhere between the two: what is further off than both is wrong for certain.
    const at = Number(row?.at)
    const skewMs = Math.max(0, before - at, at - after)
    return skewMs > skewMaxMs
      ? fail(
          `This machine and the database are ${(skewMs / 1000).toFixed(1)} s apart.`,
          'Let both take their time from the network: timedatectl set-ntp true',
        )
      : ok(`At most ${Math.ceil(skewMs + (after - before))} ms from that of the database.`)
  },
}
