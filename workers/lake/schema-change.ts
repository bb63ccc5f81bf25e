import { AppError } from '../../shared/errors.ts'
import type { Column } from '../define.ts'
import { refreshViews } from './meta.ts'
import { register, type Table } from './catalog.ts'
import type { Connection } from './connection.ts'
import { canonicalType, fits, sameType, textFor } from './fit-columns.ts'
import { isEnvelopeName, plainOf, quoted, versionsOf } from './names.ts'

/**
 * One change of the columns of a table. `add`, `rename` and `widen` lose nothing; `narrow` and `drop` do, and `lost` is
 * the number of values, over all versions, that they take away.
 */
export type SchemaChange =
  | { change: 'add'; column: string; type: string }
  | { change: 'rename'; column: string; to: string }
  | { change: 'widen'; column: string; from: string; to: string }
  | { change: 'narrow'; column: string; from: string; to: string; lost?: number }
  | { change: 'drop'; column: string; from: string; lost?: number }

/** True for a change that takes values away. */
export const isDestructive = ({ change }: SchemaChange): boolean => change === 'narrow' || change === 'drop'

/**
 * Changes the columns of a table, in order, inside the transaction of a load, and gives the table as it then is and the
 * changes with what they took away. History is changed along: a renamed column has its new name in every version.
 * Throws SCHEMA_MISMATCH for a name that versioned tables use themselves.
 */
export async function changeSchema(
  connection: Connection,
  table: Table,
  changes: readonly SchemaChange[],
): Promise<{ table: Table; done: SchemaChange[] }> {
  if (changes.length === 0) return { table, done: [] }
  const relation = table.kind === 'versioned' ? versionsOf(table.name) : plainOf(table.name)
  const done: SchemaChange[] = []
  let { columns, businessKey } = table
  for (const change of changes) {
    refuseEnvelope(table, change)
    done.push(await apply(connection, relation, change))
    columns = after(columns, change)
    if (change.change === 'rename')
      businessKey = businessKey.map((name) => (isSame(name, change.column) ? change.to : name))
  }
  if (businessKey.join('\u001f') !== table.businessKey.join('\u001f'))
    await register(connection, table.name, table.kind, businessKey, table.keySource)
  if (table.kind === 'versioned')
    await refreshViews(
      connection,
      table.name,
      columns.map(({ name }) => name),
    )
  return { table: { ...table, columns, businessKey }, done }
}

/** The columns of a table after a change. */
export function after(columns: readonly Column[], change: SchemaChange): Column[] {
  switch (change.change) {
    case 'add':
      return [...columns, { name: change.column, type: change.type }]
    case 'drop':
      return columns.filter(({ name }) => !isSame(name, change.column))
    case 'rename':
      return columns.map((column) => (isSame(column.name, change.column) ? { ...column, name: change.to } : column))
    default:
      return columns.map((column) => (isSame(column.name, change.column) ? { ...column, type: change.to } : column))
  }
}

async function apply(connection: Connection, relation: string, change: SchemaChange): Promise<SchemaChange> {
  const column = quoted(change.column)
  const alter = (sql: string): Promise<number> => connection.run(`ALTER TABLE ${relation} ${sql}`)
  switch (change.change) {
    case 'add':
      await alter(`ADD COLUMN ${column} ${change.type}`)
      return change
    case 'rename':
      await alter(`RENAME COLUMN ${column} TO ${quoted(change.to)}`)
      return change
    case 'widen':
      await retype(connection, relation, column, change.to, `${column}::${change.to}`)
      return change
    case 'narrow': {
      const text = textFor(column, change.from, change.to)
      const keeps = fits(change.to, text)
      const lost = await count(connection, relation, `${column} IS NOT NULL AND NOT coalesce(${keeps}, false)`)
      const value = `CASE WHEN coalesce(${keeps}, false) THEN TRY_CAST(${text} AS ${change.to}) END`
      await retype(connection, relation, column, change.to, value)
      return { ...change, lost }
    }
    case 'drop': {
      const lost = await count(connection, relation, `${column} IS NOT NULL`)
      await alter(`DROP COLUMN ${column}`)
      return { ...change, lost }
    }
  }
}

// A DuckLake widens numbers only, and by no expression: there the table is written anew.
async function retype(
  connection: Connection,
  relation: string,
  column: string,
  type: string,
  value: string,
): Promise<void> {
  if (connection.kind === 'duckdb') {
    await connection.run(`ALTER TABLE ${relation} ALTER COLUMN ${column} TYPE ${type} USING ${value}`)
    return
  }
  // By way of a copy: a table that is replaced twice in one transaction loses the files that its own query still reads.
  await connection.run(
    `CREATE OR REPLACE TEMP TABLE retyped AS SELECT * REPLACE (${value} AS ${column}) FROM ${relation};
     CREATE OR REPLACE TABLE ${relation} AS FROM temp.retyped;
     DROP TABLE temp.retyped`,
  )
}

async function count(connection: Connection, relation: string, where: string): Promise<number> {
  const [row] = await connection.rows(`SELECT count(*)::BIGINT AS n FROM ${relation} WHERE ${where}`)
  return Number(row?.['n'])
}

function refuseEnvelope(table: Table, change: SchemaChange): void {
  const name = change.change === 'rename' ? change.to : change.column
  if (table.kind === 'versioned' && isEnvelopeName(name))
    throw new AppError(
      'SCHEMA_MISMATCH',
      `The column ${JSON.stringify(name)} has a name that versioned tables use themselves: give it another one.`,
    )
}

const isSame = (a: string, b: string): boolean => a.toLowerCase() === b.toLowerCase()

const wholeDigits: Record<string, number> = {
  TINYINT: 3,
  UTINYINT: 3,
  SMALLINT: 5,
  USMALLINT: 5,
  INTEGER: 10,
  UINTEGER: 10,
  BIGINT: 19,
  UBIGINT: 20,
}

/** Digits before and behind the point that a type of whole or decimal numbers holds, or undefined for other types. */
export function digitsOf(type: string): { whole: number; scale: number } | undefined {
  const name = canonicalType(type)
  const whole = wholeDigits[name]
  if (whole !== undefined) return { whole, scale: 0 }
  const decimal = /^DECIMAL\((\d+),(\d+)\)$/.exec(name)
  return decimal ? { whole: Number(decimal[1]) - Number(decimal[2]), scale: Number(decimal[2]) } : undefined
}

/** True when every value of `from` is a value of `to`, and reads the same there. */
export function isWider(from: string, to: string): boolean {
  if (sameType(from, to)) return false
  const [a, b] = [canonicalType(from), canonicalType(to)]
  if (b === 'VARCHAR') return true
  if (b === 'HUGEINT') return digitsOf(a)?.scale === 0
  if (wholeDigits[b] !== undefined)
    return (
      a in wholeDigits && (wholeDigits[a] ?? 0) < (wholeDigits[b] ?? 0) && (!b.startsWith('U') || a.startsWith('U'))
    )
  const [x, y] = [digitsOf(a), digitsOf(b)]
  if (x && y) return x.whole <= y.whole && x.scale <= y.scale
  return (a === 'DATE' && b === 'TIMESTAMP') || (a === 'FLOAT' && b === 'DOUBLE')
}
