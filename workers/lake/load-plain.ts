import { AppError } from '../../shared/errors.ts'
import type { Column } from '../define.ts'
import { findTable, register, type Table } from './catalog.ts'
import type { Connection } from './connection.ts'
import { sameType } from './fit-columns.ts'
import { plainOf, quoted } from './names.ts'
import { measured } from './quality-metrics.ts'
import { type Attempt, type LoadCounts, loadOnce } from './receipt.ts'
import { quarantine, type Staging } from './staging.ts'
import type { Stream } from './stream.ts'

/** A load into a table without versions. */
export type PlainLoad = {
  attempt: Attempt
  table: string
  /** `append` adds to what is there (columns must be the same), `replace` puts the new rows in its place. */
  mode: 'append' | 'replace'
  source: Staging | Stream
}

/**
 * Loads rows into a plain table, which has the columns of the source and no others, in one transaction with its receipt.
 * Throws SCHEMA_MISMATCH when the table is a versioned one, or when appended rows have other columns.
 */
export async function loadPlain(connection: Connection, load: PlainLoad): Promise<LoadCounts> {
  return await loadOnce(connection, load.attempt, load.table, async () => {
    await preparePlain(connection, load.table, load.mode, load.source.columns)
    const names = load.source.columns.map((column) => quoted(column.name)).join(', ')
    const insert = (relation: string): string =>
      `INSERT INTO ${plainOf(load.table)} (${names}) SELECT ${names} FROM ${relation}`
    let inserted = 0
    let rejected = 0
    if ('relation' in load.source) {
      inserted = await connection.run(insert(load.source.relation))
      rejected = await quarantine(connection, load.attempt, load.table, load.source)
    } else
      for await (const batch of load.source.batches) {
        const rows = await connection.run(insert(batch.relation))
        inserted += rows
        await batch.loaded(rows)
      }
    const counts = { rowsIn: inserted + rejected, rejected, inserted, updated: 0, deleted: 0, unchanged: 0 }
    return await measured(connection, load.attempt, load.table, counts)
  })
}

/** Makes the plain table as the mode wants it; inside a transaction. */
export async function preparePlain(
  connection: Connection,
  name: string,
  mode: PlainLoad['mode'],
  columns: readonly Column[],
): Promise<void> {
  const found = await findPlain(connection, name)
  if (found && mode === 'append') {
    const given = new Map(columns.map((column) => [column.name.toLowerCase(), column.type]))
    const isSame =
      given.size === found.columns.length &&
      found.columns.every((column) => sameType(given.get(column.name.toLowerCase()) ?? '', column.type))
    if (isSame) return
    throw new AppError(
      'SCHEMA_MISMATCH',
      `The table ${name} has the columns ${found.columns.map((column) => `${column.name} ${column.type}`).join(', ')}.`,
    )
  }
  const list = columns.map((column) => `${quoted(column.name)} ${column.type}`).join(', ')
  await connection.run(`CREATE OR REPLACE TABLE ${plainOf(name)} (${list})`)
  await register(connection, name, 'plain', [])
}

/** The plain table of this name, or undefined. Throws SCHEMA_MISMATCH when the name is a versioned table's. */
export async function findPlain(connection: Connection, name: string): Promise<Table | undefined> {
  const found = await findTable(connection, name)
  if (found?.kind !== 'versioned') return found
  throw new AppError('SCHEMA_MISMATCH', `The table ${name} keeps versions: only mode versioned can write it.`)
}
