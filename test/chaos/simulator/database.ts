import { sql } from 'drizzle-orm'
import { type Db, rowsOf } from '../../../shared/db/db.ts'
import { memoryDatabase, refuseOtherTransitions } from '../../support/database.ts'

/** A fault put into the ledger on purpose: in the text of function `in`, `from` becomes `to`. */
export type Plant = { name: string; in: string; from: string; to: string }

/** When every simulation begins, in milliseconds since 1970. */
export const simulationStart = Date.UTC(2026, 0, 1)

/** The real ledger in a database of its own, whose clock is the simulation's. */
export type SimDatabase = AsyncDisposable & {
  db: Db
  /** Milliseconds since 1970 that the ledger takes for now from here on. */
  setTime(ms: number): void
  /** Puts a fault in until it is disposed of. One that does not fit its function is an error: it would prove nothing. */
  plant(fault: Plant): Promise<AsyncDisposable>
  /** Forgets every tenant and run. */
  clear(): Promise<void>
}

/**
 * Opens the migrated database and refuses every change of state that is not listed. The embedded database has its time from
 * this thread's `Date.now`, which is the simulation's until the database is closed; one thread simulates one at a time.
 */
export async function simDatabase(): Promise<SimDatabase> {
  const realNow = Date.now
  // Before the database is opened: what it began in another time it would go on waiting for.
  let now = simulationStart
  Date.now = () => now
  const { db, close } = await memoryDatabase()
  await refuseOtherTransitions(db)
  const filled = await emptyTables(db)
  return {
    db,
    setTime: (ms) => void (now = ms),
    async plant(fault) {
      const [found] = await rowsOf<{ text: string }>(
        db,
        sql`select pg_get_functiondef(oid) as text from pg_proc
            where pronamespace = 'app'::regnamespace and proname = ${fault.in}`,
      )
      if (!found?.text.includes(fault.from)) throw new Error(`"${fault.name}" does not fit ${fault.in}`)
      await db.execute(sql.raw(found.text.replaceAll(fault.from, () => fault.to)))
      return {
        [Symbol.asyncDispose]: async () => void (await db.execute(sql.raw(found.text))),
      }
    },
    clear: () =>
      db.transaction(async (tx) => {
        await tx.execute(sql`set local session_replication_role = replica`)
        await tx.execute(sql.raw(`do $$ begin ${filled.map((table) => `delete from ${table};`).join(' ')} end $$`))
        await tx.execute(sql`update app.turn_clock set virtual_ms = 0`)
      }),
    async [Symbol.asyncDispose]() {
      Date.now = realNow
      await close()
    },
  }
}

// What a simulation can fill is what is empty before the first.
async function emptyTables(db: Db): Promise<string[]> {
  const tables = await rowsOf<{ name: string }>(
    db,
    sql`select format('%I.%I', schemaname, tablename) as name from pg_tables where schemaname = 'app' order by 1`,
  )
  const probes = tables.map(({ name }) => `select '${name}' as name where not exists (select from ${name})`)
  return (await rowsOf<{ name: string }>(db, sql.raw(probes.join(' union all ')))).map(({ name }) => name)
}
