import { join } from 'node:path'
import { DuckDBInstance } from '@duckdb/node-api'
import { z } from 'zod'
import { orderColumns } from '../orders.ts'
import { columnNames, type Counts, fileOf, originColumns, originOf, type Snapshot, snapshots } from './snapshots.ts'

// The bound: the statements of a versioned load and nothing around them. No rows of a wrong type, no repeated keys, no
// receipt, no quarantine, no tenant; one process that dies with its data. It prints seconds and counts as JSON.
const job = z
  .object({ folder: z.string(), work: z.string(), memoryMiB: z.number(), threads: z.number(), upserts: z.number() })
  .parse(JSON.parse(process.argv[2] ?? '{}'))
const instance = await DuckDBInstance.create(join(job.work, 'bare.duckdb'), {
  threads: String(job.threads),
  memory_limit: `${job.memoryMiB}MiB`,
  preserve_insertion_order: 'false',
  temp_directory: join(job.work, 'spill'),
})
const duck = await instance.connect()
const typed = Object.entries(orderColumns)
const list = (alias: string): string => columnNames.map((name) => `${alias}${name}`).join(', ')
const key = (alias: string): string => `'org_bench_orders_' || ${alias}order_id`
const hash = (alias: string): string =>
  `sha256(concat_ws(chr(31), ${columnNames.map((name) => `coalesce(${alias}${name}::VARCHAR, chr(29))`).join(', ')}))`
const changed = columnNames
  .map((name) => `CASE WHEN s.${name} IS DISTINCT FROM o.${name} THEN '${name}' END`)
  .join(', ')

// As the product has it, and as PostgreSQL beside it: what is committed is in the log and on disk, and gets into the table later.
await duck.run(`SET TimeZone = 'UTC'; SET checkpoint_threshold = '128MiB'`)
await duck.run(
  `CREATE TABLE v (org_id VARCHAR, composite_key VARCHAR, ${typed.map(([name, type]) => `${name} ${type}`).join(', ')},
     version INTEGER, data_hash VARCHAR, change_type VARCHAR, changed_fields VARCHAR[], changed_by VARCHAR,
     previous_version INTEGER, ingested_at TIMESTAMPTZ, is_current BOOLEAN, is_deleted BOOLEAN, ${originColumns})`,
)
const loads: Partial<Record<Snapshot, { seconds: number; counts: Counts }>> = {}
for (const snapshot of snapshots) {
  const startedAt = performance.now()
  await duck.run('BEGIN')
  await stage(snapshot)
  const counts = snapshot === 'initial' ? await first(originOf(snapshot)) : await apply(originOf(snapshot))
  await duck.run('COMMIT')
  loads[snapshot] = { seconds: (performance.now() - startedAt) / 1000, counts }
}
const upsertsPerSecond = job.upserts > 0 ? await upsertRows(job.upserts) : 0
console.log(JSON.stringify({ loads, upsertsPerSecond }))
duck.closeSync()
instance.closeSync()

async function stage(snapshot: Snapshot): Promise<void> {
  await duck.run(
    `CREATE OR REPLACE TEMP TABLE s AS FROM read_csv('${fileOf(job.folder, snapshot)}', header = true,
       auto_detect = false, delim = ',', quote = '"', escape = '"', allow_quoted_nulls = false,
       columns = {${typed.map(([name, type]) => `'${name}': '${type}'`).join(', ')}})`,
  )
}

async function first(origin: string): Promise<Counts> {
  const { rowsChanged } = await duck.run(
    `INSERT INTO v SELECT 'bench', ${key('')}, ${list('')}, 1, ${hash('')}, 'INSERT', NULL, 'usr', NULL, now(), true, false, ${origin}
     FROM s`,
  )
  return { inserted: rowsChanged, updated: 0, deleted: 0 }
}

async function apply(origin: string): Promise<Counts> {
  await duck.run(
    `CREATE OR REPLACE TEMP TABLE d AS
     WITH a AS (SELECT order_id, hash(${list('')}) AS h, rowid AS r FROM s),
          b AS (SELECT order_id, hash(${list('')}) AS h, rowid AS r, version, is_deleted FROM v WHERE is_current)
     SELECT a.r AS new_row, b.r AS old_row, b.version AS old_version,
       CASE WHEN a.r IS NULL THEN 'DELETE' WHEN b.r IS NULL OR b.is_deleted THEN 'INSERT' ELSE 'UPDATE' END AS change
     FROM a FULL JOIN b USING (order_id)
     WHERE CASE WHEN a.r IS NULL THEN NOT b.is_deleted ELSE b.r IS NULL OR b.is_deleted OR a.h <> b.h END`,
  )
  await duck.run(
    `CREATE OR REPLACE TEMP TABLE n AS
     SELECT d.change, d.old_version, d.old_row, ${key('s.')} AS k, ${hash('s.')} AS h,
       CASE WHEN d.change = 'UPDATE' THEN list_filter([${changed}], lambda x: x IS NOT NULL) END AS f, ${list('s.')}
     FROM d JOIN s ON s.rowid = d.new_row LEFT JOIN v o ON o.rowid = d.old_row WHERE d.change <> 'DELETE'
     UNION ALL BY NAME
     SELECT d.change, d.old_version, d.old_row, o.composite_key AS k, o.data_hash AS h, NULL::VARCHAR[] AS f, ${list('o.')}
     FROM d JOIN v o ON o.rowid = d.old_row WHERE d.change = 'DELETE'`,
  )
  await duck.run(`UPDATE v SET is_current = false WHERE rowid IN (SELECT old_row FROM n WHERE old_row IS NOT NULL)`)
  await duck.run(
    `INSERT INTO v SELECT 'bench', k, ${list('')}, coalesce(old_version, 0) + 1, h, change, f, 'usr', old_version, now(),
       true, change = 'DELETE', ${origin} FROM n`,
  )
  const reader = await duck.runAndReadAll(
    `SELECT count(*) FILTER (change = 'INSERT'), count(*) FILTER (change = 'UPDATE'), count(*) FILTER (change = 'DELETE')
     FROM n`,
  )
  const [inserted, updated, deleted] = (reader.getRows()[0] ?? []).map(Number)
  return { inserted: inserted ?? 0, updated: updated ?? 0, deleted: deleted ?? 0 }
}

// A row at a time as an application would write it, all in one transaction, which is the kind way: half the rows are new.
async function upsertRows(rows: number): Promise<number> {
  await duck.run(
    `CREATE TABLE head (${typed.map(([name, type]) => `${name} ${type}`).join(', ')}, PRIMARY KEY (order_id))`,
  )
  await duck.run(`INSERT INTO head FROM s ORDER BY order_id LIMIT ${rows / 2}`)
  const reader = await duck.runAndReadAll(
    `SELECT ${columnNames.map((name) => `${name}::VARCHAR`).join(', ')} FROM s ORDER BY order_id LIMIT ${rows}`,
  )
  const sets = columnNames.slice(1).map((name) => `${name} = excluded.${name}`)
  const upsert = await duck.prepare(
    `INSERT INTO head VALUES (${typed.map(([, type], index) => `$${index + 1}::${type}`).join(', ')})
     ON CONFLICT (order_id) DO UPDATE SET ${sets.join(', ')}`,
  )
  const given = reader.getRows()
  const startedAt = performance.now()
  await duck.run('BEGIN')
  for (const row of given) {
    for (const [index, value] of row.entries())
      if (value === null) upsert.bindNull(index + 1)
      else upsert.bindVarchar(index + 1, String(value))
    await upsert.run()
  }
  await duck.run('COMMIT')
  return (given.length * 1000) / (performance.now() - startedAt)
}
