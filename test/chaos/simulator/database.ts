import { sql } from 'drizzle-orm'
import { type Db, rowsOf } from '../../../shared/db/db.ts'
import { memoryDatabase, refuseOtherTransitions } from '../../support/database.ts'

/** A fault put into the ledger on purpose: in the text of function `in`, `from` becomes `to`. */
export type Plant = { name: string; in: string; from: string; to: string }

/** The real ledger in a database of its own, whose clock is the simulation's. */
export type SimDatabase = AsyncDisposable & {
  db: Db
  /** Milliseconds since 1970 that the ledger takes for now from here on. */
  setTime(ms: number): Promise<void>
  /** Forgets every tenant and run. */
  clear(): Promise<void>
}

/**
 * Opens the migrated database, refuses every change of state that is not listed, and makes each function of the ledger
 * read the simulated clock. A plant that does not fit its function is an error: it would prove nothing.
 */
export async function simDatabase(plant?: Plant): Promise<SimDatabase> {
  const { db, close } = await memoryDatabase()
  await refuseOtherTransitions(db)
  await db.execute(
    sql`create function app.simulated_now() returns timestamptz language sql volatile as $$
      select to_timestamp(current_setting('simulation.now')::float8 / 1000) $$`,
  )
  const functions = await rowsOf<{ name: string; text: string }>(
    db,
    sql`select proname as name, pg_get_functiondef(oid) as text from pg_proc
        where pronamespace = 'app'::regnamespace and proname <> 'simulated_now'`,
  )
  let isPlanted = false
  for (const { name, text } of functions) {
    let changed = text.replaceAll('clock_timestamp()', 'app.simulated_now()')
    if (plant?.in === name && changed.includes(plant.from)) {
      changed = changed.replaceAll(plant.from, () => plant.to)
      isPlanted = true
    }
    if (changed !== text) await db.execute(sql.raw(changed))
  }
  if (plant && !isPlanted) throw new Error(`"${plant.name}" does not fit ${plant.in}`)
  return {
    db,
    setTime: async (ms) => {
      await db.execute(sql`select set_config('simulation.now', ${String(ms)}, false)`)
    },
    clear: () =>
      db.transaction(async (tx) => {
        await tx.execute(sql`set local session_replication_role = replica`)
        await tx.execute(sql`truncate app.tenant cascade`)
        await tx.execute(sql`update app.turn_clock set virtual_ms = 0`)
      }),
    [Symbol.asyncDispose]: close,
  }
}
