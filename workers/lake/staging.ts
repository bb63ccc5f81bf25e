import type { Column } from '../define.ts'
import type { Connection } from './connection.ts'
import { literal, quoted } from './names.ts'
import type { Attempt } from './receipt.ts'

/**
 * Rows that were read into a temporary table of a connection and are not yet in a table of the lake.
 * `relation` is SQL for them: `columns` and `__row`, a unique BIGINT that grows with the place in the source; its upper
 * bits (`>> 40`) are the number of the file. Rows that are no good stand in `rejected` of the same connection.
 */
export type Staging = {
  columns: Column[]
  /** Text columns whose type the values may decide; the text of the others is a text in the source. */
  untyped: string[]
  relation: string
  /** ORDER BY terms over `columns` and `__row`; of rows with the same key the first by them is kept. */
  keep: string
  /** Columns of which no two rows have the same values, as far as those are there and as it was found out already. */
  distinct?: readonly (readonly string[])[]
  /** Tenant-relative names of the files, by number; empty when the source has none. */
  files: string[]
  /**
   * SQL for the keys of rejected rows, as texts, as far as they can be read: one SELECT for each place to look. A record
   * whose new row was refused is not one that the source no longer has.
   */
  keysOfRejected(keys: readonly string[]): string[]
  /** Gives every row of `rejected` its line, as far as the format has lines. Called once, and only when there are any. */
  locate(): Promise<void>
}

/** The keys of rejected rows that were staged before they were found to be no good; `relation` still has them. */
export const keysFrom =
  (relation: string): Staging['keysOfRejected'] =>
  (keys) => [
    `SELECT ${keys.map((key, index) => `s.${quoted(key)}::VARCHAR AS k${index}`).join(', ')}
     FROM ${relation} s SEMI JOIN rejected r ON s.__row = r.__row`,
  ]

/** Rows of one file are numbered from 1 above this shift. */
export const fileShift = 40

/**
 * Makes the empty tables where a load collects what does not get in: `rejected` for rows, `discarded` for single values
 * whose row does.
 */
export async function openRejected(connection: Connection): Promise<void> {
  for (const name of ['rejected', 'discarded'])
    await connection.run(
      `CREATE OR REPLACE TEMP TABLE ${name} (file INTEGER, __row BIGINT, byte_start BIGINT, byte_length BIGINT,
         line BIGINT, column_name VARCHAR, code VARCHAR, reason VARCHAR, raw VARCHAR)`,
    )
}

/** How many rows were rejected so far. */
export async function countRejected(connection: Connection): Promise<number> {
  const [row] = await connection.rows(`SELECT count(*)::INTEGER AS n FROM rejected`)
  return Number(row?.['n'])
}

/** SQL for a row of the staging as JSON text. Nothing of it is cut: the row can be loaded from it again. */
export const rawText = (columns: readonly Column[], alias = ''): string =>
  `to_json(struct_pack(${columns
    .map(({ name }) => `${quoted(name)} := ${alias}${quoted(name)}::VARCHAR`)
    .join(', ')}))::VARCHAR`

/** SQL for the name of the file that a row came from. */
export const fileOf = (files: readonly string[], row: string): string =>
  files.length === 0
    ? 'NULL::VARCHAR'
    : files.length === 1
      ? literal(files[0] ?? '')
      : `[${files.map(literal).join(', ')}][(${row} >> ${fileShift}) + 1]`

/**
 * Moves what was rejected or discarded into `x_meta_rejected_rows`, with lines, and gives the numbers of rows and values.
 * The last thing that a load does with its staging.
 */
export async function quarantine(
  connection: Connection,
  attempt: Attempt,
  table: string,
  staging: Pick<Staging, 'files' | 'locate'>,
): Promise<{ rejected: number; discarded: number }> {
  const rejected = await countRejected(connection)
  // A value whose row was rejected after all went with it.
  const discarded = await connection.run(
    `INSERT INTO rejected SELECT * FROM discarded d WHERE NOT EXISTS (SELECT 1 FROM rejected r WHERE r.__row = d.__row)`,
  )
  if (rejected + discarded === 0) return { rejected, discarded }
  await staging.locate()
  const names = staging.files.length > 0 ? `[${staging.files.map(literal).join(', ')}][file + 1]` : 'NULL'
  await connection.run(
    `INSERT INTO lake.raw.x_meta_rejected_rows (run_id, step_key, table_name, source_file, line, column_name, code, reason,
       raw, rejected_at, rejected_id, status, attempts)
     SELECT $1, $2, $3, ${names}, line, column_name, code, reason, raw, now(), uuid()::VARCHAR,
       CASE WHEN EXISTS (SELECT 1 FROM discarded d WHERE d.__row = rejected.__row AND d.code = rejected.code
         AND d.column_name = rejected.column_name) THEN 'value' ELSE 'quarantined' END, 0 FROM rejected`,
    [attempt.runId, attempt.stepKey, table],
  )
  return { rejected, discarded }
}

/** The same rows under other column names. `renames` maps old names to new ones, in whatever case. */
export function renameColumns(staging: Staging, renames: Readonly<Record<string, string>>): Staging {
  const wanted = new Map(Object.entries(renames).map(([from, to]) => [from.toLowerCase(), to]))
  if (wanted.size === 0) return staging
  const renamed = (name: string): string => wanted.get(name.toLowerCase()) ?? name
  const original = new Map(staging.columns.map(({ name }) => [renamed(name).toLowerCase(), name]))
  const list = staging.columns.map(({ name }) => `${quoted(name)} AS ${quoted(renamed(name))}`)
  return {
    ...staging,
    columns: staging.columns.map(({ name, type }) => ({ name: renamed(name), type })),
    untyped: staging.untyped.map(renamed),
    keysOfRejected: (keys) => staging.keysOfRejected(keys.map((key) => original.get(key.toLowerCase()) ?? key)),
    relation: `(SELECT ${list.join(', ')}, __row FROM ${staging.relation})`,
  }
}
