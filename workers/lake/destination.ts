import { z } from 'zod'
import type { OutputValue, StepContext } from '../define.ts'
import type { Connection } from './connection.ts'
import { loadPlain } from './load-plain.ts'
import { loadVersioned } from './load-versioned.ts'
import { tableName } from './names.ts'
import type { Attempt, LoadCounts } from './receipt.ts'
import type { Staging } from './staging.ts'
import type { Stream } from './stream.ts'

/** Where a step that ingests puts its rows. */
export const destination = z
  .strictObject({
    table: tableName.describe('The table of the lake; it is made when it is not there.'),
    mode: z
      .enum(['versioned', 'append', 'replace'])
      .default('versioned')
      .describe('versioned keeps every version of a row; append and replace write a plain table.'),
    business_key: z
      .array(z.string().min(1).max(255))
      .max(16)
      .default([])
      .describe('Columns that tell rows apart; needed when a versioned table is new.'),
    snapshot: z
      .enum(['full', 'delta'])
      .default('full')
      .describe('full: rows that the source no longer has are deleted. delta: the source gives changed rows only.'),
  })
  .describe('Where the rows go.')

/** Loads rows the way the destination says, once per step of a run. */
export async function loadInto(
  connection: Connection,
  ctx: StepContext,
  to: z.output<typeof destination>,
  source: Staging | Stream,
): Promise<LoadCounts> {
  const attempt = attemptOf(ctx)
  if (to.mode !== 'versioned') return await loadPlain(connection, { attempt, table: to.table, mode: to.mode, source })
  return await loadVersioned(connection, {
    attempt,
    orgId: ctx.tenant.id,
    actor: ctx.run.actor,
    table: to.table,
    businessKey: to.business_key,
    snapshot: to.snapshot,
    source,
  })
}

/** The attempt that a context belongs to. */
export const attemptOf = (ctx: StepContext): Attempt => ({
  runId: ctx.run.id,
  stepKey: ctx.step.key,
  cycle: ctx.step.cycle,
  fence: ctx.step.fence,
})

/**
 * The outputs of an ingesting step. `rows` counts those that were taken over, `score` is their share of `rows_in`
 * (1 when there were none), from 0 to 1 with four decimals.
 */
export function loadOutputs(table: string, counts: LoadCounts): Record<string, OutputValue> {
  const rows = counts.rowsIn - counts.rejected
  return {
    table,
    rows,
    rows_in: counts.rowsIn,
    rejected: counts.rejected,
    inserted: counts.inserted,
    updated: counts.updated,
    deleted: counts.deleted,
    unchanged: counts.unchanged,
    score: counts.rowsIn === 0 ? 1 : Math.floor((rows / counts.rowsIn) * 10_000) / 10_000,
  }
}
