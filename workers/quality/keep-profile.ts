import type { Connection } from '../lake/connection.ts'
import type { Attempt } from '../lake/receipt.ts'

/**
 * Writes the profile of `measured` into `x_meta_profiles`, one row per column, in the place of an earlier one of the same
 * step. Counts, nulls, least, greatest, mean and deviation are of all rows; quantiles and top values are of the sample, and
 * patterns of a part of it; the number of distinct values is of either.
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
    `INSERT INTO lake.raw.x_meta_profiles (run_id, step_key, table_name, load_number, measured_at, column_name, data_type, row_count,
       nulls, distinct_count, distinct_is_estimate, min_value, max_value, mean, deviation, quantiles, sample_rows, top_values,
       pattern_rows, patterns)
     WITH columns AS (SELECT row_count, unnest(profile) AS p, generate_subscripts(profile, 1) AS i FROM measured),
       tops AS (SELECT i, to_json(arg_min({'value': v, 'count': n}, (-n, v), 10)) AS top_values, count(*) AS distinct_values,
         sum(n)::BIGINT AS n, sum(shown)::BIGINT AS shown FROM sampled GROUP BY i),
       shapes AS (SELECT i, left(regexp_replace(regexp_replace(regexp_replace(v, '[0-9]', '9', 'g'), '[a-z]', 'a', 'g'), '[A-Z]', 'A', 'g'), 60) AS shape,
         sum(shown)::BIGINT AS n FROM sampled WHERE shown > 0 GROUP BY ALL),
       patterns AS (SELECT i, to_json(arg_min({'pattern': shape, 'count': n}, (-n, shape), 5)) AS patterns FROM shapes GROUP BY i),
       numbers AS (SELECT i, quantile_cont(v, [0.05, 0.25, 0.5, 0.75, 0.95]) AS quantiles
         FROM (SELECT i, TRY_CAST(v AS DOUBLE) AS v, unnest(range(n)) FROM sampled
           SEMI JOIN (SELECT i FROM columns WHERE p.mean IS NOT NULL) USING (i)) GROUP BY i)
     SELECT $1, $2, $3, $4::BIGINT, now(), p.name, p.type, row_count, row_count - p.present,
       least(coalesce(p.distinct_values, t.distinct_values, 0), p.present), p.is_estimate,
       p.least, p.greatest, p.mean, p.deviation, n.quantiles, coalesce(t.n, 0), t.top_values, coalesce(t.shown, 0), s.patterns
     FROM columns c LEFT JOIN numbers n USING (i) LEFT JOIN tops t USING (i) LEFT JOIN patterns s USING (i)`,
    [attempt.runId, attempt.stepKey, table, loadNumber],
  )
}
