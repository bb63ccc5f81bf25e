import { sql } from 'drizzle-orm'
import { type Db, type Side, type Tx, withTenant } from '../../shared/db/db.ts'

/** What a statement came to: its rows, or the code and text of its refusal. */
export type Outcome = { rows: unknown[]; count: number } | { code: string; message: string }

/**
 * Runs a statement as a side of the house, bound to a tenant as the product binds it; nothing of it stays. Without a
 * tenant the transaction names none.
 */
export function attempt(db: Db, tenantId: string | undefined, side: Side, statement: string): Promise<Outcome> {
  const work = (tx: Tx): Promise<Outcome> => outcomeOf(tx, statement)
  return tenantId === undefined
    ? undone((keep) =>
        db.transaction(async (tx) => {
          await tx.execute(sql.raw(`set local role tributary_${side}`))
          return keep(await work(tx))
        }),
      )
    : undone((keep) => withTenant(db, { tenantId, side }, async (tx) => keep(await work(tx))))
}

/** Runs a statement as any role of the database, bound to no tenant; nothing of it stays. */
export function attemptAs(db: Db, role: string, statement: string): Promise<Outcome> {
  return undone((keep) =>
    db.transaction(async (tx) => {
      await tx.execute(sql.raw(`set local role ${role}`))
      return keep(await outcomeOf(tx, statement))
    }),
  )
}

/** A refusal as the driver threw it, without what was wrapped around it. */
export function refusalOf(error: unknown): Outcome {
  if (error instanceof Error && 'code' in error && typeof error.code === 'string')
    return { code: error.code, message: error.message }
  if (error instanceof Error && error.cause !== undefined) return refusalOf(error.cause)
  throw error
}

async function outcomeOf(tx: Tx, statement: string): Promise<Outcome> {
  try {
    // The drivers disagree on the shape of a result: rows that were changed are counted under two names.
    const result: unknown = await tx.execute(sql.raw(statement))
    const { rows, rowCount, affectedRows } = result as { rows: unknown[]; rowCount?: number; affectedRows?: number }
    return { rows, count: Math.max(rows.length, rowCount ?? affectedRows ?? 0) }
  } catch (error) {
    return refusalOf(error)
  }
}

class Undone extends Error {}

// A transaction is undone by what its work throws.
async function undone(work: (keep: (outcome: Outcome) => never) => Promise<unknown>): Promise<Outcome> {
  let kept: Outcome | undefined
  try {
    await work((outcome) => {
      kept = outcome
      throw new Undone()
    })
  } catch (error) {
    if (kept && error instanceof Undone) return kept
    throw error
  }
  throw new Error('the transaction was not undone')
}

/** Works through `cells` with so many hands at once, in an order that mixes what stands side by side. */
export async function inTurns(cells: readonly (() => Promise<void>)[], hands: number): Promise<void> {
  const stride = 7919
  let next = 0
  const order = cells.map((_, index) => (index * stride) % cells.length)
  const mixed = cells.length % stride === 0 ? cells.map((_, index) => index) : order
  await Promise.all(
    Array.from({ length: hands }, async () => {
      for (let at = next++; at < mixed.length; at = next++) await cells[mixed[at] ?? 0]?.()
    }),
  )
}
