import { stat } from 'node:fs/promises'
import { AppError } from '../../shared/errors.ts'
import type { Column } from '../define.ts'
import type { Connection } from '../lake/connection.ts'
import { scrubbed } from '../lake/error.ts'
import { literal, quoted } from '../lake/names.ts'
import { fileShift, keysFrom, type Staging } from '../lake/staging.ts'
import { checkNames } from './csv-header.ts'
import type { InputFile } from './csv.ts'

const lineBytesMax = 16 << 20
const keysMax = 2000

/**
 * Reads JSON objects into the temporary table `staged`, one column for each key that any of them has. Strings stay text,
 * numbers and booleans get the type that holds all of them, objects and arrays are kept as JSON, a missing key is NULL.
 * `ndjson`: one object a line; a line that is none moves to `rejected` under its number, and blank lines are passed over.
 * `json`: one array, whose elements have no lines. Throws FILE_INVALID with the name of the file.
 */
export async function stageJson(
  connection: Connection,
  files: readonly InputFile[],
  format: 'json' | 'ndjson',
  loaded: (bytes: number) => void,
): Promise<Staging> {
  await connection.run(`CREATE OR REPLACE TEMP TABLE objects (object VARCHAR, __row BIGINT)`)
  for (const [index, file] of files.entries()) {
    const bytes = (await stat(file.path)).size
    if (bytes === 0) throw new AppError('FILE_INVALID', `The file ${file.name} is empty.`)
    const read = format === 'ndjson' ? readLines(file.path) : readArray(file.path)
    try {
      // row_number() keeps the reader on one thread and so in the order of the file.
      await connection.run(
        `INSERT INTO objects SELECT object, (${index}::BIGINT << ${fileShift}) + row_number() OVER () FROM ${read}`,
      )
    } catch (error) {
      if (error instanceof AppError && error.code !== 'INTERNAL') throw error
      const cause = error instanceof AppError ? error.cause : error
      throw new AppError(
        'FILE_INVALID',
        `The file ${file.name} cannot be read as ${format}: ${scrubbed(cause).slice(0, 200)}`,
        {
          cause,
        },
      )
    }
    loaded(bytes)
  }
  await rejectObjects(connection, format)
  const columns = await findColumns(connection, files[0]?.name ?? '')
  const shape = JSON.stringify(Object.fromEntries(columns.map(({ name }) => [name, 'VARCHAR'])))
  const fields = columns.map(
    ({ name, type }) => `(fields[${literal(name)}])${type === 'JSON' ? '::JSON' : ''} AS ${quoted(name)}`,
  )
  await connection.run(
    `CREATE OR REPLACE TEMP TABLE staged AS SELECT ${fields.join(', ')}, __row
     FROM (SELECT json_transform(object, ${literal(shape)}) AS fields, __row FROM objects)`,
  )
  await connection.run(`DROP TABLE objects`)
  return {
    columns: columns.map(({ name, type }) => ({ name, type: type === 'JSON' ? 'JSON' : 'VARCHAR' })),
    untyped: columns.filter(({ type }) => type === 'number').map(({ name }) => name),
    relation: 'temp.staged',
    keep: '__row DESC',
    keysOfRejected: keysFrom('temp.staged'),
    files: files.map((file) => file.name),
    locate: async () => {
      if (format === 'ndjson')
        await connection.run(`UPDATE rejected SET line = __row - (file::BIGINT << ${fileShift}) WHERE line IS NULL`)
    },
  }
}

// A line is a row of one column: no byte that JSON allows is a delimiter or a quote here.
const readLines = (path: string): string =>
  `read_csv(${literal(path)}, columns = {'object': 'VARCHAR'}, auto_detect = false, header = false, delim = '\u0001',
     quote = '', escape = '', nullstr = '', max_line_size = ${lineBytesMax}, buffer_size = ${2 * lineBytesMax})`

const readArray = (path: string): string =>
  `(SELECT json::VARCHAR AS object FROM read_json_objects(${literal(path)}, format = 'array', maximum_object_size = ${lineBytesMax}))`

// Outside of strings: a decimal number with more digits than a DOUBLE keeps, which the JSON reader would cut.
const withoutStrings = `regexp_replace(object, '"(?:[^"\\\\]|\\\\.)*"', '', 'g')`
const longNumber = `regexp_matches(object, '[0-9.]{18,}') AND len(list_filter(regexp_extract_all(${withoutStrings},
  '[0-9]+\\.[0-9]+'), lambda n: length(rtrim(ltrim(replace(n, '.', ''), '0'), '0')) > 15
  AND rtrim(ltrim(replace(n, '.', ''), '0'), '0') <> rtrim(ltrim(replace(regexp_extract(n::DOUBLE::VARCHAR, '^[^e]*'), '.', ''), '0'), '0'))) > 0`

async function rejectObjects(connection: Connection, format: 'json' | 'ndjson'): Promise<void> {
  const fault = `CASE WHEN NOT json_valid(object) THEN 'JSON_INVALID' WHEN json_type(object) <> 'OBJECT' THEN 'JSON_NO_OBJECT'
    WHEN ${longNumber} THEN 'NUMBER_TOO_LONG' END`
  await connection.run(
    `INSERT INTO rejected
     SELECT __row >> ${fileShift}, __row, NULL, NULL, NULL, NULL, fault, CASE fault
       WHEN 'JSON_INVALID' THEN 'the line is no valid JSON'
       WHEN 'JSON_NO_OBJECT' THEN 'the ${format === 'json' ? 'element' : 'line'} is no JSON object'
       ELSE 'it holds a number with more digits than can be kept: write it as a string' END, left(object, 8192)
     FROM (SELECT object, __row, ${fault} AS fault FROM objects WHERE object IS NOT NULL) WHERE fault IS NOT NULL`,
  )
  await connection.run(`DELETE FROM objects WHERE object IS NULL OR __row IN (SELECT __row FROM rejected)`)
}

async function findColumns(connection: Connection, file: string): Promise<Column[]> {
  const found = await connection.rows(
    `SELECT key AS name, bool_and(type IN ('UBIGINT', 'BIGINT', 'HUGEINT', 'DOUBLE')) FILTER (type <> 'NULL')
         OR bool_and(type = 'BOOLEAN') FILTER (type <> 'NULL') AS number,
       bool_and(type IN ('OBJECT', 'ARRAY')) FILTER (type <> 'NULL') AS nested
     FROM (SELECT key, type, __row, position FROM (
       SELECT unnest(json_keys(object)) AS key, generate_subscripts(json_keys(object), 1) AS position, object, __row FROM objects),
       LATERAL (SELECT json_type(object, '$."' || replace(key, '"', '\\"') || '"') AS type))
     GROUP BY key ORDER BY min(__row), min(position) LIMIT ${keysMax + 1}`,
  )
  if (found.length > keysMax)
    throw new AppError('FILE_INVALID', `The objects of ${file} have more than ${keysMax} keys.`)
  const columns = found.map((row) => ({
    name: String(row['name']),
    type: row['number'] === true ? 'number' : row['nested'] === true ? 'JSON' : 'VARCHAR',
  }))
  checkNames(
    columns.map((column) => column.name),
    file,
  )
  return columns
}
