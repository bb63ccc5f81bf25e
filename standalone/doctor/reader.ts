import { sql } from 'drizzle-orm'
import { httpReader } from '../../shared/datasets/reader.ts'
import { rowsOf, withLedger } from '../../shared/db/db.ts'
import { describeError } from '../../shared/log.ts'
import { signingKeys } from '../../shared/secrets/signing-keys.ts'
import { askable, sidesFor } from './facts.ts'
import { type Check, fail, type Finding, ok, skipped, warn } from './finding.ts'
import type { House } from './house.ts'

const shownMax = 20

/** Every live worker that takes reads answers one here, with a token of this deployment; it reads nothing of any tenant. */
export const reader: Check = {
  name: 'reader',
  concerns: ({ part }) => part !== 'embedded',
  async look(house, signal) {
    const found = await askable(house)
    const [side] = found ? sidesFor(house.part, found.facts) : []
    const { platformKeys } = house
    if (!found || side === undefined || !found.facts.migrated) return skipped('The database has to be ready first.')
    if (!platformKeys) return skipped('The platform keys have to be usable first.')
    const workers = await withLedger(found.db, side, (tx) =>
      rowsOf<{ id: string; url: string | null }>(
        tx,
        // A database of an earlier version has no such column, and a check of its own.
        sql`select id, to_jsonb(w) ->> 'reader_url' as url from app.worker w
            where not draining and last_seen > clock_timestamp() - interval '30 seconds' order by id`,
      ),
    )
    if (workers.length === 0) return []
    const places = workers.flatMap(({ id, url }) => (url === null ? [] : { worker: id, url })).slice(0, shownMax)
    if (places.length === 0)
      return warn(
        'No worker takes reads: history, change log and preview of tables are answered UNAVAILABLE.',
        'Give each worker READER_URL, an address at which control planes reach it.',
      )
    return Promise.all(places.map((place) => tried(place, { ...house, platformKeys }, signal)))
  },
}

async function tried(
  place: { worker: string; url: string },
  { platformKeys, clock }: House & { platformKeys: NonNullable<House['platformKeys']> },
  signal: AbortSignal,
): Promise<Finding> {
  const nothing = { tenantId: 'platform', operation: 'nothing', table: '', arguments: {} } as const
  try {
    await httpReader({ signing: signingKeys(platformKeys), clock }).read(place, nothing, signal)
    return ok(`${place.url} answers.`)
  } catch (error) {
    const why = describeError(error)
    if (/not valid/.test(why))
      return fail(
        `${place.url} refuses what is signed here.`,
        'Give all parts the same PLATFORM_KEYS, and look at the clocks. Of several workers each needs a READER_URL of its own.',
      )
    return warn(
      `${place.url} cannot be reached from here: ${why.split(' <- ').at(-1) ?? ''}`,
      'Let control planes reach it, by READER_HOST, READER_PORT and READER_URL of that worker.',
    )
  }
}
