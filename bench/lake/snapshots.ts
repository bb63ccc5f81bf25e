import { join } from 'node:path'
import { DuckDBInstance } from '@duckdb/node-api'
import { orderColumns } from '../orders.ts'

/** The files that every side loads, one after the other. */
export const snapshots = ['initial', 'delta-1', 'delta-10'] as const
export type Snapshot = (typeof snapshots)[number]

/** What a load did to the current rows. */
export type Counts = { inserted: number; updated: number; deleted: number }

/** The file of a snapshot in a folder. */
export const fileOf = (folder: string, snapshot: Snapshot): string => join(folder, `${snapshot}.csv`)

/**
 * Writes the snapshots as CSV with a header: `rows` rows, then the same with 1 % changed, then with 10 % changed. Of the
 * changed rows 80 % have other values, 10 % are gone and 10 % are new. The same bytes each time.
 */
export async function writeSnapshots(folder: string, rows: number): Promise<void> {
  const instance = await DuckDBInstance.create(':memory:', { threads: '2', memory_limit: '1GB' })
  const duck = await instance.connect()
  try {
    await duck.run(`SET TimeZone = 'UTC'`)
    for (const [snapshot, changedOf1000] of [
      ['initial', 0],
      ['delta-1', 10],
      ['delta-10', 100],
    ] as const)
      await duck.run(`COPY (${rowsOf(rows, changedOf1000)}) TO '${fileOf(folder, snapshot)}' (FORMAT csv, HEADER)`)
  } finally {
    duck.closeSync()
    instance.closeSync()
  }
}

// `h` scatters the changed rows over the file: a run of neighbours would be kinder to every engine than life is.
function rowsOf(rows: number, changedOf1000: number): string {
  const changed = (changedOf1000 * 8) / 10
  const gone = changed + changedOf1000 / 10
  const added = Math.round((rows * changedOf1000) / 10_000)
  return `
    SELECT 'ORD' || lpad(i::VARCHAR, 9, '0') AS order_id, 'CUST' || (i * 7919 % 100000) AS customer_id,
      'PROD' || (i * 31 % 5000) AS product_id, DATE '2024-01-01' + (i % 730)::INTEGER AS order_date,
      ((i * 37 % 1000000) / 100.0 + CASE WHEN h < ${changed} THEN ${changedOf1000} ELSE 0 END)::DECIMAL(10, 2) AS amount,
      (i % 50)::INTEGER AS qty,
      CASE WHEN h < ${changed / 2} THEN 'changed' ELSE ['new', 'paid', 'shipped', 'returned'][1 + i % 4] END AS status,
      CASE WHEN i % 20 = 0 THEN NULL ELSE 'note, "q" ' || md5(i::VARCHAR) END AS note,
      TIMESTAMPTZ '2024-01-01 00:00:00+00' + to_seconds(i) AS updated_at
    FROM (SELECT range AS i, CASE WHEN range < ${rows} THEN (range * 2654435761) % 1000003 % 1000 ELSE 999 END AS h
          FROM range(${rows + added}))
    WHERE h < ${changed} OR h >= ${gone}`
}

/** SQL for what every side writes at the end of a version: which load it came with. The columns are `originColumns`. */
export const originOf = (snapshot: Snapshot): string =>
  `now(), '${snapshot}.csv', 'run_bench', 'step', 1, ${snapshots.indexOf(snapshot) + 1}`

/** Their definitions, in words that both engines know. */
export const originColumns = `last_modified TIMESTAMPTZ, source_file VARCHAR, run_id VARCHAR, step_key VARCHAR, step_attempt INTEGER,
  load_number BIGINT`

/** The columns of the snapshots. */
export const columnNames = Object.keys(orderColumns)
