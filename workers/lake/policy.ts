import { AppError } from '../../shared/errors.ts'
import type { Connection } from './connection.ts'
import { upsert } from './upsert.ts'

/** What the owner of a table says about it. `holdReason`: why nothing may be deleted from it, or null. */
export type Policy = { classification: string | null; holdReason: string | null }

/** What is said about a table; nothing at all by default. */
export async function findPolicy(connection: Connection, table: string): Promise<Policy> {
  const [row] = await connection.rows(
    `SELECT classification, hold_reason FROM lake.raw.x_meta_table_policies WHERE table_name = $1`,
    [table],
  )
  const text = (name: string): string | null =>
    row?.[name] === undefined || row[name] === null ? null : String(row[name])
  return { classification: text('classification'), holdReason: text('hold_reason') }
}

/** Writes down what is said about a table; what is undefined stays as it was. */
export async function writePolicy(
  connection: Connection,
  by: { actor: string; runId: string },
  table: string,
  said: { [Field in keyof Policy]?: Policy[Field] | undefined },
): Promise<Policy> {
  const before = await findPolicy(connection, table)
  const policy = {
    classification: said.classification === undefined ? before.classification : said.classification,
    holdReason: said.holdReason === undefined ? before.holdReason : said.holdReason,
  }
  const row = {
    table_name: '$1',
    classification: '$2::VARCHAR',
    hold_reason: '$3::VARCHAR',
    changed_by: '$4',
    run_id: '$5',
    changed_at: 'now()',
  }
  const values = [table, policy.classification, policy.holdReason, by.actor, by.runId]
  await connection.transaction(() => upsert(connection, 'x_meta_table_policies', ['table_name'], row, values))
  return policy
}

/** Throws CONFLICT with the reason when a table is under a legal hold. */
export async function refuseHeld(connection: Connection, table: string): Promise<void> {
  const { holdReason } = await findPolicy(connection, table)
  if (holdReason === null) return
  throw new AppError('CONFLICT', `The table ${table} is under a legal hold: ${holdReason}. Nothing was deleted.`, {
    hint: 'Lift the hold first: lake.classify with legal_hold: null.',
  })
}
