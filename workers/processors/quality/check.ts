import { z } from 'zod'
import { AppError } from '../../../shared/errors.ts'
import { defineProcessor, type StepContext, type StepResult } from '../../define.ts'
import { needTable, register, type Table } from '../../lake/catalog.ts'
import type { Connection } from '../../lake/connection.ts'
import { attemptOf } from '../../lake/destination.ts'
import { findPlain } from '../../lake/load-plain.ts'
import { literal, plainOf, quoted, tableName } from '../../lake/names.ts'
import { writeMetrics } from '../../lake/quality-metrics.ts'
import { type Check, checksOf, rule, source } from '../../quality/rules.ts'
import { scoreOf } from '../../quality/score.ts'

const rejectedMax = 100_000

/** Holds the current rows of a table against rules, keeps those that fail, and stops the run below a score. */
export default defineProcessor({
  type: 'quality.check',
  title: 'Check quality',
  description: 'Counts how many rows pass each rule, quarantines those that fail, and can block the steps that follow.',
  queue: 'transform',
  settings: z.strictObject({
    table: tableName.describe('The table whose current rows are looked at.'),
    rules: z.array(rule).min(1).max(100),
    fail_below: z.number().min(0).max(1).optional().describe('The step fails when the score is below this.'),
    quarantine: tableName.optional().describe('A table that takes the failing rows, made anew each time.'),
  }),
  credentialProviders: [],
  async run(ctx, settings): Promise<StepResult> {
    using connection = await ctx.lake.connect(ctx.signal)
    const table = await needTable(connection, settings.table)
    const checks = await checksOf(connection, table, settings.rules)
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
      await keepFailing(connection, ctx, table, checks, failed)
      if (settings.quarantine) await keepTable(connection, table, settings.quarantine, checks)
      await writeMetrics(connection, attemptOf(ctx), {
        table: table.name,
        score,
        rows,
        checks: results.reduce((sum, result) => sum + result.checked, 0),
        failed: results.reduce((sum, result) => sum + result.failed, 0),
        details: results,
      })
    })
    ctx.progress({ done: rows, total: rows, unit: 'rows' })
    if (settings.fail_below !== undefined && score < settings.fail_below)
      throw new AppError(
        'QUALITY_BLOCKED',
        `The score of ${table.name} is ${score}, below ${settings.fail_below}: ${worst(results)}.`,
      )
    return { outputs: { table: table.name, rows, score, failed: failed.reduce((a, b) => a + b, 0), rules: results } }
  },
})

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
  ctx: StepContext,
  table: Table,
  checks: readonly Check[],
  failed: readonly number[],
): Promise<void> {
  await connection.run(`DELETE FROM lake.raw.x_meta_rejected_rows WHERE run_id = $1 AND step_key = $2`, [
    ctx.run.id,
    ctx.step.key,
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
      [ctx.run.id, ctx.step.key, table.name],
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
