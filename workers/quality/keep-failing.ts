import type { StepContext } from '../define.ts'
import type { Connection } from '../lake/connection.ts'
import { literal } from '../lake/names.ts'
import type { Attempt } from '../lake/receipt.ts'
import type { Check } from './rules.ts'
import type { Subject } from './subject.ts'

const keptMax = 100_000

/** SQL for the rows of `verdicts`, one for each check `i` that they fail, at most 100,000 of a check. */
export const failing = `SELECT * FROM (SELECT __row, unnest(failed) AS i FROM verdicts)
  QUALIFY row_number() OVER (PARTITION BY i ORDER BY __row) <= ${keptMax}`

/** SQL for a text of the check `v.i`. */
export const byCheck = (checks: readonly Check[], text: (check: Check) => string): string =>
  `[${checks.map((check) => literal(text(check))).join(', ')}][v.i + 1]`

/**
 * Writes the rows that fail into `x_meta_rejected_rows` as `flagged`, once for each check, in the place of those that an
 * earlier attempt wrote: they can be seen, and stay where they are. `file` and `raw` are SQL over a row `s`.
 */
export async function keepFailing(
  connection: Connection,
  ctx: StepContext,
  attempt: Attempt,
  subject: Subject,
  checks: readonly Check[],
  isJudged: boolean,
  row: { file: string; raw: string },
): Promise<void> {
  await connection.run(`DELETE FROM lake.raw.x_meta_rejected_rows WHERE run_id = $1 AND step_key = $2`, [
    attempt.runId,
    attempt.stepKey,
  ])
  if (!isJudged) return
  const kept = await connection.run(
    `INSERT INTO lake.raw.x_meta_rejected_rows (run_id, step_key, table_name, source_file, line, column_name, code, reason, raw,
       rejected_at, rejected_id, status, attempts)
     SELECT $1, $2, $3, ${row.file}, NULL, ${byCheck(checks, ({ columns }) => columns.join(', '))},
       ${byCheck(checks, ({ rule }) => `RULE_${rule.rule.toUpperCase()}`)}, ${byCheck(checks, ({ reason }) => reason)},
       ${row.raw}, now(), uuid()::VARCHAR, 'flagged', 0
     FROM (${failing}) v JOIN ${subject.relation} s ON s.__row = v.__row`,
    [attempt.runId, attempt.stepKey, subject.table],
  )
  const [all] = await connection.rows(`SELECT coalesce(sum(len(failed)), 0)::BIGINT AS n FROM verdicts`)
  if (kept < Number(all?.['n']))
    ctx.log('warn', `${Number(all?.['n'])} failures, of which the first ${keptMax} of each rule were kept.`)
}
