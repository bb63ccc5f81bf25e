import { sql } from 'drizzle-orm'
import { rowsOf, type Side, withTenant } from '../../shared/db/db.ts'
import { inTurns } from './attempt.ts'
import type { Backend } from './backends.ts'
import type { Estate } from './estate.ts'
import { tally, type Tally } from './tally.ts'

const rounds = 100

/**
 * Transactions that commit and fail, of two tenants, both sides and nobody, through few connections: each sees its own
 * tenant and nobody sees none. What a transaction bound ends with it, on a connection that the next one gets.
 */
export async function proveConnections({ name, db, clients }: Backend, { a, b }: Estate): Promise<Tally> {
  const found = tally()
  const seenBy = async (tenantId: string, side: Side, fails: boolean): Promise<string[]> => {
    let seen: string[] = []
    await withTenant(db, { tenantId, side }, async (tx) => {
      seen = (await rowsOf<{ id: string }>(tx, sql`select id from app.tenant`)).map(({ id }) => id)
      if (fails) throw new Expected()
    }).catch((error: unknown) => {
      if (!(error instanceof Expected)) throw error
    })
    return seen
  }
  const work = Array.from({ length: rounds }, (_, round) => [
    ...[a, b].map(({ id }) => async () => {
      const seen = await seenBy(id, round % 2 === 0 ? 'api' : 'worker', round % 7 === 0)
      found.check(seen.length === 1 && seen[0] === id, `${name}: a transaction of a tenant sees ${seen.length} tenants`)
    }),
    async () => {
      const [left] = await rowsOf<{ tenant: string | null; role: string; session: string }>(
        db,
        sql`select current_setting('app.tenant_id', true) as tenant, current_user::text as role, session_user::text as session`,
      )
      found.check(
        !left?.tenant && left?.role === left?.session,
        `${name}: a transaction leaves its tenant or role behind`,
        () => JSON.stringify(left),
      )
    },
  ])
  await inTurns(work.flat(), Math.max(clients, 4))
  return found
}

class Expected extends Error {}
