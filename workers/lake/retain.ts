import { AppError } from '../../shared/errors.ts'
import type { Table } from './catalog.ts'
import { keyColumn } from './choose-key.ts'
import type { Connection } from './connection.ts'
import { contentOf, type Plan } from './plan.ts'
import { plainOf, quoted, versionsOf } from './names.ts'
import { refuseHeld } from './policy.ts'
import { type Attempt, type LoadCounts, loadOnce, type RowCounts } from './receipt.ts'

/** What is kept of a table. Days count back from the moment of the step. */
export type Retention = {
  /** Of a versioned table: so many versions of each record, the newest ones. */
  keepVersions?: number | undefined
  /** Versions that were replaced longer ago go; of a plain table, rows whose `ageColumn` is older. */
  maxAgeDays?: number | undefined
  ageColumn?: string | undefined
  /** Records that were deleted longer ago go with all their versions. */
  forgetDeletedDays?: number | undefined
}

/**
 * Deletes what a retention does not keep, once per step, in one transaction with its receipt and a row in
 * `x_meta_retention`; it waits for loads of the table, and they for it. The current version of a record always stays, be it
 * a tombstone, unless the whole record is forgotten; what stays of a record has no gaps.
 * Throws CONFLICT for a table under a legal hold, CONFIG_INVALID for a retention that does not fit the kind of table.
 */
export async function retain(
  connection: Connection,
  attempt: Attempt,
  table: Table,
  retention: Retention,
  plan?: Plan,
): Promise<LoadCounts> {
  const doomed = doomedOf(table, retention)
  return await loadOnce(
    connection,
    attempt,
    table.name,
    async (current) => {
      await refuseHeld(connection, table.name)
      const relation = table.kind === 'versioned' ? versionsOf(table.name) : plainOf(table.name)
      await connection.run(`CREATE OR REPLACE TEMP TABLE doomed AS ${doomed}`)
      const columns = [{ name: '__row', type: 'BIGINT' }]
      if (plan) current.content = await contentOf(connection, 'temp.doomed', columns)
      const [found] = await connection.rows(
        `SELECT count(*) FILTER (NOT __whole)::BIGINT AS versions, count(DISTINCT __key) FILTER (__whole)::BIGINT AS records
         FROM temp.doomed`,
      )
      const deleted = await connection.run(`DELETE FROM ${relation} WHERE rowid IN (SELECT __row FROM temp.doomed)`)
      const isVersioned = table.kind === 'versioned'
      await connection.run(
        `INSERT INTO lake.raw.x_meta_retention VALUES ($1, $2, $3, $4::BIGINT, $5::BIGINT, $6::BIGINT, $7, $8::TIMESTAMPTZ)`,
        [
          attempt.runId,
          attempt.stepKey,
          table.name,
          isVersioned ? deleted : 0,
          Number(found?.['records']),
          isVersioned ? 0 : deleted,
          JSON.stringify(retention),
          current.moment,
        ],
      )
      await connection.run(`DROP TABLE temp.doomed`)
      return nothingLoaded(deleted)
    },
    plan,
  )
}

const nothingLoaded = (deleted: number): RowCounts => ({
  rowsIn: 0,
  rejected: 0,
  inserted: 0,
  updated: 0,
  deleted,
  unchanged: 0,
})

// SQL for the rows that go: `__row`, `__key`, and whether the whole record goes.
function doomedOf(table: Table, retention: Retention): string {
  if (table.kind === 'versioned') return doomedVersions(table, retention)
  const { keepVersions, maxAgeDays, ageColumn, forgetDeletedDays } = retention
  if (table.kind === 'view' || keepVersions !== undefined || forgetDeletedDays !== undefined)
    throw new AppError('CONFIG_INVALID', `The table ${table.name} keeps no versions: only rows by age can go.`)
  if (maxAgeDays === undefined || ageColumn === undefined)
    throw new AppError('CONFIG_INVALID', `Rows of ${table.name} need max_age_days and age_column.`)
  const column = keyColumn(ageColumn, table.columns)
  if (!/^(DATE|TIMESTAMP)/.test(column.type))
    throw new AppError('CONFIG_INVALID', `The column ${column.name} is ${column.type}, not a date or a moment.`)
  return `SELECT rowid AS __row, NULL::VARCHAR AS __key, false AS __whole FROM ${plainOf(table.name)}
    WHERE ${quoted(column.name)}::TIMESTAMPTZ < ${ago(maxAgeDays)}`
}

function doomedVersions(table: Table, { keepVersions, maxAgeDays, forgetDeletedDays }: Retention): string {
  // Ranked within its own record and never by key alone, from the newest: the first is the current one. A version is as old
  // as the moment when the next one took its place, so that what goes is always the oldest of a record, without gaps.
  const goes = [
    ...(keepVersions === undefined ? [] : [`__rank > ${keepVersions}`]),
    ...(maxAgeDays === undefined ? [] : [`__replaced < ${ago(maxAgeDays)}`]),
  ]
  const whole = forgetDeletedDays === undefined ? 'false' : `(__is_gone AND __newest < ${ago(forgetDeletedDays)})`
  return `SELECT __row, __key, ${whole} AS __whole FROM (
      SELECT rowid AS __row, composite_key AS __key, is_current, row_number() OVER newest AS __rank,
        lag(last_modified) OVER newest AS __replaced, first_value(is_deleted) OVER newest AS __is_gone,
        first_value(last_modified) OVER newest AS __newest
      FROM ${versionsOf(table.name)} WINDOW newest AS (PARTITION BY org_id, composite_key ORDER BY version DESC))
    WHERE ${whole} OR (__rank > 1 AND NOT is_current AND (${goes.length > 0 ? goes.join(' OR ') : 'false'}))`
}

const ago = (days: number): string => `now() - to_days(${days})`
