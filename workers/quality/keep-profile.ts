import type { Connection } from '../lake/connection.ts'
import type { Attempt } from '../lake/receipt.ts'

/**
 * Writes the profile of `measured` into `x_meta_profiles`, one row per column, in the place of an earlier one of the same
 * step. Counts, nulls, least, greatest, mean and deviation are of all rows; quantiles, top values and patterns are of the
 * sample, and so is the number of distinct values where the sample is all rows.
 */
export async function keepProfile(
  connection: Connection,
  attempt: Attempt,
  table: string,
  loadNumber: number | null,
): Promise<void> {
  await connection.run(`DELETE FROM lake.raw.x_meta_profiles WHERE run_id = $1 AND step_key = $2`, [
    attempt.runId,
    attempt.stepKey,
  ])
  await connection.run(
    `INSERT INTO lake.raw.x_meta_profiles
     WITH columns AS (SELECT row_count, sample_step, unnest(profile) AS p, generate_subscripts(profile, 1) AS i FROM measured),
       cells AS (SELECT c.i, c.p.mean IS NOT NULL AS is_number, s.cell[c.i] AS v
         FROM columns c, (SELECT unnest(sample) AS cell FROM measured) s WHERE s.cell[c.i] IS NOT NULL),
       counted AS (SELECT i, v, count(*) AS n FROM cells GROUP BY ALL),
       tops AS (SELECT i, to_json(list({'value': v, 'count': n} ORDER BY n DESC, v)) AS top_values FROM (
         SELECT * FROM counted QUALIFY row_number() OVER (PARTITION BY i ORDER BY n DESC, v) <= 10) GROUP BY i),
       shapes AS (SELECT i, left(regexp_replace(regexp_replace(regexp_replace(v, '[0-9]', '9', 'g'), '[a-z]', 'a', 'g'), '[A-Z]', 'A', 'g'), 60) AS shape,
           sum(n) AS n FROM counted GROUP BY ALL),
       patterns AS (SELECT i, to_json(list({'pattern': shape, 'count': n::BIGINT} ORDER BY n DESC, shape)) AS patterns FROM (
         SELECT * FROM shapes QUALIFY row_number() OVER (PARTITION BY i ORDER BY n DESC, shape) <= 5) GROUP BY i),
       numbers AS (SELECT i, quantile_cont(TRY_CAST(v AS DOUBLE), [0.05, 0.25, 0.5, 0.75, 0.95]) FILTER (is_number) AS quantiles,
           count(*) AS n, count(DISTINCT v) AS distinct_values FROM cells GROUP BY i)
     SELECT $1, $2, $3, $4::BIGINT, now(), p.name, p.type, row_count, row_count - p.present,
       least(CASE WHEN sample_step = 1 THEN coalesce(n.distinct_values, 0) ELSE p.distinct_values END, p.present), sample_step > 1,
       p.least, p.greatest, p.mean, p.deviation, n.quantiles, coalesce(n.n, 0), t.top_values, s.patterns
     FROM columns c LEFT JOIN numbers n USING (i) LEFT JOIN tops t USING (i) LEFT JOIN patterns s USING (i)`,
    [attempt.runId, attempt.stepKey, table, loadNumber],
  )
}
