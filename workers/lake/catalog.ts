import { AppError } from '../../shared/errors.ts'
import type { Column } from '../define.ts'
import type { Connection } from './connection.ts'
import { envelope, isEnvelopeName, literal, quoted, versionsOf } from './names.ts'
import { refreshViews } from './meta.ts'
import { upsert } from './upsert.ts'

/** A table of the lake: `columns` are those of the business, in order. A view is a query over other tables. */
export type Table = {
  name: string
  kind: 'versioned' | 'plain' | 'view'
  businessKey: string[]
  /** Whether the business key was named by a step or found in the rows of the first load. */
  keySource: 'given' | 'detected'
  columns: Column[]
}

/** The table of this name, or undefined. */
export async function findTable(connection: Connection, name: string): Promise<Table | undefined> {
  const [row] = await connection.rows(
    `SELECT kind, array_to_string(business_key, chr(31)) AS keys, key_source FROM lake.raw.x_meta_tables WHERE table_name = $1`,
    [name],
  )
  if (!row) return undefined
  const kind = row['kind'] === 'versioned' || row['kind'] === 'view' ? row['kind'] : 'plain'
  const columns = await connection.rows(
    `SELECT column_name AS name, data_type AS type FROM duckdb_columns()
     WHERE database_name = 'lake' AND schema_name = $1 AND table_name = $2 ORDER BY column_index`,
    [kind === 'versioned' ? 'raw' : 'main', name],
  )
  return {
    name,
    kind,
    businessKey: row['keys'] ? String(row['keys']).split('\u001f') : [],
    keySource: row['key_source'] === 'detected' ? 'detected' : 'given',
    columns: columns
      .map((column) => ({ name: String(column['name']), type: String(column['type']) }))
      .filter((column) => kind !== 'versioned' || !isEnvelopeName(column.name)),
  }
}

/** As `findTable`, and throws TABLE_MISSING when there is none. */
export async function needTable(connection: Connection, name: string): Promise<Table> {
  const table = await findTable(connection, name)
  if (!table) throw new AppError('TABLE_MISSING', `There is no table ${JSON.stringify(name)} in this tenant's lake.`)
  return table
}

/** Makes an empty versioned table with its views. Throws SCHEMA_MISMATCH for a column that has a name of the envelope. */
export async function createVersioned(
  connection: Connection,
  name: string,
  columns: readonly Column[],
  businessKey: readonly string[],
  keySource: Table['keySource'] = 'given',
): Promise<Table> {
  const taken = columns.find((column) => isEnvelopeName(column.name))
  if (taken)
    throw new AppError(
      'SCHEMA_MISMATCH',
      `The column ${JSON.stringify(taken.name)} has a name that versioned tables use themselves: give it another one.`,
    )
  const list = [...envelope, ...columns].map((column) => `${quoted(column.name)} ${column.type}`).join(', ')
  await connection.run(`CREATE TABLE ${versionsOf(name)} (${list})`)
  await register(connection, name, 'versioned', businessKey, keySource)
  await refreshViews(
    connection,
    name,
    columns.map((column) => column.name),
  )
  return { name, kind: 'versioned', businessKey: [...businessKey], keySource, columns: [...columns] }
}

/** Writes down what kind a table is. */
export async function register(
  connection: Connection,
  name: string,
  kind: Table['kind'],
  businessKey: readonly string[],
  keySource: Table['keySource'] = 'given',
): Promise<void> {
  const keys = businessKey.length > 0 ? `[${businessKey.map(literal).join(', ')}]` : 'NULL::VARCHAR[]'
  const source = businessKey.length > 0 ? literal(keySource) : 'NULL::VARCHAR'
  const row = { table_name: '$1', kind: '$2', business_key: keys, created_at: 'now()', key_source: source }
  await upsert(connection, 'x_meta_tables', ['table_name'], row, [name, kind])
}
