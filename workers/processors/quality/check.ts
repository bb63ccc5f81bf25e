import { z } from 'zod'
import { defineProcessor, type StepResult } from '../../define.ts'
import { attemptOf } from '../../lake/destination.ts'
import { tableName } from '../../lake/names.ts'
import { checkTable } from '../../quality/check-table.ts'
import { rule } from '../../quality/rules.ts'

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
  async run(ctx, { table, rules, fail_below: failBelow, quarantine }): Promise<StepResult> {
    using connection = await ctx.lake.connect(ctx.signal)
    return { outputs: await checkTable(connection, ctx, attemptOf(ctx), { table, rules, failBelow, quarantine }) }
  },
})
