import { AppError } from '../../shared/errors.ts'
import { findTable, type Table } from '../lake/catalog.ts'
import type { Connection } from '../lake/connection.ts'
import { literal, quoted } from '../lake/names.ts'

/** The table of this name. Throws NOT_FOUND, with one text for all that are not there. */
export async function needTable(connection: Connection, name: string): Promise<Table> {
  const table = await findTable(connection, name)
  if (!table) throw new AppError('NOT_FOUND', 'There is no such table.')
  return table
}

/** As `needTable`, for one that keeps versions. Throws SCHEMA_MISMATCH for another. */
export async function needVersions(connection: Connection, name: string): Promise<Table> {
  const table = await needTable(connection, name)
  if (table.kind === 'versioned') return table
  throw new AppError('SCHEMA_MISMATCH', 'This table keeps no versions.', {
    hint: 'Load it with mode: versioned to have its history.',
  })
}

/** SQL for the columns of the business as one value; `alias` stands before each, with its dot. */
export const valuesOf = ({ columns }: Table, alias = ''): string =>
  `{${columns.map(({ name }) => `${literal(name)}: ${alias}${quoted(name)}`).join(', ')}}`
