import { z } from 'zod'
import type { DataRead, DataRow, ReadOperation } from '../../shared/datasets/reader.ts'
import { AppError } from '../../shared/errors.ts'
import type { Connection, Row } from '../lake/connection.ts'
import { literal } from '../lake/names.ts'
import { activity } from './activity.ts'
import { frequency } from './frequency.ts'
import { lineage } from './lineage.ts'
import { type PageQuery, pageShape, type Reading } from './reading.ts'
import { quality } from './quality.ts'
import { rows } from './rows.ts'
import { tables } from './tables.ts'
import { versions } from './versions.ts'

/** An answer holds no more than this as text: it is made for people and programs that look, not for exports. */
export const answerBytesMax = 1_048_576

const readings: Record<Exclude<ReadOperation, 'nothing'>, Reading> = {
  tables,
  rows,
  versions,
  activity,
  frequency,
  quality,
  lineage,
}

/**
 * Reads one page of a tenant's lake, in a transaction that cannot write; a load that runs meanwhile is not seen in part.
 * Throws NOT_FOUND for a table that is not there, BAD_INPUT, and TOO_LARGE for a page of more than 1 MiB.
 */
export async function readLake(connection: Connection, read: DataRead): Promise<DataRow[]> {
  if (read.operation === 'nothing') return []
  const reading = readings[read.operation]
  const page = z.object(pageShape).safeParse(read.arguments)
  const given = reading.arguments.safeParse(read.arguments)
  if (!page.success || !given.success)
    throw new AppError('BAD_INPUT', given.error?.issues[0]?.message ?? 'The page cannot be read.')
  await connection.run('BEGIN TRANSACTION READ ONLY')
  try {
    const query = await reading.query(connection, read.table, given.data)
    const found = await pageOf(connection, query, page.data)
    return (reading.finish ? await reading.finish(connection, found) : found) as unknown as DataRow[] // `position` is put in below
  } finally {
    await connection.rollback()
  }
}

// One row of one list: what is too large never leaves the engine.
async function pageOf(
  connection: Connection,
  { from, values, order }: PageQuery,
  { limit, after }: { limit: number; after: readonly [string, string] | null },
): Promise<Row[]> {
  const isDown = order.startsWith('first DESC')
  const first = (text: string): string => (isDown ? `TRY_CAST(${literal(text)} AS BIGINT)` : literal(text))
  const place = after && {
    first: first(after[0]),
    second: literal(after[1]),
  }
  const where = place
    ? `WHERE first ${isDown ? '<' : '>'} ${place.first} OR (first = ${place.first} AND second > ${place.second})`
    : ''
  const [answer] = await connection.rows(
    `SELECT count(*)::INTEGER AS n,
       CASE WHEN sum(strlen(p::VARCHAR)) <= ${answerBytesMax} THEN list(p ORDER BY ${order}) END AS page
     FROM (SELECT *, [first::VARCHAR, second] AS "position" FROM (${from}) ${where} ORDER BY ${order} LIMIT ${limit}) p`,
    values,
  )
  if (answer?.['n'] === 0) return []
  const rows = answer?.['page']
  if (Array.isArray(rows)) return rows
  throw new AppError('TOO_LARGE', `These rows have more than ${answerBytesMax} bytes.`, {
    hint: 'Ask for fewer rows at once, or export the table.',
  })
}
