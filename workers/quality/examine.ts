import type { Connection } from '../lake/connection.ts'
import { judge, noVerdict, type Verdict } from './judge.ts'
import { measure } from './measure.ts'
import type { Check } from './rules.ts'
import type { Subject } from './subject.ts'
import { judgeTable } from './table-rules.ts'
import type { RuleResult } from './score.ts'

/** What a check found: a rule about values has passed when none of them failed. */
export type Result = RuleResult & {
  rule: string
  name: string
  columns: string[]
  action: Check['action']
  passed: boolean
  reason: string
}

/** What was found out about rows. Where `isJudged`, the temporary table `verdicts` has those that fail. */
export type Findings = { rows: number; results: Result[]; verdict: Verdict; isJudged: boolean }

/**
 * Holds rows against checks in one look at all of them, and in a second one when a row fails. With `profile` the first
 * look profiles every column as well.
 */
export async function examine(
  connection: Connection,
  subject: Subject,
  checks: readonly Check[],
  profile: boolean,
): Promise<Findings> {
  const { rows, found } = await measure(connection, subject, checks, profile)
  const isJudged = checks.some((check, index) => check.fails !== undefined && (found[index] ?? 0) > 0)
  const verdict = isJudged ? await judge(connection, subject, checks) : noVerdict(checks)
  const past = checks.some(({ rule }) => rule.rule === 'volume') ? await volumes(connection, subject.table) : []
  const results = checks.map((check, index) => {
    const failed = verdict.failed[index] ?? 0
    const counted =
      check.fails === undefined
        ? judgeTable(check, rows, found[index] ?? null, past)
        : { checked: rows, failed, passed: failed === 0 }
    const { rule, name, columns, dimension, severity, action, reason } = check
    return { rule: rule.rule, name, columns, dimension, severity, action, reason, ...counted }
  })
  return { rows, results, verdict, isJudged }
}

// Newest first.
async function volumes(connection: Connection, table: string): Promise<number[]> {
  const rows = await connection.rows(
    `SELECT row_count FROM lake.raw.x_meta_quality_metrics
     WHERE table_name = $1 AND measured = 'load' AND status <> 'BLOCKED' ORDER BY load_number DESC LIMIT 200`,
    [table],
  )
  return rows.map((row) => Number(row['row_count']))
}
