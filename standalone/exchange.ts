import { messages as kinds, type PGlite, protocol, type QueryOptions } from '@electric-sql/pglite'
import { drizzle } from 'drizzle-orm/pglite'
import type { Begin, Build, Db, Exchange } from '../shared/db/db.ts'

const { serialize } = protocol

/**
 * A query and what begins its transaction over embedded PostgreSQL, in one exchange. Statements that are sent without a Sync
 * between them are one transaction, so what the first ones set for a transaction ends with the last.
 */
export function exchangeOver(client: PGlite): Required<Exchange> {
  const ask = async <T>(begin: readonly Begin[], build: Build<T>): Promise<T> => {
    const query = async (sql: string, params: unknown[], options: QueryOptions): Promise<{ rows: unknown[] }> => {
      const message = Buffer.concat([
        ...begin.flatMap(({ text, values }) => [
          serialize.parse({ text }),
          serialize.bind({ values: values.map(textOf) }),
          serialize.execute({}),
        ]),
        serialize.parse({ text: sql }),
        serialize.bind({ values: params.map(textOf) }),
        serialize.describe({ type: 'P' }),
        serialize.execute({}),
        serialize.sync(),
      ])
      await client.waitReady
      // Between the statements of somebody's transaction is no place for ours; runExclusive alone keeps to single queries.
      const { messages } = await client._runExclusiveTransaction(() =>
        client._runExclusiveQuery(() => client.execProtocol(message)),
      )
      return { rows: rowsOf(client, messages, options) }
    }
    // Drizzle asks nothing else of a client, as long as a single query is built.
    return build(drizzle({ client: { query } as unknown as PGlite }) as unknown as Db)
  }
  return { read: ask, call: ask }
}

const textOf = (value: unknown): string | null => {
  if (value === null || value === undefined) return null
  if (typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean') return String(value)
  throw new Error(`a ${typeof value} is no parameter`)
}

// Rows before the first description are those of what began, which nobody asked to be described.
function rowsOf(client: PGlite, messages: readonly unknown[], { rowMode, parsers = {} }: QueryOptions): unknown[] {
  const read = ({ dataTypeID: type }: kinds.Field, text: string | null): unknown =>
    text === null ? null : ((parsers[type] ?? client.parsers[type])?.(text, type) ?? text)
  let columns: readonly kinds.Field[] | undefined
  const rows: unknown[] = []
  for (const message of messages) {
    if (message instanceof kinds.RowDescriptionMessage) columns = message.fields
    else if (columns && message instanceof kinds.DataRowMessage) {
      const values = columns.map((column, at) => read(column, message.fields[at] ?? null))
      rows.push(
        rowMode === 'array' ? values : Object.fromEntries(columns.map(({ name }, at) => [name, values[at]] as const)),
      )
    }
  }
  return rows
}
