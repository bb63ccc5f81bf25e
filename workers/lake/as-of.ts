import type { Connection } from './connection.ts'
import { literal, quoted, versionsOf } from './names.ts'

/** A point in the past of a table: a moment (ISO 8601), or the end of a load by its number. */
export type PointInTime = { moment: string } | { load: number }

/**
 * SQL in brackets for the rows of a versioned table as they were at a point in time: `columns` and `place`, the row number
 * of the version. A load counts at the moment that stands in `last_modified` of its rows, and all of it at once.
 */
export function asOf(table: string, columns: readonly string[], at: PointInTime, place = '__row'): string {
  const until =
    'moment' in at ? `last_modified <= ${literal(at.moment)}::TIMESTAMPTZ` : `coalesce(load_number, 0) <= ${at.load}`
  return past(table, [...columns.map(quoted), `__place AS ${quoted(place)}`], until)
}

/** The macros by which SQL of a tenant sees the past of a table: their names, by what they take. */
export const asOfNames = (table: string): { moment: string; load: string } => ({
  moment: `${table}_as_of`,
  load: `${table}_as_of_load`,
})

/** Makes `<table>_as_of(moment)` and `<table>_as_of_load(number)`, with the columns of the business. */
export async function createAsOf(connection: Connection, table: string, columns: readonly string[]): Promise<void> {
  const names = asOfNames(table)
  const list = columns.map(quoted)
  // The names of parameters are such that no column is likely to have one.
  const macros = [
    [names.moment, past(table, list, `last_modified <= __moment::TIMESTAMPTZ`)],
    [names.load, past(table, list, `coalesce(load_number, 0) <= __load::BIGINT`)],
  ]
  for (const [name = '', body] of macros)
    await connection.run(
      `CREATE OR REPLACE MACRO lake.main.${quoted(name)}(${name === names.load ? '__load' : '__moment'}) AS TABLE SELECT * FROM ${body}`,
    )
}

const past = (table: string, list: readonly string[], until: string): string =>
  `(SELECT ${list.join(', ')} FROM (
     SELECT *, rowid AS __place FROM ${versionsOf(table)} WHERE ${until}
     QUALIFY row_number() OVER (PARTITION BY composite_key ORDER BY version DESC) = 1) WHERE NOT is_deleted)`
