import { z } from 'zod'
import { AppError } from '../../../shared/errors.ts'
import { defineProcessor, type StepResult } from '../../define.ts'
import { needTable } from '../../lake/catalog.ts'
import { findFaults } from '../../lake/find-faults.ts'
import { tableName } from '../../lake/names.ts'

/** Looks through the versions, receipts and runs of the lake for what cannot be right, and counts it. */
export default defineProcessor({
  type: 'lake.validate',
  title: 'Validate the lake',
  description: 'Finds gaps in versions, orphaned changes, and rows, receipts and runs that do not fit together.',
  queue: 'transform',
  settings: z.strictObject({
    table: tableName.optional().describe('One versioned table; by default all.'),
    fail_on_findings: z.boolean().default(false).describe('The step fails when anything is found.'),
  }),
  credentialProviders: [],
  async run(ctx, { table, fail_on_findings }): Promise<StepResult> {
    using connection = await ctx.lake.connect(ctx.signal)
    if (table !== undefined) await needTable(connection, table)
    const findings = await findFaults(connection, ctx.run.id, table)
    await connection.transaction(async () => {
      await connection.run(`DELETE FROM lake.raw.x_meta_findings WHERE run_id = $1 AND step_key = $2`, [
        ctx.run.id,
        ctx.step.key,
      ])
      for (const { table: name, finding, count } of findings)
        await connection.run(`INSERT INTO lake.raw.x_meta_findings VALUES ($1, $2, $3, $4, $5::BIGINT, now())`, [
          ctx.run.id,
          ctx.step.key,
          name,
          finding,
          count,
        ])
    })
    const [first] = findings
    if (first && fail_on_findings)
      throw new AppError(
        'QUALITY_BLOCKED',
        `The lake has ${findings.length} findings; the first: ${first.count} of ${first.finding} in ${first.table}.`,
        { hint: 'See raw.x_meta_findings.' },
      )
    return { outputs: { findings, found: findings.length } }
  },
})
