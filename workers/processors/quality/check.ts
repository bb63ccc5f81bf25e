import { z } from 'zod'
import { qualityRules, qualityThresholds } from '../../../schema/config/quality.ts'
import { defineProcessor, type StepResult } from '../../define.ts'
import { attemptOf } from '../../lake/destination.ts'
import { tableName } from '../../lake/names.ts'
import { checkTable } from '../../quality/check-table.ts'

/** Holds the current rows of a table against rules, keeps those that fail, and stops the run where it is asked to. */
export default defineProcessor({
  type: 'quality.check',
  title: 'Check quality',
  description: 'Counts how many rows pass each rule, keeps those that fail, and can block the steps that follow.',
  queue: 'transform',
  settings: z.strictObject({
    table: tableName.describe('The table whose current rows are looked at.'),
    rules: qualityRules.min(1),
    fail_below: z.number().min(0).max(1).optional().describe('The step fails when the score is below this.'),
    quarantine: tableName.optional().describe('A table that takes the failing rows, made anew each time.'),
    thresholds: qualityThresholds,
  }),
  credentialProviders: [],
  async run(ctx, { table, rules, fail_below: failBelow, quarantine, thresholds }): Promise<StepResult> {
    using connection = await ctx.lake.connect(ctx.signal)
    const tests = { table, rules, failBelow, quarantine, thresholds }
    return { outputs: await checkTable(connection, ctx, attemptOf(ctx), tests) }
  },
})
