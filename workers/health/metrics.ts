import { sql } from 'drizzle-orm'
import { type Db, rowsOf, type Side, withLedger } from '../../shared/db/db.ts'

/** A figure with its unit in its name, as Prometheus has it; `values` by the value of the label, or one without. */
export type Metric = {
  name: string
  help: string
  type: 'gauge' | 'counter'
  label?: string
  values: Readonly<Record<string, number>>
}

/** Metrics in Prometheus's text format 0.0.4. */
export function metricsText(metrics: readonly Metric[]): string {
  return metrics
    .map(({ name, help, type, label, values }) => {
      const lines = Object.entries(values).map(
        ([value, figure]) => `tributary_${name}${label ? `{${label}=${JSON.stringify(value)}}` : ''} ${figure}`,
      )
      return [`# HELP tributary_${name} ${help}`, `# TYPE tributary_${name} ${type}`, ...lines, ''].join('\n')
    })
    .join('')
}

/** What every process says of itself. */
export function processMetrics(): Metric[] {
  return [
    {
      name: 'process_resident_bytes',
      help: 'Memory of the process, without those of tenants.',
      type: 'gauge',
      values: { '': process.memoryUsage.rss() },
    },
    {
      name: 'process_uptime_seconds',
      help: 'Since the process started.',
      type: 'gauge',
      values: { '': process.uptime() },
    },
  ]
}

const gauges: Readonly<Record<string, { help: string; label?: string }>> = {
  steps_ready: { help: 'Steps that a worker may take now.', label: 'queue' },
  steps_waiting: { help: 'Steps that wait for their next try.', label: 'queue' },
  oldest_ready_seconds: { help: 'How long the step that has been ready longest waits.', label: 'queue' },
  steps_running: { help: 'Steps that workers have.', label: 'queue' },
  runs: { help: 'Runs that have not ended.', label: 'state' },
  workers: { help: 'Workers that take work.' },
  messages_due: { help: 'Mails and the like that should have been sent.' },
}
// However often somebody asks, the database is asked no more than that.
const freshMs = 5_000

/**
 * Reads how the whole stands: figures over all tenants that name none, and whether the database answered. One read serves
 * everybody for five seconds.
 */
export function fleetMetrics(db: Db, side: Side): () => Promise<Metric[]> {
  let read: { at: number; metrics: Promise<Metric[]> } | undefined
  return () => {
    if (!read || performance.now() - read.at > freshMs)
      read = { at: performance.now(), metrics: readFleet(db, side).catch(() => [databaseUp(0)]) }
    return read.metrics
  }
}

async function readFleet(db: Db, side: Side): Promise<Metric[]> {
  const rows = await withLedger(db, side, (tx) =>
    rowsOf<{ o_name: string; o_label: string; o_value: number }>(tx, sql`select * from app.fleet_gauges()`),
  )
  const figures = Map.groupBy(rows, ({ o_name }) => o_name)
  return [
    databaseUp(1),
    ...Object.entries(gauges).map(([name, gauge]): Metric => ({
      name,
      ...gauge,
      type: 'gauge',
      values: Object.fromEntries((figures.get(name) ?? []).map(({ o_label, o_value }) => [o_label, o_value])),
    })),
  ]
}

const databaseUp = (value: 0 | 1): Metric => ({
  name: 'database_up',
  help: 'Whether the database answered the last time it was asked.',
  type: 'gauge',
  values: { '': value },
})
