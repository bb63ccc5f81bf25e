import { z } from 'zod'
import { loadQuality, type LoadQuality, qualityRule } from '../../../schema/config/quality.ts'
import { AppError } from '../../../shared/errors.ts'
import { isAboutTable } from '../../../shared/quality/rule-fault.ts'
import { type BoundSql, defineProcessor, type StepContext, type StepResult } from '../../define.ts'
import { conform } from '../../formats/conform.ts'
import { findTable } from '../../lake/catalog.ts'
import type { Connection } from '../../lake/connection.ts'
import { contractOf } from '../../lake/contract.ts'
import { alertMail, attemptOf, destination, loadInto, loadOutputs } from '../../lake/destination.ts'
import { findReceipt, type LoadCounts } from '../../lake/receipt.ts'
import { openRejected } from '../../lake/staging.ts'
import { correct, corrections } from '../../quality/corrections.ts'
import { settleQuarantined, stageQuarantined } from '../../quality/stage-quarantined.ts'

const rowsMax = 10_000_000

/** Takes rows out of the quarantine, corrected if asked to, through the checks and into their table again. */
export default defineProcessor({
  type: 'quality.reprocess',
  title: 'Reprocess quarantined rows',
  description:
    'Loads quarantined rows of a table again, corrected by expressions or a file: those that pass are released, the others stay.',
  queue: 'transform',
  settings: z.strictObject({
    source: z
      .strictObject({
        run_id: z.string().min(1).max(100).optional().describe('Only rows that this run quarantined.'),
        codes: z
          .array(z.string().regex(/^[A-Z_]{1,60}$/, 'a code such as RULE_RANGE or TYPE'))
          .min(1)
          .max(50)
          .optional()
          .describe('Only rows with these codes. By default all but KEY_DUPLICATE.'),
      })
      .prefault({}),
    corrections: corrections.optional(),
    destination,
  }),
  credentialProviders: [],
  async run(ctx, { source, corrections, destination }): Promise<StepResult> {
    using connection = await ctx.lake.connect(ctx.signal)
    const done = await findReceipt(connection, attemptOf(ctx))
    if (done) return resultOf(ctx, destination, done)
    if (destination.mode === 'replace')
      throw new AppError(
        'CONFIG_INVALID',
        'Rows of the quarantine are added to a table: mode replace would lose the others.',
      )
    await openRejected(connection)
    const table = await findTable(connection, destination.table)
    const wanted = { table: destination.table, runId: source.run_id, codes: source.codes, rowsMax }
    const staged = await stageQuarantined(connection, wanted, table)
    if (corrections) {
      const file = corrections.file === undefined ? undefined : await ctx.files.resolve(corrections.file)
      await correct(connection, staged.columns, corrections, file, (text) => ctx.bindSql(text))
    }
    const { staging, changes } = await conform(connection, staged, {
      declared: {},
      schemaFiles: { table: [], organisation: [] },
      table,
      contract: contractOf(destination.contract),
      renames: destination.rename_columns,
      allowsLoss: destination.dry_run || destination.plan !== undefined,
    })
    const rules = await rulesFor(connection, destination.table, destination.quality)
    const counts = await loadInto(
      connection,
      { ...ctx, bindSql: (text, dialect) => rules.bounds.get(text) ?? ctx.bindSql(text, dialect) },
      { ...destination, snapshot: 'delta', quality: rules.quality },
      staging,
      {
        ...(table ? { changes, seen: table.columns } : {}),
        measuredAs: 'reprocess',
        settle: () => settleQuarantined(connection, ctx.run.id, ctx.step.key),
      },
    )
    if (counts.rejected > 0) ctx.log('warn', `${counts.rejected} of ${counts.rowsIn} rows stay in the quarantine.`)
    return resultOf(ctx, destination, counts)
  },
})

function resultOf(ctx: StepContext, to: z.output<typeof destination>, counts: LoadCounts): StepResult {
  const released = counts.rowsIn - counts.rejected
  const outputs = {
    ...loadOutputs(to.table, counts),
    taken: counts.rowsIn,
    released,
    still_quarantined: counts.rejected,
  }
  return { outputs, mail: alertMail(ctx, to, counts) }
}

const keptRules = z.array(
  z.object({
    rule: qualityRule,
    bound: z
      .object({ text: z.string(), values: z.array(z.union([z.string(), z.number(), z.boolean(), z.null()])) })
      .optional(),
  }),
)

// Without rules of its own a step takes those of the newest load that had any: nothing gets in unchecked. Rules about a
// table as a whole say nothing about a handful of its rows.
async function rulesFor(
  connection: Connection,
  table: string,
  given: LoadQuality | undefined,
): Promise<{ quality: LoadQuality; bounds: Map<string, BoundSql> }> {
  if (given) return { quality: given, bounds: new Map() }
  const [row] = await connection.rows(
    `SELECT rules::VARCHAR AS rules FROM lake.raw.x_meta_quality_rules WHERE table_name = $1`,
    [table],
  )
  const kept = keptRules.parse(JSON.parse(String(row?.['rules'] ?? '[]')))
  const rules = kept.filter(({ rule }) => !isAboutTable(rule))
  const bounds = new Map(
    rules.flatMap(({ rule, bound }) =>
      rule.rule === 'expression' && bound ? [[rule.expression, bound] as const] : [],
    ),
  )
  return { quality: { ...loadQuality.parse({ profile: false }), rules: rules.map(({ rule }) => rule) }, bounds }
}
