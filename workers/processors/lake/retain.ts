import { z } from 'zod'
import { AppError } from '../../../shared/errors.ts'
import { defineProcessor, type OutputValue, type StepResult } from '../../define.ts'
import { needTable } from '../../lake/catalog.ts'
import { compact } from '../../lake/compact.ts'
import type { Connection } from '../../lake/connection.ts'
import { attemptOf, planned, planOf } from '../../lake/destination.ts'
import { tableName } from '../../lake/names.ts'
import { refuseHeld } from '../../lake/policy.ts'
import { findReceipt } from '../../lake/receipt.ts'
import { retain } from '../../lake/retain.ts'

const days = z.coerce.number().int().min(1).max(36_500).optional()

const settings = z.strictObject({
  table: tableName.optional().describe('One table.'),
  classification: z.string().min(1).max(40).optional().describe('Or every table with this tag (lake.classify).'),
  keep_versions: z.coerce
    .number()
    .int()
    .min(1)
    .max(1_000_000)
    .optional()
    .describe('So many versions of each record stay, the newest ones.'),
  max_age_days: days.describe(
    'Versions that were replaced longer ago go; of a table without versions, rows whose age_column is older.',
  ),
  age_column: z.string().min(1).max(255).optional().describe('Of a table without versions: how old a row is.'),
  forget_deleted_after_days: days.describe('Records that were deleted longer ago go with all their versions.'),
  ...planned,
})

/** Deletes old versions, old rows and deleted records as a policy says, and gives their room back. */
export default defineProcessor({
  type: 'lake.retain',
  title: 'Apply retention',
  description: 'Keeps the newest versions of each record, or what is not too old, and deletes the rest.',
  queue: 'transform',
  settings,
  credentialProviders: [],
  // It makes room.
  writes: false,
  async run(ctx, given): Promise<StepResult> {
    using connection = await ctx.lake.connect(ctx.signal)
    if (given.plan !== undefined && given.table === undefined)
      throw new AppError('CONFIG_INVALID', 'A plan approves the retention of one table: name it.')
    const names = await tablesOf(connection, given)
    // Of several tables none is touched when one is held.
    for (const name of names) await refuseHeld(connection, name)
    const done: Record<string, OutputValue>[] = []
    for (const name of names) {
      const attempt = { ...attemptOf(ctx), stepKey: given.table ? ctx.step.key : `${ctx.step.key}/${name}` }
      const table = await needTable(connection, name)
      const isVersioned = table.kind === 'versioned'
      // Under one tag stand tables of both kinds: each takes the part that fits it.
      const fitted = {
        maxAgeDays: given.max_age_days,
        ...(given.table || isVersioned
          ? { keepVersions: given.keep_versions, forgetDeletedDays: given.forget_deleted_after_days }
          : {}),
        ageColumn: given.age_column,
      }
      const receipt = await findReceipt(connection, attempt)
      const counts = receipt ?? (await retain(connection, attempt, table, fitted, planOf(given).plan))
      done.push({ table: name, deleted: counts.deleted, plan: counts.plan })
    }
    const isCompacted = !given.dry_run && (await compact(connection))
    const deleted = done.reduce((sum, one) => sum + Number(one['deleted']), 0)
    return { outputs: { tables: done, deleted, compacted: isCompacted } }
  },
})

async function tablesOf(connection: Connection, given: z.output<typeof settings>): Promise<string[]> {
  if ((given.table === undefined) === (given.classification === undefined))
    throw new AppError('CONFIG_INVALID', 'Give either table or classification.')
  if (!given.keep_versions && !given.max_age_days && !given.forget_deleted_after_days)
    throw new AppError('CONFIG_INVALID', 'Give keep_versions, max_age_days or forget_deleted_after_days.')
  if (given.table !== undefined) return [given.table]
  const rows = await connection.rows(
    `SELECT t.table_name AS name FROM lake.raw.x_meta_tables t JOIN lake.raw.x_meta_table_policies p USING (table_name)
     WHERE p.classification = $1 AND t.kind <> 'view' ORDER BY 1`,
    [given.classification ?? null],
  )
  return rows.map((row) => String(row['name']))
}
