import { createReadStream, createWriteStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { Transform } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { AppError } from '../../shared/errors.ts'
import type { Connection } from '../lake/connection.ts'
import { scrubbed } from '../lake/error.ts'
import { fitRead, misfitColumns, misfitNames, rejectRead, type TargetColumn } from '../lake/fit-columns.ts'
import { literal, quoted } from '../lake/names.ts'
import { fileShift, keysFrom, type Staging } from '../lake/staging.ts'
import { readHeader } from './csv-header.ts'
import { locateCsv } from './csv-lines.ts'

/** How a CSV file is written. */
export type CsvOptions = {
  /** One byte. */
  delimiter: string
  quote: string
  header: boolean
  /** Texts that mean NULL when they stand without quotes. */
  nullValues: readonly string[]
  encoding: 'utf-8' | 'utf-16' | 'latin-1'
}

/** A file to read: where it is, and what it is called before the tenant. */
export type InputFile = { path: string; name: string }

const lineBytesMax = 16 << 20

/**
 * Reads CSV files into the temporary table `staged`, every column as text, under the names of the header. Nothing is
 * guessed: a row of another width, with a broken quote or bytes that are no text moves to `rejected`, and the rest is
 * kept letter by letter. Files of one step must have the same columns, in any order.
 * `names` gives the columns of files without a header. Where `typesOf` knows the types of all columns, the values get them
 * on the way, and rows that do not fit are rejected. Throws FILE_INVALID with the name of the file.
 */
export async function stageCsv(
  connection: Connection,
  files: readonly InputFile[],
  options: CsvOptions,
  place: {
    workDir: string
    names: readonly string[]
    signal: AbortSignal
    typesOf?(names: readonly string[]): readonly TargetColumn[] | undefined
    loaded(bytes: number): void
  },
): Promise<Staging> {
  let names: string[] = []
  let types: readonly TargetColumn[] | undefined
  // How many rows stood there before each file.
  const starts: number[] = []
  let rows = 0
  const readable: InputFile[] = []
  const headers: string[][] = []
  for (const [index, file] of files.entries()) {
    const bytes = (await stat(file.path)).size
    if (bytes === 0) throw new AppError('FILE_INVALID', `The file ${file.name} is empty: it has not even a header.`)
    const utf8 = await asUtf8(file, options.encoding, join(place.workDir, `utf8-${index}.csv`), place.signal)
    const header = options.header ? await readHeader(utf8, file.name, options) : [...place.names]
    if (index === 0) {
      names = header
      types = place.typesOf?.(names)
      const list = names.map((name) => `${quoted(name)} ${typeOf(types, name)}`)
      await connection.run(`CREATE OR REPLACE TEMP TABLE staged (${[...list, ...misfitColumns].join(', ')})`)
    } else checkSameColumns(names, header, file.name)
    starts.push(rows)
    rows += await stageFile(connection, { path: utf8, name: file.name }, index, header, types, options)
    readable.push({ path: utf8, name: file.name })
    headers.push(header)
    place.loaded(bytes)
  }
  const relation = `(SELECT ${names.map(quoted).join(', ')}, ${rowOf(starts)} AS __row FROM temp.staged)`
  if (types) await rejectRead(connection, types, rowOf(starts))
  return {
    columns: names.map((name) => ({ name, type: typeOf(types, name) })),
    untyped: types ? [] : names,
    relation,
    keep: '__row DESC',
    keysOfRejected: (keys) => [
      ...keysFrom(relation)(keys),
      ...headers.map((header, index) => keysOfBroken(keys, header, index, options)),
    ],
    files: files.map((file) => file.name),
    locate: async () => {
      for (const [index, file] of readable.entries())
        await locateCsv(connection, { ...options, path: file.path, file: index, columns: names.length, ...place })
    },
  }
}

const typeOf = (types: readonly TargetColumn[] | undefined, name: string): string =>
  types?.find((column) => column.name.toLowerCase() === name.toLowerCase())?.type ?? 'VARCHAR'

// Rows stand in the table as they stood in the files, one file after another, so their places tell their numbers.
function rowOf(starts: readonly number[]): string {
  const numbers = starts.map(
    (start, index) => `rowid + ${BigInt(index) * 2n ** BigInt(fileShift) - BigInt(start) + 1n}`,
  )
  const [only = 'rowid + 1', ...more] = numbers
  if (more.length === 0) return only
  const cases = numbers.slice(0, -1).map((number, index) => `WHEN rowid < ${starts[index + 1]} THEN ${number}`)
  return `CASE ${cases.join(' ')} ELSE ${numbers.at(-1)} END`
}

// Answers the number of rows.
async function stageFile(
  connection: Connection,
  file: InputFile,
  index: number,
  header: readonly string[],
  types: readonly TargetColumn[] | undefined,
  options: CsvOptions,
): Promise<number> {
  const columns = header.map(quoted).join(', ')
  const into = (source: string): string =>
    types
      ? `INSERT INTO staged (${columns}, ${misfitNames}) ${fitRead(header, types, source)}`
      : `INSERT INTO staged (${columns}) SELECT ${columns} FROM ${source}`
  // Several threads read a file whose rows are all sound, and the engine makes sure in the end that each began where the
  // one before had ended. With rejects it does not, and guesses where a row begins: then one thread reads all of it.
  try {
    return await connection.run(into(readOf(file, header, options)))
  } catch (error) {
    if (error instanceof AppError && error.code !== 'INTERNAL') throw error
  }
  let rows: number
  try {
    const rejects = `store_rejects = true, rejects_table = 'csv_errors', rejects_scan = 'csv_scans', rejects_limit = 0`
    // row_number() keeps the reader on one thread; what the engine has for that loses a quote that never closes.
    const read = `(FROM ${readOf(file, header, options, rejects)} QUALIFY row_number() OVER () > 0)`
    rows = await connection.run(into(read))
  } catch (error) {
    throw readError(error, file.name)
  }
  // One row may have several faults: the first is told.
  await connection.run(
    `INSERT INTO rejected SELECT ${index}, NULL, line_byte_position - 1, strlen(ltrim(csv_line, chr(10) || chr(13))), NULL, column_name,
       replace(error_type::VARCHAR, ' ', '_'), error_message, left(ltrim(csv_line, chr(10) || chr(13)), 8192)
     FROM csv_errors QUALIFY row_number() OVER (PARTITION BY line_byte_position ORDER BY byte_position, column_idx) = 1`,
  )
  await connection.run(`DROP TABLE csv_errors; DROP TABLE csv_scans`)
  return rows
}

function readOf(file: InputFile, header: readonly string[], options: CsvOptions, more?: string): string {
  const types = header.map((name) => `${literal(name)}: 'VARCHAR'`).join(', ')
  const nulls = options.nullValues.map(literal).join(', ')
  return `read_csv(${literal(file.path)}, columns = {${types}}, auto_detect = false, header = ${options.header},
    delim = ${literal(options.delimiter)}, quote = ${literal(options.quote)}, escape = ${literal(options.quote)},
    nullstr = [${nulls}], allow_quoted_nulls = false, null_padding = false, strict_mode = true,
    max_line_size = ${lineBytesMax}, buffer_size = ${2 * lineBytesMax}${more === undefined ? '' : `, ${more}`})`
}

// A row of another width has no columns, but its key mostly stands where it should: before the fault. What is found here
// only keeps records from being deleted, so a wrong guess does no harm.
function keysOfBroken(keys: readonly string[], header: readonly string[], index: number, options: CsvOptions): string {
  const parts = keys.map((key, at) => {
    const position = header.findIndex((name) => name.toLowerCase() === key.toLowerCase()) + 1
    return `trim(trim(str_split(raw, ${literal(options.delimiter)})[${position}]), ${literal(options.quote)}) AS k${at}`
  })
  return `SELECT ${parts.join(', ')} FROM rejected WHERE file = ${index} AND __row IS NULL`
}

function checkSameColumns(expected: readonly string[], header: readonly string[], name: string): void {
  const wanted = new Set(expected.map((column) => column.toLowerCase()))
  if (header.length !== wanted.size || !header.every((column) => wanted.has(column.toLowerCase())))
    throw new AppError(
      'SCHEMA_MISMATCH',
      `The file ${name} has other columns than the first one: ${header.join(', ')}.`,
    )
}

function readError(error: unknown, name: string): AppError {
  const cause = error instanceof AppError ? error.cause : error
  if (error instanceof AppError && error.code !== 'INTERNAL') return error
  if (/state machine reached an invalid state/.test(String(cause)))
    return new AppError('FILE_INVALID', `The file ${name} mixes line endings (LF and CR LF): use one of them.`, {
      cause,
    })
  return new AppError('FILE_INVALID', `The file ${name} cannot be read as CSV: ${scrubbed(cause).slice(0, 200)}`, {
    cause,
  })
}

// The engine reads UTF-8 in place; other encodings become UTF-8 once, so that byte places mean the same everywhere.
async function asUtf8(
  file: InputFile,
  encoding: CsvOptions['encoding'],
  into: string,
  signal: AbortSignal,
): Promise<string> {
  if (encoding === 'utf-8') return file.path
  const decoder = encoding === 'utf-16' ? new TextDecoder(await utf16Order(file.path), { fatal: true }) : undefined
  const decode = new Transform({
    transform(chunk: Buffer, _, done) {
      try {
        done(null, decoder ? decoder.decode(chunk, { stream: true }) : chunk.toString('latin1'))
      } catch {
        done(new AppError('FILE_INVALID', `The file ${file.name} is not ${encoding}.`))
      }
    },
    flush(done) {
      try {
        done(null, decoder?.decode() ?? '')
      } catch {
        done(new AppError('FILE_INVALID', `The file ${file.name} ends in the middle of a character.`))
      }
    },
  })
  await pipeline(createReadStream(file.path), decode, createWriteStream(into), { signal })
  return into
}

async function utf16Order(path: string): Promise<string> {
  for await (const chunk of createReadStream(path, { end: 1 }))
    if ((chunk as Buffer)[0] === 0xfe && (chunk as Buffer)[1] === 0xff) return 'utf-16be'
  return 'utf-16le'
}
