import type { Column } from '../define.ts'
import type { Table } from './catalog.ts'
import { compositeKey } from './composite-key.ts'
import type { Connection } from './connection.ts'
import type { VersionedLoad } from './load-versioned.ts'
import { envelope, literal, quoted, versionsOf } from './names.ts'
import { originOf } from './origin.ts'
import type { CurrentLoad, RowCounts } from './receipt.ts'
import { rejectKeys } from './reject-keys.ts'
import { rowHash } from './row-hash.ts'
import { fileOf, quarantine, type Staging } from './staging.ts'
import type { Stream } from './stream.ts'

/** Loads staged rows into an empty table: each is a first version, and there is nothing to compare. */
export async function loadFirst(
  connection: Connection,
  load: VersionedLoad,
  table: Table,
  keys: readonly Column[],
  staging: Staging,
  current: CurrentLoad,
): Promise<RowCounts> {
  const inserted = await connection.run(
    firstVersions(load, table, keys, current, staging.relation, fileOf(staging.files, '__row')),
  )
  return { rowsIn: inserted, rejected: 0, inserted, updated: 0, deleted: 0, unchanged: 0 }
}

/**
 * Loads rows into an empty table straight from their reader; the keys are looked at afterwards, inside the transaction.
 * `refuse` may throw for the number of repeated ones.
 */
export async function loadStream(
  connection: Connection,
  load: VersionedLoad,
  stream: Stream,
  table: Table,
  keys: readonly Column[],
  current: CurrentLoad,
  refuse: (table: Table, duplicates: number) => void,
): Promise<RowCounts> {
  const target = versionsOf(table.name)
  let rowsIn = 0
  for await (const batch of stream.batches) {
    const rows = await connection.run(firstVersions(load, table, keys, current, batch.relation, 'NULL'))
    rowsIn += rows
    await batch.loaded(rows)
  }
  const { withoutKey, duplicates } = await rejectKeys(connection, {
    relation: target,
    columns: stream.columns,
    keys,
    keep: stream.keep,
    place: 'rowid',
    deleteFrom: target,
    duplicates: load.duplicates ?? 'last_wins',
  })
  refuse(table, duplicates)
  const { rejected } = await quarantine(connection, load.attempt, table.name, { files: [], locate: async () => {} })
  const inserted = rowsIn - withoutKey - duplicates
  return { rowsIn, rejected, duplicates, inserted, updated: 0, deleted: 0, unchanged: 0 }
}

function firstVersions(
  load: VersionedLoad,
  table: Table,
  keys: readonly Column[],
  current: CurrentLoad,
  relation: string,
  file: string,
): string {
  const names = [...envelope, ...table.columns].map((column) => quoted(column.name)).join(', ')
  const { moment, mark } = originOf(load, current)
  return `INSERT INTO ${versionsOf(table.name)} (${names})
    SELECT ${literal(load.orgId)}, ${compositeKey(load.orgId, table.name, keys)}, 1, ${rowHash(table.columns)}, 'INSERT',
      NULL, NULL, ${literal(load.actor)}, ${moment}, ${moment}, true, false, ${file}, ${mark},
      ${table.columns.map((column) => quoted(column.name)).join(', ')} FROM ${relation}`
}
