import type { Column } from '../define.ts'
import type { Table } from './catalog.ts'
import { keyColumn } from './choose-key.ts'
import { compositeKey } from './composite-key.ts'
import type { Connection } from './connection.ts'
import { guardDeletes } from './guard-deletes.ts'
import type { VersionedLoad } from './load-versioned.ts'
import { envelope, literal, quoted, versionsOf } from './names.ts'
import { originOf } from './origin.ts'
import type { CurrentLoad, RowCounts } from './receipt.ts'
import { quickHash, rowHash } from './row-hash.ts'
import { countRejected, fileOf, type Staging } from './staging.ts'

/**
 * Writes a version for each staged row that is new or changed and, for a full snapshot, a tombstone for each that is gone.
 * Throws QUALITY_BLOCKED as `guardDeletes` does.
 */
export async function applyChanges(
  connection: Connection,
  load: VersionedLoad,
  table: Table,
  keys: readonly Column[],
  staging: Staging,
  current: CurrentLoad,
): Promise<RowCounts> {
  const target = versionsOf(table.name)
  const columns = table.columns
  const list = (alias: string): string => columns.map(({ name }) => `${alias}${quoted(name)}`).join(', ')
  const { moment, mark } = originOf(load, current)
  const keyList = keys.map(({ name }) => quoted(name)).join(', ')
  const changed = columns
    .map(({ name }) => `CASE WHEN s.${quoted(name)} IS DISTINCT FROM o.${quoted(name)} THEN ${literal(name)} END`)
    .join(', ')
  // Names of our own begin with two underscores, for a source may have any other.
  // 1. Which keys differ: the join carries key, hash and row number only, never the wide rows.
  await connection.run(
    `CREATE OR REPLACE TEMP TABLE differing AS
     WITH s AS (SELECT ${keyList}, ${quickHash(columns)} AS __hash, __row FROM ${staging.relation}),
          o AS (SELECT ${keyList}, ${quickHash(columns)} AS __hash, rowid AS __old_row, version, is_deleted,
                  ${deletable(load, staging)} AS __deletable FROM ${target} WHERE is_current)
     SELECT s.__row, o.__old_row, o.version AS __old_version,
       CASE WHEN s.__row IS NULL THEN 'DELETE' WHEN o.__old_row IS NULL OR o.is_deleted THEN 'INSERT' ELSE 'UPDATE' END AS __change
     FROM s ${load.snapshot === 'full' ? 'FULL' : 'LEFT'} JOIN o USING (${keyList})
     WHERE CASE WHEN s.__row IS NULL THEN NOT o.is_deleted AND o.__deletable
       ELSE o.__old_row IS NULL OR o.is_deleted OR s.__hash <> o.__hash END`,
  )
  if (load.snapshot === 'full') {
    await keepRejected(connection, target, keys, staging)
    // Who plans a load looks at its counts.
    if (!load.plan)
      await guardDeletes(connection, table.name, deletable(load, staging), staging.relation, load.deleteLimit ?? 1)
  }
  // 2. The wide rows, the stored hash and the names of changed fields: for those alone, in one look at either side. A
  // tombstone has the values of the row that is gone.
  const values = columns.map(
    ({ name }) => `if(d.__change = 'DELETE', o.${quoted(name)}, s.${quoted(name)}) AS ${quoted(name)}`,
  )
  await connection.run(
    `CREATE OR REPLACE TEMP TABLE next AS
     SELECT d.__change, d.__old_version, d.__old_row, coalesce(o.composite_key, ${compositeKey(load.orgId, table.name, keys, 's.')}) AS __key,
       CASE WHEN d.__change = 'DELETE' THEN o.data_hash ELSE ${rowHash(columns, 's.')} END AS __hash,
       CASE WHEN d.__change = 'UPDATE' THEN list_filter([${changed}], lambda x: x IS NOT NULL) END AS __fields,
       coalesce(o.ingested_at, ${moment}) AS __first_seen,
       CASE WHEN d.__change <> 'DELETE' THEN ${fileOf(staging.files, 's.__row')} END AS __file, ${values.join(', ')}
     FROM differing d LEFT JOIN ${staging.relation} s ON s.__row = d.__row LEFT JOIN ${target} o ON o.rowid = d.__old_row`,
  )
  await connection.run(
    `UPDATE ${target} SET is_current = false WHERE rowid IN (SELECT __old_row FROM next WHERE __old_row IS NOT NULL)`,
  )
  const names = [...envelope, ...columns].map((column) => quoted(column.name)).join(', ')
  await connection.run(
    `INSERT INTO ${target} (${names})
     SELECT ${literal(load.orgId)}, __key, coalesce(__old_version, 0) + 1, __hash, __change, __fields, __old_version, ${literal(load.actor)},
       __first_seen, ${moment}, true, __change = 'DELETE', __file, ${mark}, ${list('')} FROM next`,
  )
  const [counts] = await connection.rows(
    `SELECT count(*) FILTER (__change = 'INSERT')::BIGINT AS inserted, count(*) FILTER (__change = 'UPDATE')::BIGINT AS updated,
       count(*) FILTER (__change = 'DELETE')::BIGINT AS deleted, (SELECT count(*) FROM ${staging.relation})::BIGINT AS rows_in
     FROM next`,
  )
  await connection.run(`DROP TABLE differing; DROP TABLE next`)
  const [inserted, updated, deleted] = [
    Number(counts?.['inserted']),
    Number(counts?.['updated']),
    Number(counts?.['deleted']),
  ]
  const rowsIn = Number(counts?.['rows_in'])
  return { rowsIn, rejected: 0, inserted, updated, deleted, unchanged: rowsIn - inserted - updated }
}

// Which current rows a full snapshot may delete when it does not have them.
function deletable(load: VersionedLoad, staging: Staging): string {
  if (load.onlyKey !== undefined) return `composite_key = ${literal(load.onlyKey)}`
  if (!load.partitionBy?.length) return 'true'
  const columns = load.partitionBy.map((name) => keyColumn(name, staging.columns).name)
  return `${partitionOf(columns)} IN (SELECT DISTINCT ${partitionOf(columns)} FROM ${staging.relation})`
}

/** SQL for the partition of a row, as a text that tells NULL from every value. */
export const partitionOf = (columns: readonly string[]): string =>
  `to_json([${columns.map((name) => `${quoted(name)}::VARCHAR`).join(', ')}])::VARCHAR`

async function keepRejected(
  connection: Connection,
  target: string,
  keys: readonly Column[],
  staging: Staging,
): Promise<void> {
  if ((await countRejected(connection)) === 0) return
  const names = keys.map(({ name }) => name)
  const same = keys.map(({ name, type }, index) => `o.${quoted(name)} = TRY_CAST(r.k${index} AS ${type})`).join(' AND ')
  await connection.run(
    `DELETE FROM differing WHERE __change = 'DELETE' AND __old_row IN (
       SELECT o.rowid FROM ${target} o JOIN (${staging.keysOfRejected(names).join(' UNION ALL ')}) r ON ${same}
       WHERE o.is_current)`,
  )
}
