import type { Column } from '../define.ts'
import type { Table } from '../lake/catalog.ts'
import type { Connection } from '../lake/connection.ts'
import { literal, quoted } from '../lake/names.ts'
import { keysFrom, type Staging } from '../lake/staging.ts'

/** Which rows of the quarantine: without codes all but those that lost to another row of the same key. */
export type Selection = {
  table: string
  runId?: string | undefined
  codes?: readonly string[] | undefined
  rowsMax: number
}

/**
 * Puts quarantined rows into the temporary table `staged`, oldest first, every column as the text that was kept, with the
 * id that the quarantine gave them as `__id`. Their columns are those of the table and of the kept rows. A line that
 * could not be read has NULL everywhere, and waits for a correction.
 */
export async function stageQuarantined(
  connection: Connection,
  wanted: Selection,
  table: Table | undefined,
): Promise<Staging> {
  const codes = wanted.codes ? `code IN (${wanted.codes.map(literal).join(', ')})` : `code <> 'KEY_DUPLICATE'`
  await connection.run(
    `CREATE OR REPLACE TEMP TABLE quarantined AS
     SELECT rejected_id AS __id, row_number() OVER (ORDER BY rejected_at, line NULLS LAST, rejected_id) AS __row,
       CASE WHEN json_valid(raw) AND left(ltrim(raw), 1) = '{' THEN CAST(raw::JSON AS MAP(VARCHAR, VARCHAR)) END AS cells
     FROM lake.raw.x_meta_rejected_rows
     WHERE table_name = $1 AND status = 'quarantined' AND ${codes} AND ($2::VARCHAR IS NULL OR run_id = $2)
     ORDER BY rejected_at, line NULLS LAST, rejected_id LIMIT ${wanted.rowsMax}`,
    [wanted.table, wanted.runId ?? null],
  )
  const columns = await columnsOf(connection, table)
  const list = columns.map(({ name }) => `cells[${literal(name)}] AS ${quoted(name)}`)
  await connection.run(
    `CREATE OR REPLACE TEMP TABLE staged AS SELECT __id, __row${list.map((sql) => `, ${sql}`).join('')} FROM quarantined`,
  )
  await connection.run(`DROP TABLE quarantined`)
  const names = columns.map(({ name }) => quoted(name)).join(', ')
  return {
    columns,
    untyped: columns.map(({ name }) => name),
    relation: `(SELECT ${names}, __row FROM temp.staged)`,
    keep: '__row DESC',
    files: [],
    keysOfRejected: keysFrom('temp.staged'),
    locate: async () => {},
  }
}

// The keys of the kept rows are in the order of the first one that has them.
async function columnsOf(connection: Connection, table: Table | undefined): Promise<Column[]> {
  const found = await connection.rows(
    `SELECT name FROM (SELECT unnest(map_keys(cells)) AS name, __row FROM quarantined) GROUP BY name ORDER BY min(__row), name`,
  )
  const names = table ? table.columns.map(({ name }) => name) : []
  const known = new Set(names.map((name) => name.toLowerCase()))
  for (const row of found) {
    const name = String(row['name'])
    if (!known.has(name.toLowerCase())) names.push(name)
    known.add(name.toLowerCase())
  }
  return names.map((name) => ({ name, type: 'VARCHAR' }))
}

/**
 * Settles the rows of `staged` inside the transaction of their load: those that are in are released, the others stay in
 * the quarantine under their ids, with the newest reason and one attempt more.
 */
export async function settleQuarantined(connection: Connection, runId: string, stepKey: string): Promise<void> {
  const refused = `(SELECT s.__id, r.column_name, r.code, r.reason FROM temp.staged s JOIN rejected r ON s.__row = r.__row
    WHERE NOT EXISTS (SELECT 1 FROM discarded d WHERE d.__row = r.__row AND d.code = r.code AND d.column_name = r.column_name))`
  await connection.run(
    `DELETE FROM lake.raw.x_meta_rejected_rows WHERE run_id = $1 AND step_key = $2 AND status = 'quarantined'`,
    [runId, stepKey],
  )
  await connection.run(
    `UPDATE lake.raw.x_meta_rejected_rows SET attempts = attempts + 1, column_name = f.column_name, code = f.code, reason = f.reason,
       settled_by = $1, settled_at = now() FROM ${refused} f WHERE rejected_id = f.__id`,
    [runId],
  )
  await connection.run(
    `UPDATE lake.raw.x_meta_rejected_rows SET status = 'released', attempts = attempts + 1, settled_by = $1, settled_at = now()
     WHERE rejected_id IN (SELECT __id FROM temp.staged) AND rejected_id NOT IN (SELECT __id FROM ${refused})`,
    [runId],
  )
}
