import type { LoadQuality } from '../../schema/config/quality.ts'
import type { OutputValue, StepContext } from '../define.ts'
import type { Connection } from '../lake/connection.ts'
import { type Metrics, writeMetrics } from '../lake/quality-metrics.ts'
import type { Attempt, LoadSummary } from '../lake/receipt.ts'
import { type Alert, alertsOf } from './alerts.ts'
import { driftOf } from './drift.ts'
import type { Result } from './examine.ts'
import { scoresOf } from './score.ts'

/** A measurement that is to be kept. `averageRecordScore` is the mean of the scores of all rows. */
export type Measurement = {
  table: string
  measured: Metrics['measured']
  load: number | null
  rows: number
  withErrors: number
  withWarnings: number
  averageRecordScore: number
  results: readonly Result[]
  isBlocked: boolean
  details: Record<string, unknown>
}

const alertsLogged = 20

/**
 * Keeps a measurement: its scores, the result of each rule, and the alerts that it raises, which are logged as well. Gives
 * what leaves the lake: scores, counts, names of rules and columns.
 */
export async function keepMeasurement(
  connection: Connection,
  ctx: StepContext,
  attempt: Attempt,
  measurement: Measurement,
  { thresholds, drift }: Pick<LoadQuality, 'thresholds' | 'drift'>,
): Promise<LoadSummary> {
  const { table, load, results, rows, withErrors } = measurement
  const scores = scoresOf(results)
  const sum = (key: 'checked' | 'failed'): number => results.reduce((total, result) => total + result[key], 0)
  const write = (alerts: readonly Alert[]): Promise<void> =>
    writeMetrics(connection, attempt, {
      ...measurement,
      ...scores,
      score: scores.overall,
      status: statusOf(measurement, alerts),
      checks: sum('checked'),
      failed: sum('failed'),
      alerts,
      details: { ...measurement.details, rules: results },
    })
  await write([])
  const drifts = load === null || measurement.measured !== 'load' ? [] : await driftOf(connection, table, load, drift)
  const alerts = alertsOf(table, { scores, rows, withErrors, results, drifts }, thresholds, drift.sensitivity)
  if (alerts.length > 0) await write(alerts)
  await writeResults(connection, ctx, attempt, measurement)
  for (const { message } of alerts.slice(0, alertsLogged)) ctx.log('warn', `Quality: ${message}.`)
  return {
    status: statusOf(measurement, alerts),
    ...scores,
    average_record_score: measurement.averageRecordScore,
    records: rows,
    records_with_errors: withErrors,
    records_with_warnings: measurement.withWarnings,
    rules: results.map(resultOutput),
    alerts: alerts.map((alert): OutputValue => ({ ...alert })),
  }
}

/** The result of a rule as an output of a step. */
export const resultOutput = ({ rule, name, columns, severity, action, checked, failed, passed }: Result) => ({
  rule,
  name,
  columns,
  severity,
  action,
  checked,
  failed,
  passed,
})

/** The mean score of rows that lack `lost` to 1 altogether, rounded down to four decimals; 1 when there are none. */
export const averageScore = (rows: number, lost: number): number =>
  rows === 0 ? 1 : Math.floor(((rows - lost) / rows) * 10_000 + 1e-6) / 10_000

/** For what has no past of its own. */
export const noDrift: LoadQuality['drift'] = { loads: 3, min_loads: 3, sensitivity: 100 }

/** Which rules did not pass, in words. */
export function failedRules(results: readonly Result[]): string {
  const failed = results.filter(({ passed }) => !passed)
  const shown = failed.slice(0, 5).map(({ name, failed, checked }) => `${name}: ${failed} of ${checked}`)
  return failed.length > 5 ? `${shown.join(', ')} and ${failed.length - 5} more` : shown.join(', ')
}

function statusOf({ isBlocked, results }: Measurement, alerts: readonly Alert[]): Metrics['status'] {
  if (isBlocked) return 'BLOCKED'
  const failed = results.filter(({ passed }) => !passed)
  if (failed.some(({ severity }) => severity === 'error')) return 'FAILED'
  return failed.length + alerts.length > 0 ? 'WARNED' : 'PASSED'
}

async function writeResults(
  connection: Connection,
  ctx: StepContext,
  attempt: Attempt,
  { table, load, results }: Measurement,
): Promise<void> {
  await connection.run(`DELETE FROM lake.raw.x_meta_dq_results WHERE run_id = $1 AND step_key = $2`, [
    attempt.runId,
    attempt.stepKey,
  ])
  await connection.run(
    `INSERT INTO lake.raw.x_meta_dq_results
     SELECT $1, $2, $3, $4, $5::BIGINT, now(), r.rule, r.name, r.columns, r.dimension, r.severity, r.action,
       CASE WHEN r.passed THEN 'PASSED' WHEN r.severity = 'warning' THEN 'WARNED' ELSE 'FAILED' END, r.checked, r.failed,
       CASE WHEN r.checked = 0 THEN 0 ELSE r.failed / r.checked END, CASE WHEN NOT r.passed THEN r.reason END
     FROM (SELECT unnest(from_json($6::JSON, '[{"rule":"VARCHAR","name":"VARCHAR","columns":["VARCHAR"],"dimension":"VARCHAR",
       "severity":"VARCHAR","action":"VARCHAR","passed":"BOOLEAN","checked":"BIGINT","failed":"BIGINT","reason":"VARCHAR"}]')) AS r)`,
    [attempt.runId, ctx.run.pipelineId, attempt.stepKey, table, load, JSON.stringify(results)],
  )
}
