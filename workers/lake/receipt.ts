import { AppError } from '../../shared/errors.ts'
import type { Connection } from './connection.ts'

/** Which attempt of which step loads. `fence` grows with every claim; a new `cycle` is meant to do the work anew. */
export type Attempt = { runId: string; stepKey: string; cycle: number; fence: bigint }

/** What a load did. `rowsIn` is what the source gave: `rejected` plus what got in. */
export type LoadCounts = {
  rowsIn: number
  rejected: number
  inserted: number
  updated: number
  deleted: number
  unchanged: number
}

/**
 * Runs a load exactly once: its rows and a receipt commit together, and a repeat of the same cycle of a step
 * changes nothing and answers the counts of the first. Throws CONFLICT when a newer attempt has loaded already.
 */
export async function loadOnce(
  connection: Connection,
  attempt: Attempt,
  table: string,
  load: () => Promise<LoadCounts>,
): Promise<LoadCounts> {
  return await connection.transaction(async () => {
    const before = await findReceipt(connection, attempt)
    if (before) return before
    const counts = await load()
    await connection.run(`INSERT INTO lake.raw.x_meta_load_receipts VALUES ($1, $2, $3, $4, $5::UBIGINT, $6, now())`, [
      attempt.runId,
      attempt.stepKey,
      attempt.cycle,
      table,
      String(attempt.fence),
      JSON.stringify(counts),
    ])
    return counts
  })
}

/** The counts of this cycle's load when it is done already. Throws CONFLICT when a newer attempt of the step has loaded. */
export async function findReceipt(connection: Connection, attempt: Attempt): Promise<LoadCounts | undefined> {
  const receipts = await connection.rows(
    `SELECT cycle, fence, counts FROM lake.raw.x_meta_load_receipts WHERE run_id = $1 AND step_key = $2`,
    [attempt.runId, attempt.stepKey],
  )
  if (receipts.some((receipt) => BigInt(String(receipt['fence'])) > attempt.fence))
    throw new AppError('CONFLICT', 'A newer attempt of this step has loaded its rows already.')
  const receipt = receipts.find((receipt) => receipt['cycle'] === attempt.cycle)
  return receipt && (JSON.parse(String(receipt['counts'])) as LoadCounts) // written by loadOnce
}
