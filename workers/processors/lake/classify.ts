import { z } from 'zod'
import { defineProcessor, type StepResult } from '../../define.ts'
import { needTable } from '../../lake/catalog.ts'
import { tableName } from '../../lake/names.ts'
import { writePolicy } from '../../lake/policy.ts'

/** A tag of a table, by which retention finds it. */
export const classification = z
  .string()
  .regex(/^[a-z][a-z0-9_]{0,39}$/, 'a classification has 1 to 40 of a-z, 0-9 and _, and begins with a letter')

/** Says what a table holds, and puts it under a legal hold or lifts it. */
export default defineProcessor({
  type: 'lake.classify',
  title: 'Classify a table',
  description: 'Tags a table with a classification, and sets or lifts a legal hold on it.',
  queue: 'transform',
  settings: z.strictObject({
    table: tableName,
    classification: classification.nullable().optional().describe('Such as personal; null takes the tag away.'),
    legal_hold: z
      .string()
      .trim()
      .min(1)
      .max(500)
      .nullable()
      .optional()
      .describe('Why nothing may be deleted from the table; null lifts the hold.'),
  }),
  credentialProviders: [],
  async run(ctx, { table, classification: tag, legal_hold: holdReason }): Promise<StepResult> {
    using connection = await ctx.lake.connect(ctx.signal)
    await needTable(connection, table)
    const by = { actor: ctx.run.actor, runId: ctx.run.id }
    const policy = await writePolicy(connection, by, table, { classification: tag, holdReason })
    return { outputs: { table, classification: policy.classification, legal_hold: policy.holdReason } }
  },
})
