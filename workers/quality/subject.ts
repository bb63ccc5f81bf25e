import { AppError } from '../../shared/errors.ts'
import type { Column } from '../define.ts'
import type { Table } from '../lake/catalog.ts'
import type { Connection } from '../lake/connection.ts'
import { plainOf, quoted, versionsOf } from '../lake/names.ts'

/** What is judged: `relation` is SQL for its rows, with `columns` and `__row`, which is unique. */
export type Subject = { table: string; columns: readonly Column[]; relation: string; rowsEstimated: number }

/**
 * The current rows of a table as something to be judged. Those of a view are copied into the temporary table `viewed`:
 * they have no place of their own, and could be others at a second look.
 */
export async function subjectOf(connection: Connection, table: Table): Promise<Subject> {
  if (table.kind === 'view')
    await connection.run(`CREATE OR REPLACE TEMP TABLE viewed AS SELECT * FROM ${plainOf(table.name)}`)
  const from = table.kind === 'view' ? 'temp.viewed' : rowsOf(table)
  return {
    table: table.name,
    columns: table.columns,
    relation: `(SELECT *, rowid AS __row FROM ${from})`,
    rowsEstimated: 0,
  }
}

/** What stands after FROM for the current rows of a table. */
export const rowsOf = (table: Table): string =>
  table.kind === 'versioned' ? `${versionsOf(table.name)} WHERE is_current AND NOT is_deleted` : plainOf(table.name)

/** A column of what is judged, by its name in any case. Throws CONFIG_INVALID when it is not there. */
export function find(
  subject: Pick<Subject, 'table' | 'columns'>,
  name: string,
): { name: string; sql: string; type: string } {
  const column = subject.columns.find((column) => column.name.toLowerCase() === name.toLowerCase())
  if (!column) throw new AppError('CONFIG_INVALID', `The table ${subject.table} has no column ${JSON.stringify(name)}.`)
  return { name: column.name, sql: quoted(column.name), type: column.type }
}

const numeric = /^(U?(TINY|SMALL|BIG|HUGE)INT|U?INTEGER|DECIMAL|DOUBLE|FLOAT)/

/** True for types whose values are numbers. */
export const isNumeric = (type: string): boolean => numeric.test(type)
