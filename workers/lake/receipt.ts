import { setTimeout as wait } from 'node:timers/promises'
import { AppError } from '../../shared/errors.ts'
import type { OutputValue } from '../define.ts'
import type { Connection } from './connection.ts'
import { planHash, type Plan } from './plan.ts'
import type { SchemaChange } from './schema-change.ts'
import { upsert } from './upsert.ts'

/**
 * Which attempt of which step loads. `fence` grows with every claim; a new `cycle` is meant to do the work anew.
 * `number` counts the attempts of the step, from 1.
 */
export type Attempt = { runId: string; stepKey: string; cycle: number; fence: bigint; number: number }

/** What became of the rows. `rowsIn` is what the source gave: `rejected` plus what got in. */
export type RowCounts = {
  rowsIn: number
  rejected: number
  inserted: number
  updated: number
  deleted: number
  unchanged: number
  /** How many of the rejected rows had the business key of another row of the same load. */
  duplicates?: number
  /** Single values that did not get in, as the contract wants it, while their rows did. */
  discarded?: number
  /** The columns that tell rows apart, and whether they were given or found. */
  businessKey?: string[]
  keySource?: 'given' | 'detected'
  /** What the rules of the load found, for its outputs; undefined for a load without rules. */
  quality?: LoadSummary
}

/** The outcome of a load's rules: scores, counts and names of columns, and no value of a row. */
export type LoadSummary = { [name: string]: OutputValue }

/** What a load did. */
export type LoadCounts = Required<Omit<RowCounts, 'keySource' | 'quality'>> & {
  quality?: LoadSummary
  keySource: 'given' | 'detected' | null
  /** The number of the load within its table, from 1; 0 for a rehearsal. */
  load: number
  schema: SchemaChange[]
  /** What a rehearsal or a planned load was: the hash that approves it. */
  plan: string | null
}

/** The load that is under way. What it finds out on the way is noted here. */
export type CurrentLoad = {
  number: number
  /** When it counts from: ISO 8601 with microseconds, later than every earlier load of the table. */
  moment: string
  schema: SchemaChange[]
  /** A digest of the rows that go in, in no order; needed only where there is a plan. */
  content: string
}

const patienceMs = 10 * 60_000

/**
 * Runs a load exactly once: its rows and a receipt commit together, and a repeat of the same cycle of a step
 * changes nothing and answers the counts of the first. Loads of one table run one after another; a load waits for the
 * one before it, at most ten minutes. With a plan of `rehearse` everything is done and taken back; with a plan of
 * `approved` the load counts only when it is the one that was rehearsed.
 * Throws CONFLICT when a newer attempt has loaded already, when the wait is over, and when the plan is stale.
 */
export async function loadOnce(
  connection: Connection,
  attempt: Attempt,
  table: string,
  load: (current: CurrentLoad) => Promise<RowCounts>,
  plan?: Plan,
): Promise<LoadCounts> {
  await begin(connection, table)
  try {
    const before = await findReceipt(connection, attempt)
    if (before) {
      await connection.run('ROLLBACK')
      return before
    }
    const current = await takeHead(connection, table)
    const rows = await load(current)
    const counts: LoadCounts = {
      duplicates: 0,
      discarded: 0,
      businessKey: [],
      ...rows,
      keySource: rows.keySource ?? null,
      load: current.number,
      schema: current.schema,
      plan: null,
    }
    if (plan) counts.plan = planHash(table, current, counts)
    if (plan && 'rehearse' in plan) {
      await connection.run('ROLLBACK')
      return { ...counts, load: 0 }
    }
    if (plan && plan.approved !== counts.plan)
      throw new AppError(
        'CONFLICT',
        `The plan for ${table} is stale: the table or the source has changed since. It would now be ${shown(counts)}.`,
        { hint: 'Rehearse the load again, look at its counts, and approve the new plan.' },
      )
    await noteSchema(connection, attempt, table, current)
    await connection.run(
      `INSERT INTO lake.raw.x_meta_load_receipts VALUES ($1, $2, $3, $4, $5::UBIGINT, $6, $7::TIMESTAMPTZ)`,
      [
        attempt.runId,
        attempt.stepKey,
        attempt.cycle,
        table,
        String(attempt.fence),
        JSON.stringify(counts),
        current.moment,
      ],
    )
    await connection.run('COMMIT')
    return counts
  } catch (error) {
    // The transaction is gone already in some cases; the first error is the one that counts.
    await connection.rollback()
    throw error
  }
}

// The row of the table in x_meta_table_heads is taken first: whoever cannot have it has done nothing yet.
async function begin(connection: Connection, table: string): Promise<void> {
  const until = performance.now() + patienceMs
  for (;;) {
    await connection.begin()
    try {
      const taken = await connection.run(
        `UPDATE lake.raw.x_meta_table_heads SET load_number = load_number + 1,
           loaded_at = greatest(now(), loaded_at + INTERVAL 1 microsecond) WHERE table_name = $1`,
        [table],
      )
      if (taken > 0) return
      // The first load of a table: its row is made by itself, so that two of them meet here and not at their end.
      await connection.run('ROLLBACK')
      const row = { table_name: '$1', load_number: '0', loaded_at: `'epoch'::TIMESTAMPTZ` }
      await connection.transaction(() => upsert(connection, 'x_meta_table_heads', ['table_name'], row, [table], 'keep'))
    } catch (error) {
      await connection.rollback()
      const isTaken = error instanceof AppError && error.code === 'CONFLICT'
      if (!isTaken || performance.now() > until) throw error
      await wait(50)
    }
  }
}

async function takeHead(connection: Connection, table: string): Promise<CurrentLoad> {
  const [head] = await connection.rows(
    `SELECT load_number AS number, strftime(loaded_at, '%Y-%m-%dT%H:%M:%S.%fZ') AS moment
     FROM lake.raw.x_meta_table_heads WHERE table_name = $1`,
    [table],
  )
  return { number: Number(head?.['number']), moment: String(head?.['moment']), schema: [], content: '' }
}

async function noteSchema(
  connection: Connection,
  attempt: Attempt,
  table: string,
  current: CurrentLoad,
): Promise<void> {
  if (current.schema.length === 0) return
  await connection.run(
    `INSERT INTO lake.raw.x_meta_schema_changes SELECT $1, $2, $3, $4, $5::TIMESTAMPTZ, $6,
       (SELECT to_json(list({'name': column_name, 'type': data_type} ORDER BY column_index)) FROM duckdb_columns()
        WHERE database_name = 'lake' AND table_name = $1 AND (schema_name = 'raw' OR NOT EXISTS (
          SELECT 1 FROM lake.raw.x_meta_tables WHERE table_name = $1 AND kind = 'versioned')))`,
    [table, current.number, attempt.runId, attempt.stepKey, current.moment, JSON.stringify(current.schema)],
  )
}

const shown = (counts: LoadCounts): string =>
  `${counts.inserted} inserted, ${counts.updated} updated, ${counts.deleted} deleted, ${counts.rejected} rejected`

/** The counts of this cycle's load when it is done already. Throws CONFLICT when a newer attempt of the step has loaded. */
export async function findReceipt(connection: Connection, attempt: Attempt): Promise<LoadCounts | undefined> {
  const receipts = await connection.rows(
    `SELECT cycle, fence, counts FROM lake.raw.x_meta_load_receipts WHERE run_id = $1 AND step_key = $2`,
    [attempt.runId, attempt.stepKey],
  )
  if (receipts.some((receipt) => BigInt(String(receipt['fence'])) > attempt.fence))
    throw new AppError('CONFLICT', 'A newer attempt of this step has loaded its rows already.')
  const receipt = receipts.find((receipt) => receipt['cycle'] === attempt.cycle)
  if (!receipt) return undefined
  const counts = JSON.parse(String(receipt['counts'])) as Partial<LoadCounts> & RowCounts // written by loadOnce
  // A receipt of an earlier release has fewer fields.
  return {
    duplicates: 0,
    discarded: 0,
    businessKey: [],
    load: 0,
    schema: [],
    plan: null,
    ...counts,
    keySource: counts.keySource ?? null,
  }
}
