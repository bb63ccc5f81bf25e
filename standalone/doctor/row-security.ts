import { sql } from 'drizzle-orm'
import { tableFaults } from '../../scripts/tables.ts'
import { rowsOf, withLedger } from '../../shared/db/db.ts'
import { askable, sidesFor } from './facts.ts'
import { type Check, fail, ok, skipped } from './finding.ts'
import { migrations } from './migrations.ts'

const shownMax = 5

/**
 * Every table of tenants has forced row-level security with policies, it holds the roles that the processes take, and
 * nothing else about the tables opens a way around it.
 */
export const rowSecurity: Check = {
  name: 'row security',
  concerns: () => true,
  async look(house, signal) {
    const found = await askable(house)
    if (!found) return skipped('The database has to answer first.')
    const { db, facts } = found
    const applied = await migrations.look(house, signal)
    if ('state' in applied && (applied.state === 'fail' || applied.state === 'skipped'))
      return skipped('The migrations have to be applied first.')
    const faults = await tableFaults(db)
    for (const side of sidesFor(house.part, facts)) {
      const rows = await withLedger(db, side, (tx) =>
        rowsOf<{ name: string }>(
          tx,
          sql`select c.relname as name from pg_class c where c.relnamespace = 'app'::regnamespace and c.relrowsecurity
              and not row_security_active(c.oid)`,
        ),
      )
      faults.push(...rows.map(({ name }) => `tributary_${side} passes by the row-level security of app.${name}`))
    }
    if (faults.length > 0)
      return faults
        .slice(0, shownMax)
        .map((fault) =>
          fail(`${fault}.`, 'Stop the processes; somebody changed the tables by hand: undo that, or restore.'),
        )
    const [counted] = await rowsOf<{ n: number }>(
      db,
      sql`select count(*)::int as n from pg_class where relnamespace = 'app'::regnamespace and relforcerowsecurity`,
    )
    return ok(`Forced on ${counted?.n ?? 0} tables, with policies.`)
  },
}
