import type { Column } from '../define.ts'
import type { Connection } from '../lake/connection.ts'
import { fits } from '../lake/fit-columns.ts'
import { quoted } from '../lake/names.ts'

const number = '-?(0|[1-9][0-9]*)(\\.[0-9]+)?'

// In the order of preference. Each is true only for texts that the type keeps: "00501" is no number here, "1e5" no BIGINT.
const candidates: Record<string, (value: string) => string> = {
  BOOLEAN: (value) => `${value} IN ('true', 'false')`,
  BIGINT: (value) => `TRY_CAST(${value} AS BIGINT)::VARCHAR = ${value}`,
  DOUBLE: (value) =>
    `(regexp_full_match(${value}, '${number}([eE][+-]?[0-9]+)?') AND isfinite(TRY_CAST(${value} AS DOUBLE)) AND ${fits('DOUBLE', value)})`,
  DECIMAL: (value) => `regexp_full_match(${value}, '${number}')`,
  DATE: (value) => `(strlen(${value}) = 10 AND TRY_CAST(${value} AS DATE)::VARCHAR = ${value})`,
  TIMESTAMP: (value) => `(strlen(${value}) > 10 AND ${fits('TIMESTAMP', value)})`,
  TIMESTAMPTZ: (value) => `(strlen(${value}) > 10 AND ${fits('TIMESTAMPTZ', value)})`,
}

// Rows that first rule most candidates out, so that the pass over all rows tests each column for one or two types only.
const firstRows = 20_000

/**
 * The types of text columns, decided by every row of `relation`: BIGINT, DOUBLE (no digit lost), else DECIMAL(38, s),
 * DATE, TIMESTAMP or TIMESTAMPTZ in ISO form, BOOLEAN for `true` and `false`. Anything else, and a column without a
 * value, stays VARCHAR.
 */
export async function inferTypes(
  connection: Connection,
  relation: string,
  columns: readonly string[],
): Promise<Column[]> {
  const all = Object.keys(candidates)
  const open = columns.map((name) => ({ name, types: all }))
  const first = await surviving(connection, `(SELECT * FROM ${relation} LIMIT ${firstRows})`, open)
  const rest = await surviving(connection, relation, first)
  const columnsDecided: Column[] = []
  for (const column of rest) columnsDecided.push(await decide(connection, relation, column))
  return columnsDecided
}

type Open = { name: string; types: string[] }

async function surviving(connection: Connection, relation: string, open: readonly Open[]): Promise<Open[]> {
  const tests = open.flatMap(({ name, types }, column) => [
    `count(${quoted(name)}) AS n${column}`,
    ...types.map(
      (type, index) =>
        // A test that is NULL would be passed over by bool_and.
        `bool_and(coalesce(${candidates[type]?.(quoted(name))}, false)) FILTER (${quoted(name)} IS NOT NULL) AS t${column}_${index}`,
    ),
  ])
  if (tests.length === 0) return []
  const [row] = await connection.rows(`SELECT ${tests.join(', ')} FROM ${relation}`)
  return open.map(({ name, types }, column) => ({
    name,
    types:
      Number(row?.[`n${column}`]) === 0 ? types : types.filter((_, index) => row?.[`t${column}_${index}`] === true),
  }))
}

async function decide(connection: Connection, relation: string, column: Open): Promise<Column> {
  const all = Object.keys(candidates)
  // No candidate was ruled out: there was no value at all.
  if (column.types.length === all.length) return { name: column.name, type: 'VARCHAR' }
  const type = column.types[0]
  if (type === undefined) return { name: column.name, type: 'VARCHAR' }
  if (type !== 'DECIMAL') return { name: column.name, type }
  const value = quoted(column.name)
  const [size] = await connection.rows(
    `SELECT max(strlen(ltrim(split_part(${value}, '.', 1), '-'))) AS whole, max(strlen(split_part(${value}, '.', 2))) AS scale
     FROM ${relation}`,
  )
  const whole = Number(size?.['whole'])
  const scale = Number(size?.['scale'])
  return { name: column.name, type: whole + scale <= 38 ? `DECIMAL(38,${scale})` : 'VARCHAR' }
}
