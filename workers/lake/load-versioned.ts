import { AppError } from '../../shared/errors.ts'
import type { Column } from '../define.ts'
import { addColumns, createVersioned, findTable, type Table } from './catalog.ts'
import { compositeKey } from './composite-key.ts'
import type { Connection } from './connection.ts'
import { sameType } from './fit-columns.ts'
import { envelope, literal, quoted, versionsOf } from './names.ts'
import { refreshChangeLog } from './meta.ts'
import { measured } from './quality-metrics.ts'
import { type Attempt, type LoadCounts, loadOnce } from './receipt.ts'
import { rejectKeys } from './reject-keys.ts'
import { quickHash, rowHash } from './row-hash.ts'
import { countRejected, fileOf, quarantine, type Staging } from './staging.ts'
import { type Stream, stageStream } from './stream.ts'

/** A load into a versioned table. */
export type VersionedLoad = {
  attempt: Attempt
  orgId: string
  /** Who caused it: stands in every version that it writes. */
  actor: string
  table: string
  /** Columns that tell rows apart. Empty means those of the table, which must then be there. */
  businessKey: readonly string[]
  /** `full`: rows that the source no longer has are deleted. `delta`: the source has changed rows only. */
  snapshot: 'full' | 'delta'
  /** Rows with the types of the table, where it has those columns. */
  source: Staging | Stream
}

/**
 * Brings a versioned table to the state of the source: a new version for each row that is new, changed or gone, and
 * nothing for the rest, so an unchanged reload writes no row. A deleted key keeps a tombstone as its current version and
 * goes on counting when it comes back. Of rows with the same key one counts (the last one of a file), the others and
 * rows without a key are quarantined. A record whose row was rejected stays as it was, as far as its key can be read.
 * All of it is one transaction with its receipt.
 * A column that is new is added; throws SCHEMA_MISMATCH when one is missing or another type, KEY_INVALID for a key that
 * is no column or not the table's, CONFLICT as `loadOnce` does.
 */
export async function loadVersioned(connection: Connection, load: VersionedLoad): Promise<LoadCounts> {
  const isNew = (await findTable(connection, load.table)) === undefined
  const counts = await loadOnce(connection, load.attempt, load.table, async () => {
    const table = await prepareTable(connection, load)
    const keys = keyColumns(table, load.source.columns)
    const [any] = await connection.rows(`SELECT 1 FROM ${versionsOf(table.name)} LIMIT 1`)
    if (!any)
      return await measured(connection, load.attempt, table.name, await loadFirst(connection, load, table, keys))
    const staging = 'relation' in load.source ? load.source : await stageStream(connection, load.source)
    await rejectKeys(connection, { ...staging, keys, place: '__row' })
    const changes = await applyChanges(connection, load, table, keys, staging)
    const rejected = await quarantine(connection, load.attempt, table.name, staging)
    const counts = { ...changes, rowsIn: changes.rowsIn + rejected, rejected }
    return await measured(connection, load.attempt, table.name, counts)
  })
  if (isNew) await refreshChangeLog(connection)
  return counts
}

async function prepareTable(connection: Connection, load: VersionedLoad): Promise<Table> {
  const columns = load.source.columns
  const found = await findTable(connection, load.table)
  if (!found) {
    if (load.businessKey.length === 0)
      throw new AppError('KEY_INVALID', `The table ${load.table} is new: name its business_key.`)
    const key = load.businessKey.map((name) => keyColumn(name, columns).name)
    return await createVersioned(connection, load.table, columns, key)
  }
  if (found.kind !== 'versioned')
    throw new AppError('SCHEMA_MISMATCH', `The table ${load.table} keeps no versions: it was made by another mode.`)
  if (load.businessKey.length > 0 && lower(load.businessKey) !== lower(found.businessKey))
    throw new AppError(
      'KEY_INVALID',
      `The table ${load.table} has the business key ${found.businessKey.join(', ')}, not ${load.businessKey.join(', ')}.`,
    )
  const staged = new Map(columns.map((column) => [column.name.toLowerCase(), column]))
  for (const column of found.columns) {
    const given = staged.get(column.name.toLowerCase())
    if (!given)
      throw new AppError(
        'SCHEMA_MISMATCH',
        `The source has no column ${JSON.stringify(column.name)}, which the table ${load.table} has: select it (NULL will do).`,
      )
    if (!sameType(given.type, column.type))
      throw new AppError(
        'SCHEMA_MISMATCH',
        `The column ${column.name} is ${column.type} in the table, not ${given.type}.`,
      )
  }
  const there = new Set(found.columns.map((column) => column.name.toLowerCase()))
  return await addColumns(
    connection,
    found,
    columns.filter((column) => !there.has(column.name.toLowerCase())),
  )
}

const lower = (names: readonly string[]): string => names.join('\u001f').toLowerCase()

function keyColumn(name: string, columns: readonly Column[]): Column {
  const column = columns.find((column) => column.name.toLowerCase() === name.toLowerCase())
  if (column) return column
  throw new AppError('KEY_INVALID', `The source has no column ${JSON.stringify(name)} for the business key.`)
}

const keyColumns = (table: Table, columns: readonly Column[]): Column[] =>
  table.businessKey.map((name) => keyColumn(name, columns))

// Into an empty table: straight from the reader, and the keys are looked at afterwards, inside the transaction.
async function loadFirst(
  connection: Connection,
  load: VersionedLoad,
  table: Table,
  keys: readonly Column[],
): Promise<LoadCounts> {
  const target = versionsOf(table.name)
  const columns = load.source.columns
  const names = [...envelope, ...columns].map((column) => quoted(column.name)).join(', ')
  const insert = (relation: string, file: string): string =>
    `INSERT INTO ${target} (${names}) SELECT ${literal(load.orgId)}, ${compositeKey(load.orgId, table.name, keys)}, 1,
       ${rowHash(columns)}, 'INSERT', NULL, NULL, ${literal(load.actor)}, now(), now(), true, false, ${file},
       ${literal(load.attempt.runId)}, ${columns.map((column) => quoted(column.name)).join(', ')} FROM ${relation}`
  let inserted = 0
  if ('relation' in load.source) {
    const { relation, files, keep } = load.source
    await rejectKeys(connection, { relation, columns, keys, keep, place: '__row' })
    inserted = await connection.run(insert(relation, fileOf(files, '__row')))
    const rejected = await quarantine(connection, load.attempt, table.name, load.source)
    return { rowsIn: inserted + rejected, rejected, inserted, updated: 0, deleted: 0, unchanged: 0 }
  }
  for await (const batch of load.source.batches) {
    const rows = await connection.run(insert(batch.relation, 'NULL'))
    inserted += rows
    await batch.loaded(rows)
  }
  const removed = await rejectKeys(connection, {
    relation: target,
    columns,
    keys,
    keep: load.source.keep,
    place: 'rowid',
    deleteFrom: target,
  })
  const rejected = await quarantine(connection, load.attempt, table.name, { files: [], locate: async () => {} })
  return { rowsIn: inserted, rejected, inserted: inserted - removed, updated: 0, deleted: 0, unchanged: 0 }
}

async function applyChanges(
  connection: Connection,
  load: VersionedLoad,
  table: Table,
  keys: readonly Column[],
  staging: Staging,
): Promise<LoadCounts> {
  const target = versionsOf(table.name)
  const columns = table.columns
  const list = (alias: string): string => columns.map(({ name }) => `${alias}${quoted(name)}`).join(', ')
  const keyList = keys.map(({ name }) => quoted(name)).join(', ')
  const changed = columns
    .map(({ name }) => `CASE WHEN s.${quoted(name)} IS DISTINCT FROM o.${quoted(name)} THEN ${literal(name)} END`)
    .join(', ')
  // 1. Which keys differ: the join carries key, hash and row number only, never the wide rows.
  await connection.run(
    `CREATE OR REPLACE TEMP TABLE differing AS
     WITH s AS (SELECT ${keyList}, ${quickHash(columns)} AS h, __row FROM ${staging.relation}),
          o AS (SELECT ${keyList}, ${quickHash(columns)} AS h, rowid AS old_row, version, is_deleted FROM ${target}
                WHERE is_current)
     SELECT s.__row, o.old_row, o.version AS old_version,
       CASE WHEN s.__row IS NULL THEN 'DELETE' WHEN o.old_row IS NULL OR o.is_deleted THEN 'INSERT' ELSE 'UPDATE' END AS change
     FROM s ${load.snapshot === 'full' ? 'FULL' : 'LEFT'} JOIN o USING (${keyList})
     WHERE CASE WHEN s.__row IS NULL THEN NOT o.is_deleted
       ELSE o.old_row IS NULL OR o.is_deleted OR s.h <> o.h END`,
  )
  if (load.snapshot === 'full') await keepRejected(connection, target, keys, staging)
  // 2. The wide rows, the stored hash and the names of changed fields: for those alone.
  await connection.run(
    `CREATE OR REPLACE TEMP TABLE next AS
     SELECT d.change, d.old_version, d.old_row, coalesce(o.composite_key, ${compositeKey(load.orgId, table.name, keys, 's.')}) AS k,
       ${rowHash(columns, 's.')} AS h,
       CASE WHEN d.change = 'UPDATE' THEN list_filter([${changed}], lambda x: x IS NOT NULL) END AS f,
       coalesce(o.ingested_at, now()) AS first_seen, ${fileOf(staging.files, 's.__row')} AS file, ${list('s.')}
     FROM differing d JOIN ${staging.relation} s ON s.__row = d.__row LEFT JOIN ${target} o ON o.rowid = d.old_row
     WHERE d.change <> 'DELETE'
     UNION ALL BY NAME
     SELECT d.change, d.old_version, d.old_row, o.composite_key AS k, o.data_hash AS h, NULL::VARCHAR[] AS f,
       o.ingested_at AS first_seen, NULL::VARCHAR AS file, ${list('o.')}
     FROM differing d JOIN ${target} o ON o.rowid = d.old_row WHERE d.change = 'DELETE'`,
  )
  await connection.run(
    `UPDATE ${target} SET is_current = false WHERE rowid IN (SELECT old_row FROM next WHERE old_row IS NOT NULL)`,
  )
  const names = [...envelope, ...columns].map((column) => quoted(column.name)).join(', ')
  await connection.run(
    `INSERT INTO ${target} (${names})
     SELECT ${literal(load.orgId)}, k, coalesce(old_version, 0) + 1, h, change, f, old_version, ${literal(load.actor)},
       first_seen, now(), true, change = 'DELETE', file, ${literal(load.attempt.runId)}, ${list('')} FROM next`,
  )
  const [counts] = await connection.rows(
    `SELECT count(*) FILTER (change = 'INSERT')::BIGINT AS inserted, count(*) FILTER (change = 'UPDATE')::BIGINT AS updated,
       count(*) FILTER (change = 'DELETE')::BIGINT AS deleted, (SELECT count(*) FROM ${staging.relation})::BIGINT AS rows_in
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
    `DELETE FROM differing WHERE change = 'DELETE' AND old_row IN (
       SELECT o.rowid FROM ${target} o JOIN (${staging.keysOfRejected(names).join(' UNION ALL ')}) r ON ${same}
       WHERE o.is_current)`,
  )
}
