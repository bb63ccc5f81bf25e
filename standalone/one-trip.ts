import { messages as kinds, type PGlite, protocol, types } from '@electric-sql/pglite'
import { DrizzleQueryError } from 'drizzle-orm'
import type { OneTrip } from '../shared/db/db.ts'

const { serialize } = protocol
const setScope = "select set_config('role', $1, true), set_config('app.tenant_id', $2, true)"

/**
 * One statement as a role and for a tenant over embedded PostgreSQL, in one exchange. Two statements that are sent
 * without a Sync between them are one transaction, so role and tenant end with it.
 */
export function oneTripOver(client: PGlite): OneTrip {
  return async ({ side, tenantId }, { sql, params }) => {
    const message = Buffer.concat([
      serialize.parse({ text: setScope }),
      serialize.bind({ values: [`tributary_${side}`, tenantId] }),
      serialize.execute({}),
      serialize.parse({ text: sql }),
      serialize.bind({ values: params.map(textOf) }),
      serialize.describe({ type: 'P' }),
      serialize.execute({}),
      serialize.sync(),
    ])
    await client.waitReady
    try {
      // Between the statements of somebody's transaction is no place for ours; runExclusive alone keeps to single queries.
      const { messages } = await client._runExclusiveTransaction(() =>
        client._runExclusiveQuery(() => client.execProtocol(message)),
      )
      return rowsOf(client, messages)
    } catch (error) {
      throw new DrizzleQueryError(sql, params, error instanceof Error ? error : new Error(String(error)))
    }
  }
}

const textOf = (value: unknown): string | null => {
  if (value === null || value === undefined) return null
  if (typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean') return String(value)
  throw new Error(`a ${typeof value} is no parameter`)
}

// Rows before the first description are those of the scope, which nobody asked to be described.
function rowsOf(client: PGlite, messages: readonly unknown[]): Record<string, unknown>[] {
  let columns: readonly kinds.Field[] | undefined
  const rows: Record<string, unknown>[] = []
  for (const message of messages) {
    if (message instanceof kinds.RowDescriptionMessage) columns = message.fields
    else if (columns && message instanceof kinds.DataRowMessage) {
      const { fields } = message
      rows.push(
        Object.fromEntries(columns.map((column, at) => [column.name, read(client, column, fields[at] ?? null)])),
      )
    }
  }
  return rows
}

// Times stay text, as Drizzle's raw statements leave them.
const asText: readonly number[] = [types.DATE, types.TIMESTAMP, types.TIMESTAMPTZ, types.INTERVAL]

const read = (client: PGlite, { dataTypeID: type }: kinds.Field, text: string | null): unknown =>
  text === null || asText.includes(type) ? text : (client.parsers[type]?.(text, type) ?? text)
