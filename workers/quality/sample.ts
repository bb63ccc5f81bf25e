import type { Connection } from '../lake/connection.ts'
import { quoted } from '../lake/names.ts'
import type { Subject } from './subject.ts'

/** What a sample tells of a column's different values: those of all rows are `sampled`, or are `all` different, or neither. */
export type Sample = { isAll: boolean; distinct: ('sampled' | 'all' | 'unknown')[] }

const rowsWanted = 5_000
const cellsWanted = 200_000
// The form of a text takes as long to make as all the rest that is found out of it.
const shownWanted = 1_000
// So many values that are all different do not come from a column where some are common.
const valuesMin = 1_000

/** Longer texts are cut. */
export const textMax = 200

/**
 * Takes about 5,000 rows by chance, fewer of more than 40 columns, or all rows where they are at most twice as many. The
 * temporary table `sampled` then has how often each value `v` of the column number `i` (from 1) was met: `n` times, and
 * `shown` times in the 1,000 rows that patterns are made of.
 */
export async function takeSample(connection: Connection, subject: Subject): Promise<Sample> {
  const { columns, relation, rowsEstimated } = subject
  const wanted = Math.min(rowsWanted, Math.max(100, Math.floor(cellsWanted / Math.max(columns.length, 1))))
  const step = rowsEstimated <= 2 * wanted ? 1 : Math.floor(rowsEstimated / wanted)
  const shownStep = Math.max(1, Math.floor(rowsEstimated / step / shownWanted))
  const cells = columns.map(({ name }) => `left(${quoted(name)}::VARCHAR, ${textMax})`).join(', ')
  await connection.run(
    `CREATE OR REPLACE TEMP TABLE sampled AS
     SELECT i, v, count(*) AS n, count(*) FILTER (is_shown) AS shown FROM (
       SELECT unnest(cell) AS v, generate_subscripts(cell, 1) AS i, is_shown FROM (
         SELECT [${cells}] AS cell, hash(__row) // ${step} % ${shownStep} = 0 AS is_shown FROM ${relation} r
         WHERE hash(__row) % ${step} = 0)) WHERE v IS NOT NULL GROUP BY i, v`,
  )
  const rows = await connection.rows(
    `SELECT i, sum(n)::INTEGER AS met, count(*)::INTEGER AS different, (count(*) FILTER (n = 1))::INTEGER AS once FROM sampled GROUP BY i`,
  )
  const byColumn = new Map(rows.map((row) => [Number(row['i']), row]))
  const distinct = columns.map((_, index) => {
    const row = byColumn.get(index + 1)
    const [met, different, once] = [Number(row?.['met'] ?? 0), Number(row?.['different']), Number(row?.['once'])]
    if (step === 1 || (met >= valuesMin && once === 0)) return 'sampled'
    return met >= valuesMin && different === met ? 'all' : 'unknown'
  })
  return { isAll: step === 1, distinct }
}
