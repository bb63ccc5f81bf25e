import { sql } from 'drizzle-orm'
import { rowsOf, withLedger } from '../../shared/db/db.ts'
import { askable, sidesFor } from './facts.ts'
import { type Check, fail, type Finding, ok, skipped, warn } from './finding.ts'

const patientSeconds = 300

/** Somebody takes the work: workers are there, no step waits for long, and mail goes out. */
export const work: Check = {
  name: 'work',
  concerns: ({ part }) => part !== 'embedded',
  async look(house) {
    const found = await askable(house)
    const [side] = found ? sidesFor(house.part, found.facts) : []
    if (!found || side === undefined || !found.facts.migrated) return skipped('The database has to be ready first.')
    const gauges = await withLedger(found.db, side, (tx) =>
      rowsOf<{ o_name: string; o_label: string; o_value: number }>(tx, sql`select * from app.fleet_gauges()`),
    )
    const figure = (name: string): number =>
      gauges.reduce((sum, { o_name, o_value }) => (o_name === name ? sum + o_value : sum), 0)
    const stuck = gauges.filter(({ o_name, o_value }) => o_name === 'oldest_ready_seconds' && o_value > patientSeconds)
    const findings: Finding[] = stuck.map(({ o_label, o_value }) =>
      fail(
        `A step of the ${o_label} queues has been waiting for ${Math.round(o_value / 60)} minutes.`,
        'Start more workers, or one with the data folder of its tenant; docs/operate.md has a runbook.',
      ),
    )
    const workers = figure('workers')
    if (workers === 0) findings.push(warn('No worker takes work.', 'Start one: npm run worker'))
    const due = figure('messages_due')
    if (due > 0)
      findings.push(
        warn(`${due} messages should have been sent.`, 'Give workers SMTP_URL and SMTP_FROM, and see their log.'),
      )
    if (findings.length === 0)
      findings.push(ok(`${workers} workers, ${figure('steps_running')} steps running, ${figure('steps_ready')} ready.`))
    return findings
  },
}
