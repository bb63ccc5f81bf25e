import type { z } from 'zod'
import type { driftSettings } from '../../schema/config/quality.ts'
import type { Connection } from '../lake/connection.ts'

/** A figure that is far from what it was in earlier loads: by how many robust deviations, and which way. */
export type Drift = { column: string | null; figure: string; deviations: number; direction: 'up' | 'down' }

/**
 * Holds a load against the loads before it: number of rows, and of each column the share of NULL, the number of distinct
 * values, mean and median. A figure has drifted when it is further from the median of the earlier ones than
 * `sensitivity` times the greater of 1.4826 × MAD and what the figure may always move: 5 % of rows, of distinct values and
 * of a column's deviation, half a percentage point of NULLs. Loads that were blocked or brought no row do not count.
 */
export async function driftOf(
  connection: Connection,
  table: string,
  loadNumber: number,
  { loads, min_loads, sensitivity }: z.output<typeof driftSettings>,
): Promise<Drift[]> {
  // Loads are numbered from 1.
  if (loadNumber <= min_loads) return []
  const rows = await connection.rows(
    `WITH loads AS (SELECT load_number, row_count, run_id, step_key FROM lake.raw.x_meta_quality_metrics
         WHERE table_name = $1 AND measured = 'load' AND status <> 'BLOCKED' AND row_count > 0 AND load_number <= $2::BIGINT
         ORDER BY load_number DESC LIMIT $3::BIGINT + 1),
       profiles AS (SELECT p.* FROM lake.raw.x_meta_profiles p JOIN loads USING (load_number, run_id, step_key)
         WHERE p.table_name = $1 AND p.row_count > 0),
       points AS (
         SELECT load_number, NULL AS column_name, 'rows' AS figure, row_count::DOUBLE AS value, 0.05 * row_count AS free FROM loads
         UNION ALL SELECT load_number, column_name, 'null_rate', nulls / row_count, 0.005 FROM profiles
         UNION ALL SELECT load_number, column_name, 'distinct', distinct_count, 0.05 * distinct_count FROM profiles
         UNION ALL SELECT load_number, column_name, 'mean', mean, 0.05 * deviation + 0.001 * abs(mean) FROM profiles
         UNION ALL SELECT load_number, column_name, 'median', quantiles[3], 0.05 * deviation + 0.001 * abs(mean) FROM profiles),
       past AS (SELECT column_name, figure, median(value) AS middle, greatest(1.4826 * mad(value), median(free), 1e-9) AS unit
         FROM points WHERE load_number < $2::BIGINT AND value IS NOT NULL GROUP BY ALL HAVING count(*) >= $4::BIGINT)
     SELECT p.column_name, p.figure, abs(p.value - past.middle) / past.unit AS deviations, p.value > past.middle AS is_up
     FROM points p JOIN past ON p.figure = past.figure AND p.column_name IS NOT DISTINCT FROM past.column_name
     WHERE p.load_number = $2::BIGINT AND abs(p.value - past.middle) > $5::DOUBLE * past.unit
     ORDER BY deviations DESC, p.column_name, p.figure LIMIT 100`,
    [table, loadNumber, loads, min_loads, sensitivity],
  )
  return rows.map((row) => ({
    column: row['column_name'] === null ? null : String(row['column_name']),
    figure: String(row['figure']),
    deviations: Math.round(Number(row['deviations']) * 10) / 10,
    direction: row['is_up'] === true ? 'up' : 'down',
  }))
}
