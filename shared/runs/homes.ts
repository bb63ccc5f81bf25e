import { sql } from 'drizzle-orm'
import { type Db, rowsOf, textArray, type Tx, withLedger } from '../db/db.ts'

/** Makes one tenant the worker's own for `leaseMs`, to read for it; false while another worker has it. */
export function takeHome(
  db: Db,
  wanted: { worker: string; folder: string; tenantId: string; leaseMs: number },
): Promise<boolean> {
  const { worker, folder, tenantId, leaseMs } = wanted
  return withLedger(db, 'worker', async (tx) => {
    const [row] = await rowsOf<{ mine: boolean }>(
      tx,
      sql`select app.take_home(${worker}, ${folder}, ${tenantId}, ${leaseMs}) as mine`,
    )
    return row?.mine ?? false
  })
}

/** Says whose lakes the worker has open, for another `leaseMs`; its other tenants are free for any worker. */
export async function keepHomes(tx: Tx, worker: string, tenants: readonly string[], leaseMs: number): Promise<void> {
  await tx.execute(sql`select app.keep_homes(${worker}, ${textArray(tenants)}, ${leaseMs})`)
}

/**
 * Does `work` if it is due, for one caller per `everyMs` over all processes; the others pass on at once. The turn goes
 * with the transaction: when the work fails, another takes it up.
 */
export function inTurn(db: Db, name: 'tick', everyMs: number, work: (tx: Tx) => Promise<unknown>): Promise<void> {
  return withLedger(db, 'worker', async (tx) => {
    const [row] = await rowsOf<{ mine: boolean }>(tx, sql`select app.take_turn(${name}, ${everyMs}) as mine`)
    if (row?.mine) await work(tx)
  })
}
