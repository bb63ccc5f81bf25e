import { z } from 'zod'
import { AppError } from '../../../shared/errors.ts'
import { defineProcessor, type StepResult } from '../../define.ts'
import type { PointInTime } from '../../lake/as-of.ts'
import { attemptOf, loadOutputs, planned, planOf } from '../../lake/destination.ts'
import { tableName } from '../../lake/names.ts'
import { findReceipt } from '../../lake/receipt.ts'
import { restore } from '../../lake/restore.ts'

const settings = z.strictObject({
  table: tableName.describe('The versioned table.'),
  at: z.iso.datetime({ offset: true }).nullish().describe('The moment to go back to, such as 2026-03-01T00:00:00Z.'),
  load: z.coerce.number().int().min(0).nullish().describe('Or the number of the load after which it was right.'),
  record: z
    .record(z.string().min(1).max(255), z.union([z.string(), z.number(), z.boolean()]))
    .optional()
    .describe('The business key of one record, by column; without it the whole table goes back.'),
  ...planned,
})

/** Brings a versioned table, or one record, back to a point in time, as new versions: nothing is deleted. */
export default defineProcessor({
  type: 'lake.restore',
  title: 'Restore a table',
  description: 'Brings a versioned table or one record back to a moment or a load, as new versions.',
  queue: 'transform',
  settings,
  credentialProviders: [],
  async run(ctx, given): Promise<StepResult> {
    const at = pointOf(given)
    using connection = await ctx.lake.connect(ctx.signal)
    const done = await findReceipt(connection, attemptOf(ctx))
    if (done) return { outputs: loadOutputs(given.table, done) }
    const counts = await restore(connection, {
      attempt: attemptOf(ctx),
      orgId: ctx.tenant.id,
      actor: ctx.run.actor,
      table: given.table,
      at,
      ...(given.record ? { record: given.record } : {}),
      ...planOf(given),
    })
    return { outputs: loadOutputs(given.table, counts) }
  },
})

function pointOf({ at, load }: z.output<typeof settings>): PointInTime {
  const hasLoad = load !== null && load !== undefined
  if (at && !hasLoad) return { moment: at }
  if (hasLoad && !at) return { load }
  throw new AppError('CONFIG_INVALID', 'Give either at or load: the point in time to go back to.')
}
