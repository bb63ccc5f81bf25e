import { AppError } from '../../shared/errors.ts'
import type { Connection } from './connection.ts'
import { quoted } from './names.ts'
import type { Attempt } from './receipt.ts'
import { upsert } from './upsert.ts'

/** How far a reader has read: `reader` names the step of a pipeline, `cursor` the column that grows with each change. */
export type Watermark = { reader: string; cursor: string }

/** The greatest cursor value that this reader has loaded into a table, as text, or undefined before its first load. */
export async function findWatermark(
  connection: Connection,
  table: string,
  { reader, cursor }: Watermark,
): Promise<string | undefined> {
  const [row] = await connection.rows(
    `SELECT high_water FROM lake.raw.x_meta_watermarks
     WHERE reader = $1 AND table_name = $2 AND lower(cursor_name) = lower($3)`,
    [reader, table, cursor],
  )
  return row && String(row['high_water'])
}

/** Throws SOURCE_FAILED when a row has no cursor value: where rows are appended, nothing tells whether it was read before. */
export async function refuseUnmarked(connection: Connection, { cursor }: Watermark, relation: string): Promise<void> {
  const [row] = await connection.rows(`SELECT count(*)::BIGINT AS n FROM ${relation} WHERE ${quoted(cursor)} IS NULL`)
  if (Number(row?.['n']) > 0)
    throw new AppError('SOURCE_FAILED', `${String(row?.['n'])} rows have no ${cursor}: they cannot be appended once.`, {
      retry: 'never',
      hint: 'Leave them out in the query, or load into a versioned table.',
    })
}

/** Writes down the greatest cursor value of the rows that got in; inside the transaction that writes them. */
export async function keepWatermark(
  connection: Connection,
  attempt: Attempt,
  table: string,
  { reader, cursor }: Watermark,
  relation: string,
): Promise<void> {
  const [row] = await connection.rows(`SELECT max(${quoted(cursor)})::VARCHAR AS high FROM ${relation}`)
  const high = row?.['high']
  if (high === null || high === undefined) return
  await upsert(
    connection,
    'x_meta_watermarks',
    ['reader', 'table_name'],
    { reader: '$1', table_name: '$2', cursor_name: '$3', high_water: '$4', run_id: '$5', updated_at: 'now()' },
    [reader, table, cursor, String(high), attempt.runId],
  )
}
