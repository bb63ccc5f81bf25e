import type { Connection } from './connection.ts'
import type { Attempt, CurrentLoad, RowCounts } from './receipt.ts'

/** What was measured of a table: `checks` is how many single checks were made, `failed` how many of them failed. */
export type Metrics = {
  table: string
  /** What was looked at: the rows of a load, rows of the quarantine that were loaded again, or those of a table. */
  measured: 'load' | 'reprocess' | 'table'
  status: 'PASSED' | 'WARNED' | 'FAILED' | 'BLOCKED'
  /** Null where nothing was loaded. */
  load: number | null
  score: number
  completeness: number
  consistency: number
  validity: number
  rows: number
  checks: number
  failed: number
  withErrors: number
  withWarnings: number
  averageRecordScore: number
  alerts: unknown
  details: unknown
}

/** Writes a measurement into `x_meta_quality_metrics`, in the place of an earlier one of the same step. */
export async function writeMetrics(connection: Connection, attempt: Attempt, metrics: Metrics): Promise<void> {
  await connection.run(`DELETE FROM lake.raw.x_meta_quality_metrics WHERE run_id = $1 AND step_key = $2`, [
    attempt.runId,
    attempt.stepKey,
  ])
  await connection.run(
    `INSERT INTO lake.raw.x_meta_quality_metrics (run_id, step_key, table_name, measured_at, score, row_count, checks, failed,
       details, measured, status, load_number, completeness, consistency, validity, records_with_errors, records_with_warnings,
       average_record_score, alerts)
     VALUES ($1, $2, $3, now(), $4::DOUBLE, $5::BIGINT, $6::BIGINT, $7::BIGINT, $8, $9, $10, $11::BIGINT, $12::DOUBLE, $13::DOUBLE,
       $14::DOUBLE, $15::BIGINT, $16::BIGINT, $17::DOUBLE, $18)`,
    [
      attempt.runId,
      attempt.stepKey,
      metrics.table,
      metrics.score,
      metrics.rows,
      metrics.checks,
      metrics.failed,
      JSON.stringify(metrics.details),
      metrics.measured,
      metrics.status,
      metrics.load,
      metrics.completeness,
      metrics.consistency,
      metrics.validity,
      metrics.withErrors,
      metrics.withWarnings,
      metrics.averageRecordScore,
      JSON.stringify(metrics.alerts),
    ],
  )
}

/** What is measured of a load inside its transaction, and the counts with what was found out. */
export type Measure = (counts: RowCounts, current: CurrentLoad) => Promise<RowCounts>

/** Writes the measurement of a load and gives its counts: each row of the source is one check, passed when it got in. */
export async function measured(
  connection: Connection,
  attempt: Attempt,
  table: string,
  counts: RowCounts,
  current: CurrentLoad,
): Promise<RowCounts> {
  const { rowsIn, rejected } = counts
  const score = rowsIn === 0 ? 1 : (rowsIn - rejected) / rowsIn
  await writeMetrics(connection, attempt, {
    table,
    measured: 'load',
    status: rejected > 0 ? 'FAILED' : 'PASSED',
    load: current.number,
    score,
    completeness: 1,
    consistency: score,
    validity: 1,
    rows: rowsIn,
    checks: rowsIn,
    failed: rejected,
    withErrors: rejected,
    withWarnings: 0,
    averageRecordScore: score,
    alerts: [],
    details: counts,
  })
  return counts
}
