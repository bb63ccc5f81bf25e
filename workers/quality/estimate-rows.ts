import type { Table } from '../lake/catalog.ts'
import type { Connection } from '../lake/connection.ts'

/** The engine's own count of the rows of a table, or of what is staged; for sizes of samples only. */
export async function estimateRows(connection: Connection, table?: Table): Promise<number> {
  const place = table
    ? { database: 'lake', schema: table.kind === 'versioned' ? 'raw' : 'main' }
    : { database: 'temp', schema: 'main' }
  const [row] = await connection.rows(
    `SELECT coalesce(max(estimated_size), 0)::BIGINT AS n FROM duckdb_tables()
     WHERE database_name = $1 AND schema_name = $2 AND table_name = $3`,
    [place.database, place.schema, table?.name ?? 'staged'],
  )
  return Number(row?.['n'])
}
