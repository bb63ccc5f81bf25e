import { AppError } from '../../shared/errors.ts'
import type { OutputValue, StepContext } from '../define.ts'
import { needTable, register, type Table } from '../lake/catalog.ts'
import type { Connection } from '../lake/connection.ts'
import { findPlain } from '../lake/load-plain.ts'
import { literal, plainOf, quoted } from '../lake/names.ts'
import { writeMetrics } from '../lake/quality-metrics.ts'
import type { Attempt } from '../lake/receipt.ts'
import { type Check, checksOf, type Rule, source } from './rules.ts'
import { scoreOf } from './score.ts'

const rejectedMax = 100_000

/** What a table is held against. */
export type Tests = {
  table: string
  rules: readonly Rule[]
  /** Below this score the check throws. */
  failBelow?: number | undefined
  /** A table that takes the failing rows, made anew each time. */
  quarantine?: string | undefined
}

/**
 * Holds the current rows of a table against rules: keeps those that fail and writes the measurement of `attempt`, in the
 * place of an earlier one. Throws QUALITY_BLOCKED below the score that is asked for, with all of it kept.
 */
export async function checkTable(
  connection: Connection,
  ctx: Pick<StepContext, 'log' | 'progress'>,
  attempt: Attempt,
  tests: Tests,
): Promise<Record<string, OutputValue>> {
  const table = await needTable(connection, tests.table)
  const checks = await checksOf(connection, table, tests.rules)
  const { rows, failed } = await count(connection, table, checks)
  const results = checks.map((check, index) => ({
    rule: check.rule.rule,
    columns: check.columns,
    severity: check.rule.severity,
    checked: check.perTable ? Math.max(rows, 1) : rows,
    failed: check.perTable ? (failed[index] ?? 0) * Math.max(rows, 1) : (failed[index] ?? 0),
  }))
  const score = scoreOf(results)
  await connection.transaction(async () => {
    await keepFailing(connection, ctx, attempt, table, checks, failed)
    if (tests.quarantine) await keepTable(connection, table, tests.quarantine, checks)
    await writeMetrics(connection, attempt, {
      table: table.name,
      score,
      rows,
      checks: results.reduce((sum, result) => sum + result.checked, 0),
      failed: results.reduce((sum, result) => sum + result.failed, 0),
      details: results,
    })
  })
  ctx.progress({ done: rows, total: rows, unit: 'rows' })
  if (tests.failBelow !== undefined && score < tests.failBelow)
    throw new AppError(
      'QUALITY_BLOCKED',
      `The score of ${table.name} is ${score}, below ${tests.failBelow}: ${worst(results)}.`,
    )
  return { table: table.name, rows, score, failed: failed.reduce((a, b) => a + b, 0), rules: results }
}

// First pass: one scan, whatever the number of rules (each `unique` adds a grouping of its columns).
async function count(
  connection: Connection,
  table: Table,
  checks: readonly Check[],
): Promise<{ rows: number; failed: number[] }> {
  const counts = checks.map((check, index) =>
    check.perTable
      ? `(CASE WHEN ${check.fails} THEN 1 ELSE 0 END)::BIGINT AS f${index}`
      : `count(*) FILTER (${check.fails})::BIGINT AS f${index}`,
  )
  const [row] = await connection.rows(
    `SELECT count(*)::BIGINT AS row_count, ${counts.join(', ')} FROM ${source(table)} r`,
  )
  return { rows: Number(row?.['row_count']), failed: checks.map((_, index) => Number(row?.[`f${index}`])) }
}

// Second pass: the rows that fail, with the key that finds them again. An earlier attempt's rows go first.
async function keepFailing(
  connection: Connection,
  ctx: Pick<StepContext, 'log'>,
  attempt: Attempt,
  table: Table,
  checks: readonly Check[],
  failed: readonly number[],
): Promise<void> {
  await connection.run(`DELETE FROM lake.raw.x_meta_rejected_rows WHERE run_id = $1 AND step_key = $2`, [
    attempt.runId,
    attempt.stepKey,
  ])
  for (const [index, check] of checks.entries()) {
    const count = failed[index] ?? 0
    if (count === 0 || check.perTable) continue
    if (count > rejectedMax)
      ctx.log('warn', `${count} rows fail ${check.rule.rule}; the first ${rejectedMax} were kept in the quarantine.`)
    await connection.run(
      `INSERT INTO lake.raw.x_meta_rejected_rows
       SELECT $1, $2, $3, ${table.kind === 'versioned' ? 'source_file' : 'NULL'}, NULL, ${literal(check.columns.join(', '))},
         ${literal(`RULE_${check.rule.rule.toUpperCase()}`)}, ${literal(check.reason)}, left(${rowText(table)}, 8192), now()
       FROM ${source(table)} r WHERE ${check.fails} LIMIT ${rejectedMax}`,
      [attempt.runId, attempt.stepKey, table.name],
    )
  }
}

async function keepTable(connection: Connection, table: Table, name: string, checks: readonly Check[]): Promise<void> {
  await findPlain(connection, name)
  const columns = table.columns.map((column) => quoted(column.name)).join(', ')
  const rowChecks = checks.filter((check) => !check.perTable)
  const parts = rowChecks.map(
    (check) =>
      `SELECT ${literal(check.rule.rule)} AS failed_rule, ${literal(check.reason)} AS failed_reason, ${columns}
       FROM ${source(table)} r WHERE ${check.fails}`,
  )
  if (parts.length === 0) return
  await connection.run(`CREATE OR REPLACE TABLE ${plainOf(name)} AS ${parts.join(' UNION ALL ')}`)
  await register(connection, name, 'plain', [])
}

function rowText(table: Table): string {
  const names = table.kind === 'versioned' ? ['composite_key', 'version'] : []
  const fields = [...names, ...table.columns.map((column) => column.name)]
  return `to_json(struct_pack(${fields.map((name) => `${quoted(name)} := ${quoted(name)}`).join(', ')}))::VARCHAR`
}

function worst(results: readonly { rule: string; columns: string[]; failed: number; checked: number }[]): string {
  const [first] = [...results].sort((a, b) => b.failed / b.checked - a.failed / a.checked)
  if (!first) return 'no rule was given'
  const columns = first.columns.length > 0 ? ` of ${first.columns.join(', ')}` : ''
  return `${first.failed} of ${first.checked} checks ${first.rule}${columns} failed`
}
