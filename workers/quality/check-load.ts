import type { LoadQuality, QualityRule } from '../../schema/config/quality.ts'
import { AppError } from '../../shared/errors.ts'
import type { BoundSql, StepContext } from '../define.ts'
import { compositeKey } from '../lake/composite-key.ts'
import type { Connection } from '../lake/connection.ts'
import { attemptOf } from '../lake/destination.ts'
import { fileOf, fileShift, rawText, type Staging } from '../lake/staging.ts'
import { literal, versionsOf } from '../lake/names.ts'
import type { Measure } from '../lake/quality-metrics.ts'
import type { CurrentLoad, RowCounts } from '../lake/receipt.ts'
import { type Stream, stageStream } from '../lake/stream.ts'
import { upsert } from '../lake/upsert.ts'
import { estimateRows } from './estimate-rows.ts'
import { examine, type Findings, type Result } from './examine.ts'
import { failedTexts } from './judge.ts'
import { keepFailing } from './keep-failing.ts'
import { keepProfile } from './keep-profile.ts'
import { type Check, checksOf } from './rules.ts'
import type { Subject } from './subject.ts'
import { scoresOf } from './score.ts'
import { averageScore, failedRules, keepMeasurement } from './summary.ts'

/** Where the rows go, as far as checks care. */
export type CheckedLoad = {
  table: string
  mode: 'versioned' | 'append' | 'replace'
  dry_run: boolean
  quality: LoadQuality
  measuredAs: 'load' | 'reprocess'
}

/**
 * Holds the rows of a load against its rules before any of them is in: those that are to be quarantined move to `rejected`.
 * `measure` keeps scores, results, profile and verdicts in the transaction of the load.
 * Throws QUALITY_BLOCKED, with nothing loaded, the measurement and the failing rows kept, when a rule that blocks fails or the overall score
 * is below `fail_below`; and what `checksOf` throws.
 */
export async function checkLoad(
  connection: Connection,
  ctx: StepContext,
  to: CheckedLoad,
  source: Staging | Stream,
): Promise<{ staging: Staging; measure: Measure }> {
  const staging = 'batches' in source ? await stageStream(connection, source) : source
  const subject: Subject = {
    table: to.table,
    columns: staging.columns,
    relation: staging.relation,
    rowsEstimated: await estimateRows(connection),
  }
  const checks = await checksOf(connection, subject, to.quality.rules, (text) => ctx.bindSql(text))
  const findings = await examine(connection, subject, checks, to.quality.profile)
  await refuseBlocked(connection, ctx, to, { staging, checks, findings }, subject)
  if (findings.verdict.quarantined > 0) await moveToRejected(connection, checks)
  return {
    staging: { ...staging, distinct: distinctOf(findings.results) },
    measure: (counts, current) => measureLoad(connection, ctx, to, { staging, checks, findings }, counts, current),
  }
}

// What the rules have found to be different in every row need not be looked for again where it is the key.
const distinctOf = (results: readonly Result[]): string[][] =>
  results.flatMap(({ rule, failed, columns }) => (rule === 'unique' && failed === 0 ? [columns] : []))

/** A rule as `x_meta_quality_rules` keeps it; `bound` is a condition with its placeholders filled. */
export type KeptRule = { rule: QualityRule; bound?: BoundSql }

type Checked = { staging: Staging; checks: readonly Check[]; findings: Findings }

async function refuseBlocked(
  connection: Connection,
  ctx: StepContext,
  to: CheckedLoad,
  { staging, checks, findings }: Checked,
  subject: Subject,
): Promise<void> {
  const { rows, results, verdict, isJudged } = findings
  const blocking = results.filter(({ passed, action }) => !passed && action === 'block')
  const { overall } = scoresOf(results)
  const isLow = to.quality.fail_below !== undefined && overall < to.quality.fail_below
  if (blocking.length === 0 && !isLow) return
  if (!to.dry_run)
    await connection.transaction(async () => {
      const row = { file: fileOf(staging.files, 's.__row'), raw: rawText(staging.columns, 's.') }
      await keepFailing(connection, ctx, attemptOf(ctx), subject, checks, isJudged, row)
      await keepMeasurement(
        connection,
        ctx,
        attemptOf(ctx),
        {
          table: to.table,
          measured: to.measuredAs,
          load: null,
          rows,
          withErrors: verdict.withErrors,
          withWarnings: verdict.withWarnings,
          averageRecordScore: averageScore(rows, verdict.lost),
          results,
          isBlocked: true,
          details: {},
        },
        to.quality,
      )
    })
  const why =
    blocking.length > 0
      ? failedRules(blocking)
      : `its score is ${overall}, below ${to.quality.fail_below}: ${failedRules(results)}`
  throw new AppError('QUALITY_BLOCKED', `Nothing was loaded into ${to.table}: ${why}.`)
}

async function moveToRejected(connection: Connection, checks: readonly Check[]): Promise<void> {
  const first = `list_filter(failed, lambda i: i IN (${checks.flatMap(({ action }, index) => (action === 'quarantine' ? [index] : [])).join(', ')}))[1]`
  const texts = (text: (check: Check) => string): string =>
    `[${checks.map((check) => literal(text(check))).join(', ')}]`
  await connection.run(
    `INSERT INTO rejected
     SELECT __row >> ${fileShift}, __row, NULL, NULL, NULL, ${texts(({ columns }) => columns.join(', '))}[${first} + 1],
       ${texts(({ rule }) => `RULE_${rule.rule.toUpperCase()}`)}[${first} + 1],
       array_to_string(${failedTexts(checks, ({ reason }) => reason)}, '; '), raw
     FROM verdicts WHERE is_quarantined`,
  )
}

async function measureLoad(
  connection: Connection,
  ctx: StepContext,
  to: CheckedLoad,
  checked: Checked,
  counts: RowCounts,
  current: CurrentLoad,
): Promise<RowCounts> {
  const { findings } = checked
  const attempt = attemptOf(ctx)
  const { rowsIn } = counts
  const unloaded = counts.rejected - findings.verdict.quarantined
  const both = findings.isJudged && unloaded > 0 ? await alsoUnloaded(connection) : { errors: 0, warnings: 0, lost: 0 }
  if (to.quality.profile) await keepProfile(connection, attempt, to.table, current.number)
  if (to.quality.rules.length > 0) await keepRules(connection, ctx, to)
  await keepVerdicts(connection, ctx, to, checked, counts, current)
  const quality = await keepMeasurement(
    connection,
    ctx,
    attempt,
    {
      table: to.table,
      measured: to.measuredAs,
      load: current.number,
      rows: rowsIn,
      withErrors: unloaded + findings.verdict.withErrors - both.errors,
      withWarnings: findings.verdict.withWarnings - both.warnings,
      averageRecordScore: averageScore(rowsIn, unloaded + findings.verdict.lost - both.lost),
      results: [loadResult(rowsIn, unloaded), ...findings.results],
      isBlocked: false,
      details: counts,
    },
    to.quality,
  )
  return { ...counts, quality }
}

// Each row that came is a check of its own: it could be loaded, or it could not.
const loadResult = (checked: number, failed: number): Result => ({
  rule: 'load',
  name: 'load',
  columns: [],
  dimension: 'consistency',
  severity: 'error',
  action: 'quarantine',
  checked,
  failed,
  passed: failed === 0,
  reason: 'rows that cannot be read, do not fit their types or have no key of their own',
})

// Rows with verdicts that were not loaded for another reason: they count once, as rows that were not loaded.
async function alsoUnloaded(connection: Connection): Promise<{ errors: number; warnings: number; lost: number }> {
  const [row] = await connection.rows(
    `SELECT count(*) FILTER (v.has_error)::BIGINT AS errors, count(*) FILTER (v.has_warning)::BIGINT AS warnings,
       coalesce(sum(1 - v.score), 0)::DOUBLE AS lost
     FROM verdicts v SEMI JOIN rejected r ON v.__row = r.__row WHERE NOT v.is_quarantined`,
  )
  return { errors: Number(row?.['errors']), warnings: Number(row?.['warnings']), lost: Number(row?.['lost']) }
}

async function keepRules(connection: Connection, ctx: StepContext, to: CheckedLoad): Promise<void> {
  // Placeholders are filled now: whoever holds rows against these rules later has other values.
  const rules: KeptRule[] = to.quality.rules.map((rule) =>
    rule.rule === 'expression' ? { rule, bound: ctx.bindSql(rule.expression) } : { rule },
  )
  const row = { table_name: '$1', rules: '$2::JSON', run_id: '$3', updated_at: 'now()' }
  await upsert(connection, 'x_meta_quality_rules', ['table_name'], row, [to.table, JSON.stringify(rules), ctx.run.id])
}

async function keepVerdicts(
  connection: Connection,
  ctx: StepContext,
  to: CheckedLoad,
  { staging, checks, findings }: Checked,
  counts: RowCounts,
  current: CurrentLoad,
): Promise<void> {
  const keys = (counts.businessKey ?? []).flatMap((name) =>
    staging.columns.filter((column) => column.name.toLowerCase() === name.toLowerCase()),
  )
  const key = to.mode === 'versioned' ? compositeKey(ctx.tenant.id, to.table, keys, 's.') : undefined
  await forgetVerdicts(connection, to, key, staging)
  if (!findings.isJudged) return
  await connection.run(
    `INSERT INTO lake.raw.x_meta_record_quality
     SELECT $1, ${key ?? 'NULL'}, ${key === undefined ? 'NULL' : 't.version'}, ${fileOf(staging.files, 's.__row')},
       ${staging.files.length > 0 ? `s.__row & ((1::BIGINT << ${fileShift}) - 1)` : 'NULL'}, $2::BIGINT, $3,
       CASE WHEN v.has_error THEN 'FAILED' ELSE 'WARNED' END, ${failedTexts(checks, ({ reason }) => reason, 'error')},
       ${failedTexts(checks, ({ reason }) => reason, 'warning')}, v.score
     FROM verdicts v JOIN ${staging.relation} s ON s.__row = v.__row
     ${key === undefined ? '' : `JOIN ${versionsOf(to.table)} t ON t.composite_key = ${key} AND t.is_current`}`,
    [to.table, current.number, ctx.run.id],
  )
}

// What was said of a record before does not hold once it was looked at again.
async function forgetVerdicts(
  connection: Connection,
  to: CheckedLoad,
  key: string | undefined,
  staging: Staging,
): Promise<void> {
  if (to.mode === 'append') return
  const [any] = await connection.rows(`SELECT 1 FROM lake.raw.x_meta_record_quality WHERE table_name = $1 LIMIT 1`, [
    to.table,
  ])
  if (!any) return
  const which = key === undefined ? '' : `AND composite_key IN (SELECT ${key} FROM ${staging.relation} s)`
  await connection.run(`DELETE FROM lake.raw.x_meta_record_quality WHERE table_name = $1 ${which}`, [to.table])
}
