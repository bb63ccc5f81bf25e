import type { Connection } from '../lake/connection.ts'
import type { Attempt } from '../lake/receipt.ts'
import type { Statement } from '../lake/statement.ts'
import { type Catalog, lineageOf } from './lineage.ts'

/** The columns of every table and view of the lake, as they are now. */
export async function catalogOf(connection: Connection): Promise<Catalog> {
  const rows = await connection.rows(
    `SELECT schema_name || '.' || lower(table_name) AS name, list(column_name ORDER BY column_index) AS columns
     FROM duckdb_columns() WHERE database_name = 'lake' GROUP BY ALL`,
  )
  return new Map(rows.map((row) => [String(row['name']), row['columns'] as string[]])) // a list of names by the query
}

/** Writes where the rows of a table come from into `x_meta_lineage`, in the place of what the same step wrote before. */
export async function keepLineage(
  connection: Connection,
  attempt: Attempt,
  target: string,
  statement: Statement,
  catalog: Catalog,
): Promise<void> {
  const names = statement.columns.map(({ name }) => name)
  const { tables, columns } = lineageOf(statement.tree, catalog, names)
  const rows = [
    ...tables.map((table) => ({ source_table: table, relation: 'read' })),
    ...columns.flatMap(({ name, origins }) =>
      origins.map(({ table, column, isCopied }) => ({
        target_column: name,
        source_table: table,
        source_column: column,
        relation: isCopied ? 'copied' : 'computed',
      })),
    ),
  ]
  await connection.transaction(async () => {
    await connection.run(`DELETE FROM lake.raw.x_meta_lineage WHERE run_id = $1 AND step_key = $2`, [
      attempt.runId,
      attempt.stepKey,
    ])
    await connection.run(
      `INSERT INTO lake.raw.x_meta_lineage
       SELECT $1, $2, $3, r.target_column, r.source_table, r.source_column, r.relation, now() FROM (
         SELECT unnest(from_json($4::JSON, '[{"target_column":"VARCHAR","source_table":"VARCHAR","source_column":"VARCHAR","relation":"VARCHAR"}]')) AS r)`,
      [attempt.runId, attempt.stepKey, target, JSON.stringify(rows)],
    )
  })
}
