import type { Connection } from '../lake/connection.ts'
import { literal, quoted } from '../lake/names.ts'
import { distinctCount } from './row-rules.ts'
import type { Check } from './rules.ts'
import { isNumeric, type Subject } from './subject.ts'

/** What one look at all rows found: their number, and the aggregate of each check. */
export type Measured = { rows: number; found: (number | null)[] }

const sampleRows = 5_000
const sampleCells = 200_000
const textMax = 200

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
  if (profile) parts.push(...profileParts(subject, countedColumns(checks)))
  await connection.run(`CREATE OR REPLACE TEMP TABLE measured AS SELECT ${parts.join(', ')} FROM ${subject.relation} r`)
  const [row] = await connection.rows(`SELECT row_count, to_json(found)::VARCHAR AS found FROM measured`)
  const values: unknown = JSON.parse(String(row?.['found'] ?? '[]'))
  return {
    rows: Number(row?.['row_count']),
    found: Array.isArray(values) ? values.map((value) => (value === null ? null : Number(value))) : [],
  }
}

/** How many rows stand for one of the sample: 1 where all of them are in it. */
export function sampleStep({ rowsEstimated, columns }: Subject): number {
  const wanted = Math.min(sampleRows, Math.max(100, Math.floor(sampleCells / Math.max(columns.length, 1))))
  return rowsEstimated <= 2 * wanted ? 1 : Math.floor(rowsEstimated / wanted)
}

// Columns whose different values are counted for a rule anyway.
const countedColumns = (checks: readonly Check[]): Set<string> =>
  new Set(checks.flatMap(({ rule, columns }) => (rule.rule === 'unique' && columns.length === 1 ? columns : [])))

function profileParts(subject: Subject, counted: ReadonlySet<string>): string[] {
  const step = sampleStep(subject)
  const columns = subject.columns.map(({ name, type }) => {
    const sql = quoted(name)
    // Only these types have values whose squares are none of their own.
    const numbers = /^(DOUBLE|FLOAT)/.test(type) ? `FILTER (abs(${sql}::DOUBLE) < 1e100)` : ''
    return `{'name': ${literal(name)}, 'type': ${literal(type)}, 'present': count(${sql})::BIGINT,
      'distinct_values': ${counted.has(name) ? distinctCount([sql]) : step === 1 ? 'NULL' : `approx_count_distinct(${sql})`}::BIGINT,
      'is_estimate': ${step > 1 && !counted.has(name)},
      'least': left(min(${sql})::VARCHAR, ${textMax}), 'greatest': left(max(${sql})::VARCHAR, ${textMax}),
      'mean': ${isNumeric(type) ? `avg(${sql}::DOUBLE) ${numbers}` : 'NULL'}::DOUBLE,
      'deviation': ${isNumeric(type) ? `stddev_samp(${sql}::DOUBLE) ${numbers}` : 'NULL'}::DOUBLE}`
  })
  const cells = subject.columns.map(({ name }) => `left(${quoted(name)}::VARCHAR, ${textMax})`).join(', ')
  const isSample = `hash(__row) % ${step} = 0`
  // FILTER alone would make the texts of all rows and then leave most of them out.
  const sample =
    step === 1 ? `list([${cells}])` : `list(CASE WHEN ${isSample} THEN [${cells}] END) FILTER (${isSample})`
  return [`[${columns.join(', ')}] AS profile`, `${sample} AS sample`]
}
