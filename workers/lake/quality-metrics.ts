import type { Connection } from './connection.ts'
import type { Attempt, RowCounts } from './receipt.ts'

/** What was measured of a table: `checks` is how many single checks were made, `failed` how many of them failed. */
export type Metrics = { table: string; score: number; rows: number; checks: number; failed: number; details: unknown }

/** Writes a measurement into `x_meta_quality_metrics`, in the place of an earlier one of the same step. */
export async function writeMetrics(connection: Connection, attempt: Attempt, metrics: Metrics): Promise<void> {
  await connection.run(`DELETE FROM lake.raw.x_meta_quality_metrics WHERE run_id = $1 AND step_key = $2`, [
    attempt.runId,
    attempt.stepKey,
  ])
  await connection.run(
    `INSERT INTO lake.raw.x_meta_quality_metrics VALUES ($1, $2, $3, now(), $4::DOUBLE, $5::BIGINT, $6::BIGINT, $7::BIGINT, $8)`,
    [
      attempt.runId,
      attempt.stepKey,
      metrics.table,
      metrics.score,
      metrics.rows,
      metrics.checks,
      metrics.failed,
      JSON.stringify(metrics.details),
    ],
  )
}

/** Writes the measurement of a load and gives its counts: each row of the source is one check, passed when it got in. */
export async function measured(
  connection: Connection,
  attempt: Attempt,
  table: string,
  counts: RowCounts,
): Promise<RowCounts> {
  const { rowsIn, rejected } = counts
  const score = rowsIn === 0 ? 1 : (rowsIn - rejected) / rowsIn
  await writeMetrics(connection, attempt, {
    table,
    score,
    rows: rowsIn,
    checks: rowsIn,
    failed: rejected,
    details: counts,
  })
  return counts
}
