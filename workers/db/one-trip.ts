import { DrizzleQueryError } from 'drizzle-orm'
import pg from 'pg'
import type { OneTrip, TenantScope } from '../../shared/db/db.ts'

/**
 * One statement as a role and for a tenant over a pool, in one exchange with the server. Two statements that are sent
 * without a Sync between them are one transaction of PostgreSQL, so role and tenant end with it.
 */
export function oneTripOver(pool: pg.Pool): OneTrip {
  return async (scope, { sql, params }) => {
    const client = await pool.connect()
    let failed: unknown
    try {
      return await new Promise((resolve, reject) => {
        client.query(
          new ScopedCall(scope, sql, params, (error, result) => (error ? reject(error) : resolve(result.rows))),
        )
      })
    } catch (error) {
      failed = error
      throw new DrizzleQueryError(sql, params, error instanceof Error ? error : new Error(String(error)))
    } finally {
      // As the pool does: a connection that broke is not given to the next one.
      client.release(failed instanceof Error && !('severity' in failed))
    }
  }
}

const types = pg.types.builtins

type Answer = (error: Error | null, result: pg.QueryResult<Record<string, unknown>>) => void

// What node-postgres has inside and its types leave out.
type Wire = {
  parse(message: { name: string; text: string }): void
  bind(message: { values: unknown[] }): void
  execute(message: object): void
}
type Inside = pg.Submittable & {
  prepare(wire: Wire): void
  handleDataRow(message: unknown): void
  handleCommandComplete(message: unknown, wire: Wire): void
}
const OpenQuery = pg.Query as unknown as new (
  config: { text: string; values: unknown[]; queryMode: 'extended'; types: typeof timesAsText },
  values: undefined,
  answer: Answer,
) => Inside

// As Drizzle's raw statements leave them.
const times: readonly number[] = [types.DATE, types.TIMESTAMP, types.TIMESTAMPTZ, types.INTERVAL]
const timesAsText = {
  getTypeParser: (type: number, format: 'text') =>
    times.includes(type) ? (text: string) => text : pg.types.getTypeParser(type, format),
}

// node-postgres lets a query write its own messages. Ours are those of two statements; the first one's answer is dropped.
class ScopedCall extends OpenQuery {
  readonly #scope: TenantScope
  #isScoped = false

  constructor(scope: TenantScope, text: string, values: unknown[], answer: Answer) {
    super({ text, values, queryMode: 'extended', types: timesAsText }, undefined, answer)
    this.#scope = scope
  }

  override prepare(wire: Wire): void {
    const { side, tenantId } = this.#scope
    wire.parse({ name: '', text: "select set_config('role', $1, true), set_config('app.tenant_id', $2, true)" })
    wire.bind({ values: [`tributary_${side}`, tenantId] })
    wire.execute({})
    super.prepare(wire)
  }

  override handleDataRow(message: unknown): void {
    if (this.#isScoped) super.handleDataRow(message)
  }

  override handleCommandComplete(message: unknown, wire: Wire): void {
    if (this.#isScoped) super.handleCommandComplete(message, wire)
    else this.#isScoped = true
  }
}
