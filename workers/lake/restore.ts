import { AppError } from '../../shared/errors.ts'
import { asOf, type PointInTime } from './as-of.ts'
import { needTable, type Table } from './catalog.ts'
import type { Bindable, Connection } from './connection.ts'
import { loadVersioned } from './load-versioned.ts'
import { quoted, versionsOf } from './names.ts'
import type { Plan } from './plan.ts'
import type { Attempt, LoadCounts } from './receipt.ts'
import { openRejected } from './staging.ts'

/** What to bring back, and to when. */
export type Restore = {
  attempt: Attempt
  orgId: string
  actor: string
  table: string
  at: PointInTime
  /** Values of the business key, by column: only this record. Default: the whole table. */
  record?: Readonly<Record<string, Bindable>>
  plan?: Plan
}

/**
 * Brings a versioned table, or one record of it, back to a point in time: what has changed since gets one more version
 * that is as it was then, what has come since gets a tombstone. It is a load like any other, so no version goes away and a
 * restore can be restored. Columns that are younger than that point become NULL.
 * Throws TABLE_MISSING, SCHEMA_MISMATCH for a table without versions, KEY_INVALID, and NOT_FOUND for a record that the
 * table has never had.
 */
export async function restore(connection: Connection, wanted: Restore): Promise<LoadCounts> {
  const table = await needTable(connection, wanted.table)
  if (table.kind !== 'versioned')
    throw new AppError('SCHEMA_MISMATCH', `The table ${table.name} keeps no versions: there is nothing to go back to.`)
  const columns = table.columns.map(({ name }) => name)
  const past = asOf(table.name, columns, wanted.at)
  const key = wanted.record && (await findKey(connection, table, wanted.record))
  // A copy: the table changes while the load reads what it was.
  await connection.run(
    `CREATE OR REPLACE TEMP TABLE restoring AS SELECT * FROM ${past}
     ${key === undefined ? '' : `WHERE __row IN (SELECT rowid FROM ${versionsOf(table.name)} WHERE composite_key = $1)`}`,
    key === undefined ? [] : [key],
  )
  await openRejected(connection)
  return await loadVersioned(connection, {
    attempt: wanted.attempt,
    orgId: wanted.orgId,
    actor: wanted.actor,
    table: table.name,
    businessKey: [],
    snapshot: 'full',
    ...(key === undefined ? {} : { onlyKey: key }),
    ...(wanted.plan ? { plan: wanted.plan } : {}),
    seen: table.columns,
    source: {
      columns: table.columns,
      untyped: [],
      relation: `(SELECT s.* FROM temp.restoring s ANTI JOIN rejected r ON s.__row = r.__row)`,
      keep: '__row DESC',
      files: [],
      keysOfRejected: () => [],
      locate: async () => {},
    },
  })
}

/**
 * The composite key of a record by the values of its business key, for it stays when the type of a column is widened.
 * Throws KEY_INVALID, and NOT_FOUND for a record that never was.
 */
export async function findKey(
  connection: Connection,
  table: Table,
  record: Readonly<Record<string, Bindable>>,
): Promise<string> {
  const given = new Map(Object.entries(record).map(([name, value]) => [name.toLowerCase(), value]))
  const keys = table.businessKey.map((name) => {
    const column = table.columns.find((column) => column.name.toLowerCase() === name.toLowerCase())
    const value = given.get(name.toLowerCase())
    if (!column || value === undefined || value === null || given.size !== table.businessKey.length)
      throw new AppError('KEY_INVALID', `A record of ${table.name} is named by ${table.businessKey.join(', ')}.`)
    return { ...column, value: String(value) }
  })
  const where = keys.map(({ name, type }, index) => `${quoted(name)} = TRY_CAST($${index + 1} AS ${type})`)
  const values = keys.map(({ value }) => value)
  const [found] = await connection.rows(
    `SELECT composite_key AS k FROM ${versionsOf(table.name)}
     WHERE ${where.join(' AND ')} ORDER BY version DESC LIMIT 1`,
    values,
  )
  if (!found) throw new AppError('NOT_FOUND', `The table ${table.name} has never had this record.`)
  return String(found['k'])
}
