import type { Connection } from '../lake/connection.ts'
import { literal, quoted } from '../lake/names.ts'
import { rawText } from '../lake/staging.ts'
import type { Check } from './rules.ts'
import type { Subject } from './subject.ts'
import { weights } from './score.ts'

/** What the rows that fail came to. `failed` counts them for each check, `scores` is the sum of what they lack to 1. */
export type Verdict = {
  failed: number[]
  withErrors: number
  withWarnings: number
  quarantined: number
  lost: number
}

/** How many rows failed when none did. */
export const noVerdict = (checks: readonly Check[]): Verdict => ({
  failed: checks.map(() => 0),
  withErrors: 0,
  withWarnings: 0,
  quarantined: 0,
  lost: 0,
})

/**
 * Looks at all rows a second time and writes those that fail a check into the temporary table `verdicts`: which checks,
 * as numbers, whether by an error, whether it is to be quarantined (`raw` then is the row), and the score of the row,
 * which is the formula of the table over the checks of one row.
 */
export async function judge(connection: Connection, subject: Subject, checks: readonly Check[]): Promise<Verdict> {
  const rowChecks = checks.flatMap((check, index) => (check.fails === undefined ? [] : [{ ...check, index }]))
  const fails = rowChecks.map(({ fails, index }) => `coalesce(${fails}, false) AS __f${index}`)
  const listed = rowChecks.map(({ index }) => `CASE WHEN __f${index} THEN ${index} END`)
  const some = (which: readonly { index: number }[]): string =>
    which.length === 0 ? 'false' : `(${which.map(({ index }) => `__f${index}`).join(' OR ')})`
  // In quarters, so that the score is a quotient of whole numbers and rounded once.
  const quarters = (severity: Check['severity']): number => 4 * weights[severity]
  const lost = rowChecks.map(({ index, severity }) => `CASE WHEN __f${index} THEN ${quarters(severity)} ELSE 0 END`)
  const total = rowChecks.reduce((sum, { severity }) => sum + quarters(severity), 0)
  const quarantined = some(rowChecks.filter(({ action }) => action === 'quarantine'))
  const columns = subject.columns.map(({ name }) => quoted(name)).join(', ')
  await connection.run(
    `CREATE OR REPLACE TEMP TABLE verdicts AS
     SELECT __row, list_filter([${listed.join(', ')}]::INTEGER[], lambda x: x IS NOT NULL) AS failed,
       ${some(rowChecks.filter(({ severity }) => severity === 'error'))} AS has_error,
       ${some(rowChecks.filter(({ severity }) => severity === 'warning'))} AS has_warning, ${quarantined} AS is_quarantined,
       CASE WHEN ${quarantined} THEN ${rawText(subject.columns)} END AS raw,
       (10000 * (${total} - (${lost.join(' + ')}))) // ${total} / 10000 AS score
     FROM (SELECT __row, ${columns}, ${fails.join(', ')} FROM ${subject.relation} r) WHERE ${some(rowChecks)}`,
  )
  const [sums] = await connection.rows(
    `SELECT count(*) FILTER (has_error)::BIGINT AS errors, count(*) FILTER (has_warning)::BIGINT AS warnings,
       count(*) FILTER (is_quarantined)::BIGINT AS quarantined, coalesce(sum(1 - score), 0)::DOUBLE AS lost FROM verdicts`,
  )
  const counts = await connection.rows(
    `SELECT i, count(*)::BIGINT AS n FROM (SELECT unnest(failed) AS i FROM verdicts) GROUP BY i`,
  )
  const byCheck = new Map(counts.map((row) => [Number(row['i']), Number(row['n'])]))
  return {
    failed: checks.map((_, index) => byCheck.get(index) ?? 0),
    withErrors: Number(sums?.['errors']),
    withWarnings: Number(sums?.['warnings']),
    quarantined: Number(sums?.['quarantined']),
    lost: Number(sums?.['lost']),
  }
}

/** SQL for the texts of the failed checks of `verdicts`, all of them or those of one severity. */
export function failedTexts(
  checks: readonly Check[],
  text: (check: Check) => string,
  severity?: Check['severity'],
): string {
  const texts = `[${checks.map((check) => literal(text(check))).join(', ')}]`
  const wanted = checks.flatMap((check, index) => (severity && check.severity !== severity ? [] : [index]))
  return `list_transform(list_filter(failed, lambda i: i IN (${wanted.length > 0 ? wanted.join(', ') : '-1'})), lambda i: ${texts}[i + 1])`
}
