import type { Column } from '../define.ts'
import { AppError } from '../../shared/errors.ts'
import type { Connection } from '../lake/connection.ts'
import { scrubbed } from '../lake/error.ts'
import { literal, quoted } from '../lake/names.ts'
import { fileShift, keysFrom, type Staging } from '../lake/staging.ts'
import { checkNames } from './csv-header.ts'
import type { InputFile } from './csv.ts'

/**
 * Parquet files as they are: their types hold, nothing is copied, and the relation reads them again each time. The line
 * of a rejected row is its number in the file, from 1. Files of one step must have the same columns.
 * Throws FILE_INVALID for a file that is no Parquet, SCHEMA_MISMATCH when columns differ.
 */
export async function stageParquet(connection: Connection, files: readonly InputFile[]): Promise<Staging> {
  let columns: Column[] = []
  for (const [index, file] of files.entries()) {
    const found = await describe(connection, file)
    checkNames(
      found.map((column) => column.name),
      file.name,
    )
    if (index === 0) columns = found
    else if (form(found) !== form(columns))
      throw new AppError('SCHEMA_MISMATCH', `The file ${file.name} has other columns than the first one.`)
  }
  const list = columns.map(({ name }) => quoted(name)).join(', ')
  const parts = files.map(
    (file, index) =>
      `SELECT ${list}, (${index}::BIGINT << ${fileShift}) + file_row_number + 1 AS __row
       FROM read_parquet(${literal(file.path)}, file_row_number = true)`,
  )
  const relation = `(${parts.join(' UNION ALL ')})`
  return {
    columns,
    untyped: [],
    relation,
    keep: '__row DESC',
    keysOfRejected: keysFrom(relation),
    files: files.map((file) => file.name),
    locate: async () => {
      await connection.run(`UPDATE rejected SET line = __row - (file::BIGINT << ${fileShift}) WHERE line IS NULL`)
    },
  }
}

async function describe(connection: Connection, file: InputFile): Promise<Column[]> {
  try {
    const { columns } = await connection.prepare(`SELECT * FROM read_parquet(${literal(file.path)})`)
    // An ENUM of the file would be a type of its own in each file.
    return columns.map(({ name, type }) => ({ name, type: type.startsWith('ENUM') ? 'VARCHAR' : type }))
  } catch (error) {
    throw new AppError(
      'FILE_INVALID',
      `The file ${file.name} cannot be read as Parquet: ${scrubbed(error).slice(0, 200)}`,
      {
        cause: error,
      },
    )
  }
}

const form = (columns: readonly Column[]): string =>
  columns
    .map(({ name, type }) => `${name.toLowerCase()} ${type}`)
    .sort()
    .join('\n')
