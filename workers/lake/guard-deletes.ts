import { AppError } from '../../shared/errors.ts'
import type { Connection } from './connection.ts'
import { versionsOf } from './names.ts'

const rowsMin = 20

/**
 * Refuses a full snapshot that would delete more than the share `limit` of the rows that it could, counted in `differing`:
 * more likely the source is broken than the rows are gone. A table of less than 20 rows is only guarded against a source
 * without rows. Throws QUALITY_BLOCKED.
 */
export async function guardDeletes(
  connection: Connection,
  table: string,
  deletable: string,
  staged: string,
  limit: number,
): Promise<void> {
  if (limit >= 1) return
  const [found] = await connection.rows(`SELECT count(*)::BIGINT AS n FROM differing WHERE __change = 'DELETE'`)
  const deleted = Number(found?.['n'])
  if (deleted === 0) return
  const [row] = await connection.rows(
    `SELECT count(*)::BIGINT AS live, (SELECT count(*) FROM ${staged})::BIGINT AS rows
     FROM ${versionsOf(table)} WHERE is_current AND NOT is_deleted AND ${deletable}`,
  )
  const [live, rows] = [Number(row?.['live']), Number(row?.['rows'])]
  if (deleted <= limit * live || (live < rowsMin && rows > 0)) return
  throw new AppError(
    'QUALITY_BLOCKED',
    `The source has ${rows} rows: as a full snapshot it would delete ${deleted} of the ${live} rows of ${table}, more than delete_limit (${limit}) allows.`,
    {
      hint: 'If those rows are really gone, set delete_limit: 1; if the source gives changes only, set snapshot: delta.',
    },
  )
}
