import { createReadStream } from 'node:fs'
import { pipeline } from 'node:stream/promises'
import pg from 'pg'
import { from } from 'pg-copy-streams'
import { orderColumns } from '../orders.ts'
import { columnNames, type Counts, fileOf, originColumns, originOf, type Snapshot, snapshots } from './snapshots.ts'

/** Settings that the server needs so that it is a peer: safe on disk, and no smaller than the engine beside it. */
export const peerSettings = (memoryMiB: number, threads: number): string[] => [
  'fsync=on',
  'synchronous_commit=on',
  'max_wal_size=16GB',
  `shared_buffers=${Math.floor(memoryMiB / 4)}MB`,
  `work_mem=${Math.floor(memoryMiB / 4)}MB`,
  `maintenance_work_mem=${Math.floor(memoryMiB / 4)}MB`,
  `max_parallel_workers_per_gather=${threads - 1}`,
]

const types: Record<string, string> = { VARCHAR: 'text', 'DECIMAL(10,2)': 'numeric(10,2)' }
const list = (alias: string): string => columnNames.map((name) => `${alias}${name}`).join(', ')
const hash = (alias: string): string =>
  `sha256(convert_to(concat_ws(chr(31), ${columnNames.map((name) => `coalesce(${alias}${name}::text, chr(29))`).join(', ')}), 'UTF8'))`
const changed = columnNames
  .map((name) => `case when s.${name} is distinct from o.${name} then '${name}' end`)
  .join(', ')

/**
 * Loads the snapshots into a versioned table of PostgreSQL the way a careful person writes it: COPY into an unlogged
 * table, one MERGE that closes what changed or is gone and adds what is new, one INSERT of the next versions. Answers
 * seconds from the file to the commit, and counts.
 *
 * Both sides keep every version with its hash, its changed fields and the load it came with, from which the change log
 * of either is a view; both have their log on disk when they commit, and put it into the table later.
 * PostgreSQL alone keeps an index, the key's, which is also how it refuses a key twice; the lake looks at the keys of
 * each load instead. The lake alone says which rows cannot be read and why, refuses values that would be rounded, and writes
 * receipt and metrics: COPY takes all rows or none. Kind to PostgreSQL are the unlogged and temporary tables, a hash
 * of half the bytes, and that its ANALYZE of the versions is not counted; unkind is that the first load is a MERGE too, which
 * an INSERT of its own would spare the copy of its rows.
 */
export async function loadPostgres(
  url: string,
  folder: string,
): Promise<Record<Snapshot, { seconds: number; counts: Counts }>> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    const columns = Object.entries(orderColumns).map(([name, type]) => `${name} ${types[type] ?? type}`)
    await client.query(
      `set timezone = 'UTC'; drop table if exists s, v; create unlogged table s (${columns.join(', ')})`,
    )
    await client.query(
      `create table v (org_id text, composite_key text, ${columns.join(', ')}, version int, data_hash bytea, change_type text,
         changed_fields text[], changed_by text, previous_version int, ingested_at timestamptz, is_current bool, is_deleted bool,
         ${originColumns}, primary key (composite_key, version))`,
    )
    const loads: Partial<Record<Snapshot, { seconds: number; counts: Counts }>> = {}
    for (const snapshot of snapshots) {
      const startedAt = performance.now()
      await client.query('begin')
      await client.query('truncate s')
      await pipeline(
        createReadStream(fileOf(folder, snapshot), { highWaterMark: 1 << 20 }),
        client.query(from('copy s from stdin (format csv, header)')),
      )
      await client.query('analyze s')
      const counts = await merge(client, originOf(snapshot))
      await client.query('commit')
      loads[snapshot] = { seconds: (performance.now() - startedAt) / 1000, counts }
      await client.query('analyze v')
    }
    // Every snapshot has been loaded above.
    return loads as Record<Snapshot, { seconds: number; counts: Counts }>
  } finally {
    await client.end()
  }
}

// The rows that differ are found once; MERGE before PostgreSQL 17 cannot see what the source no longer has.
async function merge(client: pg.Client, origin: string): Promise<Counts> {
  await client.query('drop table if exists n')
  await client.query(
    `create temp table n as
     select coalesce(o.composite_key, 'org_bench_orders_' || s.order_id) as k, o.version as old_version,
       case when s.order_id is null then 'DELETE' when o.order_id is null or o.is_deleted then 'INSERT' else 'UPDATE' end as change,
       case when s.order_id is null then o.data_hash else ${hash('s.')} end as h,
       case when s.order_id is not null and o.order_id is not null and not o.is_deleted then array_remove(array[${changed}], null) end as f,
       ${columnNames.map((name) => `case when s.order_id is null then o.${name} else s.${name} end as ${name}`).join(', ')}
     from s full join (select * from v where is_current) o on o.order_id = s.order_id
     where case when s.order_id is null then not o.is_deleted
       else o.order_id is null or o.is_deleted or (${list('s.')}) is distinct from (${list('o.')}) end`,
  )
  await client.query('analyze n')
  await client.query(
    `merge into v using n on v.composite_key = n.k and v.version = n.old_version
     when matched then update set is_current = false
     when not matched then insert values ('bench', n.k, ${list('n.')}, 1, n.h, n.change, null, 'usr', null, now(), true, false, ${origin})`,
  )
  await client.query(
    `insert into v select 'bench', k, ${list('')}, old_version + 1, h, change, f, 'usr', old_version, now(), true, change = 'DELETE',
       ${origin}
     from n where old_version is not null`,
  )
  const { rows } = await client.query<{ change: string; count: string }>(
    'select change, count(*) from n group by change',
  )
  const of = (change: string): number => Number(rows.find((row) => row.change === change)?.count ?? 0)
  return { inserted: of('INSERT'), updated: of('UPDATE'), deleted: of('DELETE') }
}
