import { z } from 'zod'
import { loadQuality } from '../../schema/config/quality.ts'
import { AppError } from '../../shared/errors.ts'
import type { Column, Mail, OutputValue, StepContext } from '../define.ts'
import type { Connection } from './connection.ts'
import { checkLoad } from '../quality/check-load.ts'
import { contract } from './contract.ts'
import { loadPlain } from './load-plain.ts'
import { loadVersioned } from './load-versioned.ts'
import { tableName } from './names.ts'
import type { Plan } from './plan.ts'
import { type Measure, measured } from './quality-metrics.ts'
import type { Attempt, CurrentLoad, LoadCounts, RowCounts } from './receipt.ts'
import { isDestructive, type SchemaChange } from './schema-change.ts'
import type { Staging } from './staging.ts'
import type { Stream } from './stream.ts'
import type { Watermark } from './watermark.ts'

const columnNames = z.array(z.string().min(1).max(255)).max(16).default([])

/** Settings of a step that can be planned: rehearsed first, and then done only as it was rehearsed. */
export const planned = {
  dry_run: z
    .boolean()
    .default(false)
    .describe(
      'Do everything, count it, and take it back: the outputs are those of the load, with the hash of its plan.',
    ),
  plan: z
    .string()
    .regex(/^[0-9a-f]{64}$/, 'the plan of a dry run')
    .nullish()
    .describe('The plan of a dry run: the load is done only if it is still exactly that one.'),
}

/** Where a step that ingests puts its rows. */
export const destination = z
  .strictObject({
    table: tableName.describe('The table of the lake; it is made when it is not there.'),
    mode: z
      .enum(['versioned', 'append', 'replace'])
      .default('versioned')
      .describe('versioned keeps every version of a row; append and replace write a plain table.'),
    business_key: columnNames.describe(
      'Columns that tell rows apart. For a new versioned table without them they are found in its rows.',
    ),
    snapshot: z
      .enum(['full', 'delta'])
      .default('full')
      .describe('full: rows that the source no longer has are deleted. delta: the source gives changed rows only.'),
    delete_limit: z
      .number()
      .min(0)
      .max(1)
      .default(0.9)
      .describe('A full snapshot that would delete a greater share of the rows than this is refused; 1 allows all.'),
    partition_by: columnNames.describe(
      'Columns such as a day: replace, and the deletes of a full snapshot, reach only rows whose values in them the source has.',
    ),
    duplicates: z
      .enum(['last_wins', 'reject'])
      .default('last_wins')
      .describe(
        'Of rows of one load with the same key: the last one counts, or none of them. The others are quarantined.',
      ),
    contract: contract.optional(),
    quality: loadQuality.optional(),
    rename_columns: z
      .record(z.string().min(1).max(255), z.string().min(1).max(255))
      .default({})
      .describe(
        'New names of columns of the table, by their old names: the history of a column goes on under the new one.',
      ),
    ...planned,
  })
  .describe('Where the rows go.')

/** What a step knows of its load beyond its destination. */
export type Preparation = {
  changes?: readonly SchemaChange[]
  seen?: readonly Column[]
  watermark?: Watermark
  /** By default `load`: one of those that later ones are held against. */
  measuredAs?: 'load' | 'reprocess'
  /** Done inside the transaction of the load when it was measured. */
  settle?: (current: CurrentLoad) => Promise<void>
}

/** Loads rows the way the destination says, once per step of a run. */
export async function loadInto(
  connection: Connection,
  ctx: StepContext,
  to: z.output<typeof destination>,
  source: Staging | Stream,
  preparation: Preparation = {},
): Promise<LoadCounts> {
  for (const name of to.partition_by)
    if (!source.columns.some((column) => column.name.toLowerCase() === name.toLowerCase()))
      throw new AppError('CONFIG_INVALID', `The source has no column ${JSON.stringify(name)} to partition by.`)
  const checked =
    to.quality &&
    (await checkLoad(
      connection,
      ctx,
      { ...to, quality: to.quality, measuredAs: preparation.measuredAs ?? 'load' },
      source,
    ))
  const load = {
    ...preparation,
    ...planOf(to),
    attempt: attemptOf(ctx),
    table: to.table,
    partitionBy: to.partition_by,
    source: checked?.staging ?? source,
    measure: async (counts: RowCounts, current: CurrentLoad) => {
      const measure: Measure =
        checked?.measure ?? ((...given) => measured(connection, attemptOf(ctx), to.table, ...given))
      const result = await measure(counts, current)
      await preparation.settle?.(current)
      return result
    },
  }
  if (to.mode !== 'versioned') return await loadPlain(connection, { ...load, mode: to.mode })
  return await loadVersioned(connection, {
    ...load,
    orgId: ctx.tenant.id,
    actor: ctx.run.actor,
    businessKey: to.business_key,
    snapshot: to.snapshot,
    deleteLimit: to.delete_limit,
    duplicates: to.duplicates,
  })
}

/** The plan that settings ask for; where both are given, the load is only rehearsed. */
export function planOf(given: { dry_run: boolean; plan?: string | null | undefined }): { plan?: Plan } {
  if (given.plan && !given.dry_run) return { plan: { approved: given.plan } }
  return given.dry_run ? { plan: { rehearse: true } } : {}
}

/** True when the load makes the table anew, so that the columns of the one before do not bind it. */
export const isMadeAnew = (to: z.output<typeof destination>): boolean =>
  to.mode === 'replace' && to.partition_by.length === 0 && to.contract === undefined

/** The attempt that a context belongs to. */
export const attemptOf = (ctx: StepContext): Attempt => ({
  runId: ctx.run.id,
  stepKey: ctx.step.key,
  cycle: ctx.step.cycle,
  fence: ctx.step.fence,
  number: ctx.step.attempt,
})

/**
 * The outputs of an ingesting step. `rows` counts those that were taken over, `score` is their share of `rows_in`
 * (1 when there were none), from 0 to 1 with four decimals. `load` is the number of the load within its table, 0 for a
 * dry run, and `plan` the hash that approves a dry run.
 */
export function loadOutputs(table: string, counts: LoadCounts): Record<string, OutputValue> {
  const rows = counts.rowsIn - counts.rejected
  return {
    table,
    rows,
    rows_in: counts.rowsIn,
    rejected: counts.rejected,
    duplicates: counts.duplicates,
    discarded_values: counts.discarded,
    inserted: counts.inserted,
    updated: counts.updated,
    deleted: counts.deleted,
    unchanged: counts.unchanged,
    score: counts.rowsIn === 0 ? 1 : Math.floor((rows / counts.rowsIn) * 10_000) / 10_000,
    load: counts.load,
    business_key: counts.businessKey,
    key_source: counts.keySource,
    schema_changes: counts.schema.map((change) => ({ ...change, destructive: isDestructive(change) })),
    plan: counts.plan,
    ...(counts.quality ? { quality: counts.quality } : {}),
  }
}

/** The mail that a load sends when its rules raised alerts: which, and never a value of a row. */
export function alertMail(ctx: StepContext, to: z.output<typeof destination>, counts: LoadCounts): Mail[] {
  const alerts = counts.quality?.['alerts']
  const recipients = to.quality?.alert_to ?? []
  if (!Array.isArray(alerts) || alerts.length === 0 || recipients.length === 0 || counts.load === 0) return []
  const lines = alerts.map((alert) =>
    typeof alert === 'object' && alert !== null ? `- ${String(Reflect.get(alert, 'message'))}` : '',
  )
  const subject = `Data quality: ${alerts.length} alert${alerts.length === 1 ? '' : 's'} for ${to.table}`
  const text = [
    `Load ${counts.load} of the table ${to.table}, run ${ctx.run.id} of ${ctx.run.pipelineId}:`,
    '',
    ...lines,
    '',
  ].join('\n')
  return [{ to: recipients, subject, text }]
}
