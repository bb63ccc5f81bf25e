import type { OutputValue } from '../define.ts'
import type { Connection, Row } from '../lake/connection.ts'
import { type Dimension, type RuleResult, scoresOf } from './score.ts'

const tablesMax = 100
const issuesMax = 50

/**
 * The quality of tables over the last `days`, worst first: the scores are the formula over all checks of that time, the
 * records those of the newest measurement. Names of rules and columns and counts only, no value of a row.
 */
export async function reportOf(
  connection: Connection,
  table: string | undefined,
  days: number,
): Promise<{ [name: string]: OutputValue }[]> {
  const since = [days, table ?? null] as const
  const where = `measured_at > now() - to_days($1::INTEGER) AND ($2::VARCHAR IS NULL OR table_name = $2)`
  const tables = await connection.rows(
    `SELECT table_name, count(*)::INTEGER AS measurements, arg_max(row_count, measured_at)::BIGINT AS records,
       arg_max(records_with_errors, measured_at)::BIGINT AS with_errors, arg_max(records_with_warnings, measured_at)::BIGINT AS with_warnings,
       arg_max(average_record_score, measured_at) AS record_score, arg_min(score, measured_at) AS first, arg_max(score, measured_at) AS last,
       coalesce(regr_slope(score, epoch(measured_at) / 86400), 0)::DOUBLE AS slope,
       sum(coalesce(json_array_length(alerts), 0))::INTEGER AS alerts
     FROM lake.raw.x_meta_quality_metrics WHERE ${where} GROUP BY table_name ORDER BY last, table_name LIMIT ${tablesMax}`,
    since,
  )
  // A load without rules of its own has the one check that every row could be loaded.
  const results = await connection.rows(
    `SELECT table_name, rule, array_to_string(columns, ', ') AS field, dimension, severity, sum(checked)::BIGINT AS checked,
       sum(failed)::BIGINT AS failed, bool_or(status <> 'PASSED') AS has_failed
     FROM (SELECT table_name, rule, columns, dimension, severity, checked, failed, status FROM lake.raw.x_meta_dq_results WHERE ${where}
       UNION ALL SELECT table_name, 'load', []::VARCHAR[], 'consistency', 'error', checks, failed, CASE WHEN failed > 0 THEN 'FAILED' ELSE 'PASSED' END
       FROM lake.raw.x_meta_quality_metrics m WHERE ${where} AND NOT EXISTS (
         SELECT 1 FROM lake.raw.x_meta_dq_results r WHERE r.run_id = m.run_id AND r.step_key = m.step_key))
     GROUP BY ALL ORDER BY failed DESC, rule, field`,
    since,
  )
  const daily = await connection.rows(
    `SELECT table_name, measured_at::DATE::VARCHAR AS day, round(avg(score), 4) AS score, sum(row_count)::BIGINT AS records,
       sum(records_with_errors)::BIGINT AS with_errors
     FROM lake.raw.x_meta_quality_metrics WHERE ${where} GROUP BY 1, 2
     QUALIFY row_number() OVER (PARTITION BY table_name ORDER BY day DESC) <= 60 ORDER BY day`,
    since,
  )
  return tables.map((row) => {
    const mine = (list: Row[]): Row[] => list.filter((item) => item['table_name'] === row['table_name'])
    return tableReport(row, mine(results), mine(daily))
  })
}

function tableReport(row: Row, results: readonly Row[], daily: readonly Row[]): { [name: string]: OutputValue } {
  const scores = scoresOf(results.map(resultOf))
  const issues = results.filter((result) => result['has_failed'] === true).slice(0, issuesMax)
  const slope = Number(row['slope'])
  return {
    table: String(row['table_name']),
    total_records: Number(row['records']),
    records_with_errors: Number(row['with_errors']),
    records_with_warnings: Number(row['with_warnings']),
    overall_quality_score: scores.overall,
    completeness_score: scores.completeness,
    consistency_score: scores.consistency,
    validity_score: scores.validity,
    average_quality_score: Number(row['record_score']),
    alerts: Number(row['alerts']),
    quality_issues: issues.map((issue) => ({
      issue_type: issueType(String(issue['rule'])),
      rule: String(issue['rule']),
      field: String(issue['field']),
      severity: String(issue['severity']),
      count: Number(issue['failed']),
      percentage: percentage(Number(issue['failed']), Number(issue['checked'])),
    })),
    recommendations: [...new Set(issues.map((issue) => advice(String(issue['rule']), String(issue['field']))))],
    trend: {
      measurements: Number(row['measurements']),
      first: Number(row['first']),
      last: Number(row['last']),
      per_day: Math.round(slope * 10_000) / 10_000,
      direction: Math.abs(Number(row['last']) - Number(row['first'])) < 0.005 ? 'steady' : slope < 0 ? 'down' : 'up',
      daily: daily.map((day) => ({
        day: String(day['day']),
        score: Number(day['score']),
        records: Number(day['records']),
        records_with_errors: Number(day['with_errors']),
      })),
    },
  }
}

const resultOf = (row: Row): RuleResult => ({
  dimension: String(row['dimension']) as Dimension, // what dimensionOf wrote
  severity: row['severity'] === 'warning' ? 'warning' : 'error',
  checked: Number(row['checked']),
  failed: Number(row['failed']),
})

const percentage = (failed: number, checked: number): number =>
  checked === 0 ? 0 : Math.round((failed / checked) * 1_000_000) / 10_000

const issueTypes: Readonly<Record<string, string>> = {
  required: 'missing_required_field',
  not_null: 'missing_required_field',
  completeness: 'incomplete_field',
  type: 'wrong_type',
  schema: 'schema_mismatch',
  format: 'wrong_format',
  unique: 'duplicate_values',
  range: 'out_of_range',
  allowed: 'unexpected_value',
  reference: 'missing_reference',
  expression: 'condition_violated',
  row_count: 'unexpected_row_count',
  volume: 'unusual_volume',
  freshness: 'stale_data',
  load: 'rows_not_loaded',
}

const issueType = (rule: string): string => issueTypes[rule] ?? rule

function advice(rule: string, field: string): string {
  switch (rule) {
    case 'required':
    case 'not_null':
    case 'completeness':
      return `Review the source for completeness of ${field}, and validate it there.`
    case 'type':
    case 'format':
      return `Let the source write ${field} in one form, or correct it with quality.reprocess.`
    case 'schema':
      return `Agree on the columns ${field} with the source, or change the contract of the destination.`
    case 'unique':
      return `Find out why ${field} repeats: a second delivery of the same rows, or a key that is none.`
    case 'range':
    case 'allowed':
    case 'expression':
      return `Look at the quarantined rows for ${field}: correct them, or adapt the rule to what is meant.`
    case 'reference':
      return `Load the rows that ${field} refers to before this table.`
    case 'row_count':
    case 'volume':
      return 'Compare the number of rows with the source: a load may be partial, or repeated.'
    case 'freshness':
      return `Check whether the source still delivers: the newest ${field} is old.`
    default:
      return 'Look at the quarantine for rows that could not be loaded, correct and reprocess them.'
  }
}
