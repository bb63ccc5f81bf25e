import type { z } from 'zod'
import type { QualityRule, qualityThresholds } from '../../schema/config/quality.ts'
import { AppError } from '../../shared/errors.ts'
import type { OutputValue, StepContext } from '../define.ts'
import { needTable, register, type Table } from '../lake/catalog.ts'
import type { Connection } from '../lake/connection.ts'
import { findPlain } from '../lake/load-plain.ts'
import { plainOf, quoted } from '../lake/names.ts'
import type { Attempt } from '../lake/receipt.ts'
import { estimateRows } from './estimate-rows.ts'
import { examine } from './examine.ts'
import { byCheck, failing, keepFailing } from './keep-failing.ts'
import { type Check, checksOf } from './rules.ts'
import { type Subject, subjectOf } from './subject.ts'
import { averageScore, failedRules, keepMeasurement, noDrift, resultOutput } from './summary.ts'

/** What a table is held against. */
export type Tests = {
  table: string
  rules: readonly QualityRule[]
  /** Below this score the check throws. */
  failBelow?: number | undefined
  /** A table that takes the failing rows, made anew each time. */
  quarantine?: string | undefined
  /** When an alert is raised. */
  thresholds: z.output<typeof qualityThresholds>
}

/**
 * Holds the current rows of a table against rules: keeps those that fail and writes the measurement of `attempt`, in the
 * place of an earlier one. The rows stay in the table. Throws QUALITY_BLOCKED when a rule that blocks fails and below the
 * score that is asked for, with all of it kept.
 */
export async function checkTable(
  connection: Connection,
  ctx: StepContext,
  attempt: Attempt,
  tests: Tests,
): Promise<Record<string, OutputValue>> {
  const table = await needTable(connection, tests.table)
  const subject = { ...(await subjectOf(connection, table)), rowsEstimated: await estimateRows(connection, table) }
  const checks = await checksOf(connection, subject, tests.rules, (text) => ctx.bindSql(text))
  const { rows, results, verdict, isJudged } = await examine(connection, subject, checks, false)
  const blocking = results.filter(({ passed, action }) => !passed && action === 'block')
  const summary = await connection.transaction(async () => {
    const isVersioned = table.kind === 'versioned'
    await keepFailing(connection, ctx, attempt, subject, checks, isJudged, {
      file: isVersioned ? 's.source_file' : 'NULL',
      raw: rowText(table),
    })
    if (tests.quarantine) await keepTable(connection, subject, tests.quarantine, checks, isJudged)
    const measurement = {
      table: table.name,
      measured: 'table' as const,
      load: null,
      rows,
      withErrors: verdict.withErrors,
      withWarnings: verdict.withWarnings,
      averageRecordScore: averageScore(rows, verdict.lost),
      results,
      isBlocked: blocking.length > 0,
      details: {},
    }
    return await keepMeasurement(connection, ctx, attempt, measurement, {
      thresholds: tests.thresholds,
      drift: noDrift,
    })
  })
  ctx.progress({ done: rows, total: rows, unit: 'rows' })
  const score = Number(summary['overall'])
  if (blocking.length > 0)
    throw new AppError('QUALITY_BLOCKED', `The table ${table.name} does not pass: ${failedRules(blocking)}.`)
  if (tests.failBelow !== undefined && score < tests.failBelow)
    throw new AppError(
      'QUALITY_BLOCKED',
      `The score of ${table.name} is ${score}, below ${tests.failBelow}: ${failedRules(results)}.`,
    )
  const failed = results.reduce((sum, result) => sum + (result.passed ? 0 : result.failed), 0)
  return { table: table.name, rows, score, failed, ...summary, rules: results.map(resultOutput) }
}

async function keepTable(
  connection: Connection,
  subject: Subject,
  name: string,
  checks: readonly Check[],
  isJudged: boolean,
): Promise<void> {
  await findPlain(connection, name)
  const columns = subject.columns.map((column) => `s.${quoted(column.name)}`).join(', ')
  const texts = `${byCheck(checks, ({ rule }) => rule.rule)} AS failed_rule, ${byCheck(checks, ({ reason }) => reason)} AS failed_reason`
  const verdicts = isJudged ? failing : 'SELECT 0 AS __row, 0 AS i WHERE false'
  await connection.run(
    `CREATE OR REPLACE TABLE ${plainOf(name)} AS
     SELECT ${texts}, ${columns} FROM (${verdicts}) v JOIN ${subject.relation} s ON s.__row = v.__row`,
  )
  await register(connection, name, 'plain', [])
}

function rowText(table: Table): string {
  const names = table.kind === 'versioned' ? ['composite_key', 'version'] : []
  const fields = [...names, ...table.columns.map((column) => column.name)]
  return `to_json(struct_pack(${fields.map((name) => `${quoted(name)} := s.${quoted(name)}`).join(', ')}))::VARCHAR`
}
