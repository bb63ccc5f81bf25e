import { z } from 'zod'
import { AppError } from '../../../shared/errors.ts'
import { defineProcessor, type StepResult } from '../../define.ts'
import { needTable } from '../../lake/catalog.ts'
import { attemptOf } from '../../lake/destination.ts'
import { tableName } from '../../lake/names.ts'
import { estimateRows } from '../../quality/estimate-rows.ts'
import { keepProfile } from '../../quality/keep-profile.ts'
import { measure } from '../../quality/measure.ts'
import { subjectOf } from '../../quality/subject.ts'

/** Profiles the columns of a table in one look at its rows. Only counts leave the lake. */
export default defineProcessor({
  type: 'quality.profile',
  title: 'Profile a table',
  description:
    'Counts, nulls, distinct and top values, bounds, quantiles and patterns of each column, kept in the lake.',
  queue: 'transform',
  settings: z.strictObject({
    table: tableName.describe('The table whose current rows are looked at.'),
    columns: z.array(z.string().min(1).max(255)).min(1).max(1000).optional().describe('By default all.'),
  }),
  credentialProviders: [],
  async run(ctx, settings): Promise<StepResult> {
    using connection = await ctx.lake.connect(ctx.signal)
    const table = await needTable(connection, settings.table)
    const wanted = settings.columns?.map((name) => {
      const column = table.columns.find((column) => column.name.toLowerCase() === name.toLowerCase())
      if (column) return column
      throw new AppError('CONFIG_INVALID', `The table ${table.name} has no column ${JSON.stringify(name)}.`)
    })
    const rowsEstimated = await estimateRows(connection, table)
    const subject = { ...(await subjectOf(connection, table)), columns: wanted ?? table.columns, rowsEstimated }
    const { rows } = await measure(connection, subject, [], true)
    await connection.transaction(() => keepProfile(connection, attemptOf(ctx), table.name, null))
    const columns = await connection.rows(
      `SELECT column_name, data_type, nulls, distinct_count, distinct_is_estimate FROM lake.raw.x_meta_profiles
       WHERE run_id = $1 AND step_key = $2`,
      [ctx.run.id, ctx.step.key],
    )
    ctx.progress({ done: rows, total: rows, unit: 'rows' })
    return {
      outputs: {
        table: table.name,
        rows,
        columns: columns.map((row) => ({
          column: String(row['column_name']),
          type: String(row['data_type']),
          nulls: Number(row['nulls']),
          distinct: Number(row['distinct_count']),
          distinct_is_estimate: row['distinct_is_estimate'] === true,
        })),
      },
    }
  },
})
