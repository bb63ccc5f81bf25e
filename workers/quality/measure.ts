import type { Connection } from '../lake/connection.ts'
import { literal, quoted } from '../lake/names.ts'
import { distinctCount } from './row-rules.ts'
import type { Check } from './rules.ts'
import { type Sample, takeSample, textMax } from './sample.ts'
import { isNumeric, type Subject } from './subject.ts'

/** What one look at all rows found: their number, and the aggregate of each check. */
export type Measured = { rows: number; found: (number | null)[] }

/**
 * Looks at all rows once: one SELECT makes the aggregates of all checks and, with `profile`, those of every column and a
 * sample of the rows, which stay in the temporary table `measured` for `keepProfile`.
 */
export async function measure(
  connection: Connection,
  subject: Subject,
  checks: readonly Check[],
  profile: boolean,
): Promise<Measured> {
  const found = checks.map((check) => `(${check.count})::DOUBLE`).join(', ')
  const parts = [`count(*)::BIGINT AS row_count`, `[${found}]::DOUBLE[] AS found`]
  if (profile) parts.push(profileOf(subject, countedColumns(checks), await takeSample(connection, subject)))
  await connection.run(`CREATE OR REPLACE TEMP TABLE measured AS SELECT ${parts.join(', ')} FROM ${subject.relation} r`)
  const [row] = await connection.rows(`SELECT row_count, to_json(found)::VARCHAR AS found FROM measured`)
  const values: unknown = JSON.parse(String(row?.['found'] ?? '[]'))
  return {
    rows: Number(row?.['row_count']),
    found: Array.isArray(values) ? values.map((value) => (value === null ? null : Number(value))) : [],
  }
}

// Columns whose different values are counted for a rule anyway.
const countedColumns = (checks: readonly Check[]): Set<string> =>
  new Set(checks.flatMap(({ rule, columns }) => (rule.rule === 'unique' && columns.length === 1 ? columns : [])))

function profileOf(subject: Subject, counted: ReadonlySet<string>, { isAll, distinct }: Sample): string {
  const columns = subject.columns.map(({ name, type }, index) => {
    const sql = quoted(name)
    // Only these types have values whose squares are none of their own.
    const numbers = /^(DOUBLE|FLOAT)/.test(type) ? `FILTER (abs(${sql}::DOUBLE) < 1e100)` : ''
    // To estimate them over all rows takes longer than all the rest that is found out of a column.
    const ofColumn = { sampled: 'NULL', all: `count(${sql})`, unknown: `approx_count_distinct(${sql})` }
    const isCounted = counted.has(name)
    return `{'name': ${literal(name)}, 'type': ${literal(type)}, 'present': count(${sql})::BIGINT,
      'distinct_values': ${isCounted ? distinctCount([sql]) : ofColumn[distinct[index] ?? 'unknown']}::BIGINT,
      'is_estimate': ${!isAll && !isCounted},
      'least': left(min(${sql})::VARCHAR, ${textMax}), 'greatest': left(max(${sql})::VARCHAR, ${textMax}),
      'mean': ${isNumeric(type) ? `avg(${sql}::DOUBLE) ${numbers}` : 'NULL'}::DOUBLE,
      'deviation': ${isNumeric(type) ? `stddev_samp(${sql}::DOUBLE) ${numbers}` : 'NULL'}::DOUBLE}`
  })
  return `[${columns.join(', ')}] AS profile`
}
