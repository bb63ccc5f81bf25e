import { DrizzleQueryError } from 'drizzle-orm'
import pg from 'pg'
import type { Begin, Build, Exchange } from '../../shared/db/db.ts'
import { plainQuery, typesAsText } from '../../shared/db/plain-query.ts'

/**
 * A query and what begins its transaction over a pool, in one exchange with the server. Statements that are sent without a
 * Sync between them are one transaction of PostgreSQL, so what the first ones set for a transaction ends with the last;
 * the time that a statement may take counts anew for each.
 */
export function exchangeOver(pool: pg.Pool): Required<Exchange> {
  const ask = async <T>(begin: readonly Begin[], build: Build<T>): Promise<T> => {
    const { text, values, read } = plainQuery(build)
    const config = { text, types, ...(read ? { rowMode: 'array' } : {}) }
    const result = await sendOver(pool, (answer) => new QueryAfter(begin, config, values, answer)).catch(
      (error: Error) => {
        throw new DrizzleQueryError(text, values, error)
      },
    )
    // What is built knows its type.
    return (read ? read(result.rows as unknown as unknown[][]) : result) as T
  }
  return { read: ask, call: ask }
}

const asText = (text: string): string => text
const types: pg.CustomTypesConfig = {
  getTypeParser: (id, format) => (typesAsText.has(id) ? asText : pg.types.getTypeParser(id, format)),
}

async function sendOver(pool: pg.Pool, made: (answer: Answer) => Inside): Promise<Result> {
  const client = await pool.connect()
  let failed: unknown
  try {
    return await new Promise((resolve, reject) => {
      client.query(made((error, result) => (error ? reject(error) : resolve(result))))
    })
  } catch (error) {
    failed = error
    throw error
  } finally {
    // A connection that broke, or whose server says farewell, is not given to the next one.
    client.release(failed instanceof Error && Reflect.get(failed, 'severity') !== 'ERROR')
  }
}

type Result = pg.QueryResult<Record<string, unknown>>
type Answer = (error: Error | null, result: Result) => void

// What node-postgres has inside and its types leave out.
type Wire = {
  parse(message: { name: string; text: string }): void
  bind(message: { statement: string; values: unknown[] }): void
  execute(message: object): void
}
type Inside = pg.Submittable & {
  prepare(wire: Wire): void
  handleDataRow(message: unknown): void
  handleCommandComplete(message: unknown, wire: Wire): void
}
const OpenQuery = pg.Query as unknown as new (
  config: pg.QueryConfig & { queryMode: 'extended' },
  values: unknown[],
  answer: Answer,
) => Inside

// node-postgres lets a query write its own messages. Ours are those of several statements; the first ones' answers are dropped.
class QueryAfter extends OpenQuery {
  readonly #before: readonly Begin[]
  #left: number

  constructor(before: readonly Begin[], config: pg.QueryConfig, values: unknown[], answer: Answer) {
    super({ ...config, queryMode: 'extended' }, values, answer)
    this.#before = before
    this.#left = before.length
  }

  override prepare(wire: Wire): void {
    for (const { text, values } of this.#before) {
      // Without a name: behind a pooler the next exchange may meet a server connection that never heard of it, or that heard
      // of it from another client.
      wire.parse({ name: '', text })
      wire.bind({ statement: '', values })
      wire.execute({})
    }
    super.prepare(wire)
  }

  override handleDataRow(message: unknown): void {
    if (this.#left === 0) super.handleDataRow(message)
  }

  override handleCommandComplete(message: unknown, wire: Wire): void {
    if (this.#left === 0) super.handleCommandComplete(message, wire)
    else this.#left--
  }
}
