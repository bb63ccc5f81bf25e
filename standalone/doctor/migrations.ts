import { sql } from 'drizzle-orm'
import { readMigrationFiles } from 'drizzle-orm/migrator'
import journal from '../../schema/migrations/meta/_journal.json' with { type: 'json' }
import { rowsOf, withLedger } from '../../shared/db/db.ts'
import { migrationsFolder } from '../ports.ts'
import { askable, sidesFor } from './facts.ts'
import { type Check, fail, ok, skipped, warn } from './finding.ts'

/** The tables are those of this release: no migration is missing, and each is the one that this release has. */
export const migrations: Check = {
  name: 'migrations',
  concerns: () => true,
  async look(house) {
    const found = await askable(house)
    if (!found) return skipped('The database has to answer first.')
    const { db, facts } = found
    const todo = house.part === 'embedded' ? 'Run: npm start' : 'Run as the owner of the database: npm run migrate'
    if (!facts.migrated) return fail('The database is empty.', todo)
    const [side] = sidesFor(house.part, facts)
    if (side === undefined && !facts.owner) return skipped('The login must become a role of the product first.')
    const read = sql`select hash, created_at::text as at from drizzle.__drizzle_migrations order by created_at`
    const applied = await (side === undefined
      ? rowsOf<Applied>(db, read)
      : withLedger(db, side, (tx) => rowsOf<Applied>(tx, read)))
    const hashes = new Map(applied.map(({ at, hash }) => [Number(at), hash]))
    const last = Math.max(0, ...hashes.keys())
    const own = readMigrationFiles({ migrationsFolder })
    const newest = Math.max(...own.map(({ folderMillis }) => folderMillis))
    const missing = own.filter(({ folderMillis }) => folderMillis > last)
    if (missing.length > 0)
      return fail(`${missing.length} of ${own.length} migrations are missing, from ${nameOf(missing[0])} on.`, todo)
    const changed = own.filter(({ folderMillis, hash }) => (hashes.get(folderMillis) ?? hash) !== hash)
    if (changed.length > 0)
      return warn(
        `${nameOf(changed[0])} was another one when it was applied.`,
        'Run the release that the database was made with, or compare the two.',
      )
    return last > newest
      ? warn('The database is newer than this release.', 'Upgrade this release too, before the next migration.')
      : ok(`All ${own.length} are applied, up to ${nameOf(own.at(-1))}.`)
  },
}

type Applied = { hash: string; at: string }

const nameOf = (one: { folderMillis: number } | undefined): string =>
  journal.entries.find(({ when }) => when === one?.folderMillis)?.tag ?? 'one'
