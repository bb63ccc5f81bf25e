import { z } from 'zod'
import { defineProcessor, type StepResult } from '../../define.ts'
import { tableName } from '../../lake/names.ts'
import { reportOf } from '../../quality/report.ts'

/** Sums up what was measured of tables over some days: scores, issues, trends, and what to do about them. */
export default defineProcessor({
  type: 'quality.report',
  title: 'Report on quality',
  description: 'Scores, issues, trends and recommendations of the last days, of one table or of all.',
  queue: 'transform',
  settings: z.strictObject({
    table: tableName.optional().describe('By default every table that was measured.'),
    days: z.int().min(1).max(3650).default(30),
  }),
  credentialProviders: [],
  writes: false,
  async run(ctx, { table, days }): Promise<StepResult> {
    using connection = await ctx.lake.connect(ctx.signal)
    const tables = await reportOf(connection, table, days)
    return { outputs: { days, tables } }
  },
})
