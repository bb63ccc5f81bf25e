import { createHash } from 'node:crypto'
import type { Column } from '../define.ts'
import type { Connection } from './connection.ts'
import { quoted } from './names.ts'
import type { CurrentLoad, LoadCounts } from './receipt.ts'

/** How a load stands to a plan: it is only rehearsed, or it must be the rehearsed load of this hash. */
export type Plan = { rehearse: true } | { approved: string }

/**
 * The hash of a load that is ready to commit: of the table and its newest load before, the rows that go in, all counts and
 * all changes of columns. Two loads share it only if they would leave the same table behind.
 */
export function planHash(table: string, current: CurrentLoad, counts: LoadCounts): string {
  const { inserted, updated, deleted, unchanged, rejected, rowsIn, duplicates, discarded, businessKey } = counts
  const numbers = [inserted, updated, deleted, unchanged, rejected, rowsIn, duplicates, discarded]
  return createHash('sha256')
    .update(JSON.stringify([table, current.number, current.content, numbers, businessKey, current.schema]))
    .digest('hex')
}

/** A digest of rows, whatever their order. It holds within one version of the engine. */
export async function contentOf(connection: Connection, relation: string, columns: readonly Column[]): Promise<string> {
  const names = columns.map(({ name }) => quoted(name)).sort()
  const [row] = await connection.rows(
    `SELECT count(*)::VARCHAR || ':' || coalesce(bit_xor(h), 0)::VARCHAR || ':' || coalesce(sum(h), 0)::VARCHAR AS content
     FROM (SELECT hash(${names.join(', ')}) AS h FROM ${relation})`,
  )
  return `${names.join(',')}:${String(row?.['content'])}`
}
