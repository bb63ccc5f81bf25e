import { z } from 'zod'
import type { Connection, Row } from '../lake/connection.ts'
import { plainOf, quoted } from '../lake/names.ts'
import type { Reading } from './reading.ts'

const given = z.object({})

/** The tables of the lake by name, with their columns, how many rows they have, and their last load. */
export const tables: Reading<typeof given> = {
  arguments: given,
  query: async () => ({
    from: `SELECT t.table_name AS first, '' AS second, t.table_name AS name, t.kind AS kind,
        coalesce(t.business_key, []) AS "key", c.columns AS columns, h.load_number::DOUBLE AS load,
        epoch_ms(h.loaded_at)::DOUBLE AS "loadedAt"
      FROM lake.raw.x_meta_tables t
      JOIN (SELECT schema_name, table_name, list({'name': column_name, 'type': data_type} ORDER BY column_index) AS columns
        FROM duckdb_columns() WHERE database_name = 'lake' GROUP BY ALL) c
        ON c.table_name = t.table_name AND c.schema_name = 'main'
      LEFT JOIN lake.raw.x_meta_table_heads h ON h.table_name = t.table_name`,
    values: [],
    order: 'first, second',
  }),
  finish: async (connection, rows) => {
    const counts = await countsOf(connection, rows)
    return rows.map((row) => ({ ...row, rows: counts.get(String(row['name'])) ?? null }))
  },
}

// A view may take long to count, or read a table that is gone.
async function countsOf(connection: Connection, rows: readonly Row[]): Promise<Map<string, number>> {
  const names = rows.filter(({ kind }) => kind !== 'view').map(({ name }) => String(name))
  if (names.length === 0) return new Map()
  const counts = names.map((name, index) => `(SELECT count(*) FROM ${plainOf(name)})::DOUBLE AS ${quoted(`c${index}`)}`)
  const [row] = await connection.rows(`SELECT ${counts.join(', ')}`)
  return new Map(names.map((name, index) => [name, Number(row?.[`c${index}`])]))
}
