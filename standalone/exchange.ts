import { messages as kinds, type PGlite, protocol } from '@electric-sql/pglite'
import { DrizzleQueryError } from 'drizzle-orm'
import type { Begin, Build, Exchange } from '../shared/db/db.ts'
import { plainQuery, typesAsText } from '../shared/db/plain-query.ts'

const { serialize } = protocol

/**
 * A query and what begins its transaction over embedded PostgreSQL, in one exchange. Statements that are sent without a Sync
 * between them are one transaction, so what the first ones set for a transaction ends with the last.
 */
export function exchangeOver(client: PGlite): Required<Exchange> {
  const ask = async <T>(begin: readonly Begin[], build: Build<T>): Promise<T> => {
    const { text, values, read } = plainQuery(build)
    const message = Buffer.concat([
      ...begin.flatMap((one) => [
        serialize.parse({ text: one.text }),
        serialize.bind({ values: one.values.map(textOf) }),
        serialize.execute({}),
      ]),
      serialize.parse({ text }),
      serialize.bind({ values: values.map(textOf) }),
      serialize.describe({ type: 'P' }),
      serialize.execute({}),
      serialize.sync(),
    ])
    await client.waitReady
    // Between the statements of somebody's transaction is no place for ours; runExclusive alone keeps to single queries.
    const asked = client._runExclusiveTransaction(() => client._runExclusiveQuery(() => client.execProtocol(message)))
    const { messages } = await asked.catch((error: Error) => {
      throw new DrizzleQueryError(text, values, error)
    })
    const { columns, rows } = rowsOf(client, messages)
    if (read) return read(rows) as T
    const named = rows.map((row) => Object.fromEntries(columns.map(({ name }, at) => [name, row[at]] as const)))
    // What is built knows its type.
    return { rows: named } as T
  }
  return { read: ask, call: ask }
}

const textOf = (value: unknown): string | null => {
  if (value === null || value === undefined) return null
  if (typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean') return String(value)
  throw new Error(`a ${typeof value} is no parameter`)
}

// Rows before the first description are those of what began, which nobody asked to be described.
function rowsOf(client: PGlite, messages: readonly unknown[]): { columns: readonly kinds.Field[]; rows: unknown[][] } {
  const read = ({ dataTypeID: type }: kinds.Field, text: string | null): unknown =>
    text === null || typesAsText.has(type) ? text : (client.parsers[type]?.(text, type) ?? text)
  let columns: readonly kinds.Field[] | undefined
  const rows: unknown[][] = []
  for (const message of messages) {
    if (message instanceof kinds.RowDescriptionMessage) columns = message.fields
    else if (columns && message instanceof kinds.DataRowMessage)
      rows.push(columns.map((column, at) => read(column, message.fields[at] ?? null)))
  }
  return { columns: columns ?? [], rows }
}
