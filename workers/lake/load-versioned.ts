import { AppError } from '../../shared/errors.ts'
import type { Column } from '../define.ts'
import { createVersioned, findTable, type Table } from './catalog.ts'
import { chooseKey, keyColumn } from './choose-key.ts'
import { compositeKey } from './composite-key.ts'
import type { Connection } from './connection.ts'
import { detectKey } from './detect-key.ts'
import { sameType } from './fit-columns.ts'
import { guardDeletes } from './guard-deletes.ts'
import { envelope, literal, quoted, versionsOf } from './names.ts'
import { refreshChangeLog } from './meta.ts'
import { contentOf, type Plan } from './plan.ts'
import { type Measure, measured } from './quality-metrics.ts'
import { type Attempt, type CurrentLoad, type LoadCounts, loadOnce, type RowCounts } from './receipt.ts'
import { type Duplicates, rejectKeys } from './reject-keys.ts'
import { quickHash, rowHash } from './row-hash.ts'
import { changeSchema, type SchemaChange } from './schema-change.ts'
import { countRejected, fileOf, quarantine, type Staging } from './staging.ts'
import { type Stream, stageStream } from './stream.ts'
import { keepWatermark, type Watermark } from './watermark.ts'

/** A load into a versioned table. */
export type VersionedLoad = {
  attempt: Attempt
  orgId: string
  /** Who caused it: stands in every version that it writes. */
  actor: string
  table: string
  /** Columns that tell rows apart. Empty means those of the table, or such as are found in the rows when it is new. */
  businessKey: readonly string[]
  /** `full`: rows that the source no longer has are deleted. `delta`: the source has changed rows only. */
  snapshot: 'full' | 'delta'
  /** Of a full snapshot: only rows are deleted whose values in these columns the source has somewhere. Default: none. */
  partitionBy?: readonly string[]
  /** Of a full snapshot: only the record of this composite key is deleted. */
  onlyKey?: string
  /** Default: `last_wins`. */
  duplicates?: Duplicates
  /** Changes of columns that come before the rows, and the columns that the table had when they were decided on. */
  changes?: readonly SchemaChange[]
  seen?: readonly Column[]
  watermark?: Watermark
  plan?: Plan
  /** The share of the rows that a full snapshot may delete, see `guardDeletes`. By default all of them. */
  deleteLimit?: number
  /** Measures the load when its rows are in, before it commits. By default the share of rows that got in. */
  measure?: Measure
  /** Rows with the types of the table, as it is after `changes`, where it has those columns. */
  source: Staging | Stream
}

/**
 * Brings a versioned table to the state of the source: a new version for each row that is new, changed or gone, and
 * nothing for the rest, so an unchanged reload writes no row. A deleted key keeps a tombstone as its current version and
 * goes on counting when it comes back. Of rows with the same key one counts (the last one of a file) or none, as
 * `duplicates` says; the others and rows without a key are quarantined. A record whose row was rejected stays as it was,
 * as far as its key can be read. All of it is one transaction with its receipt and its watermark.
 * A column that is new is added; throws SCHEMA_MISMATCH when one is missing or another type, KEY_INVALID for a key that
 * is no column, not the table's, or was detected and no longer holds, CONFLICT as `loadOnce` does.
 */
export async function loadVersioned(connection: Connection, load: VersionedLoad): Promise<LoadCounts> {
  const before = await findTable(connection, load.table)
  const isReadTwice =
    load.plan || load.watermark || load.partitionBy?.length || (!before && load.businessKey.length === 0)
  const source = 'batches' in load.source && isReadTwice ? await stageStream(connection, load.source) : load.source
  const ready = { ...load, source }
  const counts = await loadOnce(
    connection,
    load.attempt,
    load.table,
    async (current) => {
      const table = await prepareTable(connection, ready, current)
      const rows = await loadRows(connection, ready, table, current)
      const counts = { ...rows, businessKey: table.businessKey, keySource: table.keySource }
      return load.measure
        ? await load.measure(counts, current)
        : await measured(connection, load.attempt, table.name, counts, current)
    },
    load.plan,
  )
  if (!before && counts.load > 0) await refreshChangeLog(connection)
  return counts
}

async function loadRows(
  connection: Connection,
  load: VersionedLoad,
  table: Table,
  current: CurrentLoad,
): Promise<RowCounts> {
  const keys = table.businessKey.map((name) => keyColumn(name, load.source.columns))
  const [any] = await connection.rows(`SELECT 1 FROM ${versionsOf(table.name)} LIMIT 1`)
  const isFirst = any === undefined
  if (isFirst && 'batches' in load.source) return await loadStream(connection, load, load.source, table, keys, current)
  const staging = 'relation' in load.source ? load.source : await stageStream(connection, load.source)
  if (load.plan) current.content = await contentOf(connection, staging.relation, staging.columns)
  const found = await rejectKeys(connection, {
    ...staging,
    keys,
    place: '__row',
    duplicates: load.duplicates ?? 'last_wins',
  })
  refuseGuess(table, found.duplicates)
  const changes = isFirst
    ? await loadFirst(connection, load, table, keys, staging, current)
    : await applyChanges(connection, load, table, keys, staging, current)
  if (load.watermark) await keepWatermark(connection, load.attempt, load.table, load.watermark, staging.relation)
  const { rejected, discarded } = await quarantine(connection, load.attempt, table.name, staging)
  return { ...changes, rowsIn: changes.rowsIn + rejected, rejected, discarded, duplicates: found.duplicates }
}

// A key that nobody named is a guess: as long as it holds it is as good as a given one, and no row is lost to it.
function refuseGuess(table: Table, duplicates: number): void {
  if (table.keySource === 'given' || duplicates === 0) return
  throw new AppError(
    'KEY_INVALID',
    `The key ${table.businessKey.join(', ')} of ${table.name} was found in the rows of its first load, and ${duplicates} rows of this one repeat it: name its business_key.`,
  )
}

async function prepareTable(connection: Connection, load: VersionedLoad, current: CurrentLoad): Promise<Table> {
  const { columns } = load.source
  const found = await findTable(connection, load.table)
  if (!found) return await makeTable(connection, load)
  if (found.kind !== 'versioned')
    throw new AppError('SCHEMA_MISMATCH', `The table ${load.table} keeps no versions: it was made by another mode.`)
  refuseRace(found, load.seen)
  const changed = await changeSchema(connection, found, load.changes ?? [])
  const keyed = await chooseKey(connection, load.orgId, changed.table, load.businessKey)
  const staged = new Map(columns.map((column) => [column.name.toLowerCase(), column]))
  for (const column of keyed.columns) {
    const given = staged.get(column.name.toLowerCase())
    if (!given)
      throw new AppError(
        'SCHEMA_MISMATCH',
        `The source has no column ${JSON.stringify(column.name)}, which the table ${load.table} has: select it (NULL will do), or let the contract say what a missing column means.`,
      )
    if (!sameType(given.type, column.type))
      throw new AppError(
        'SCHEMA_MISMATCH',
        `The column ${column.name} is ${column.type} in the table, not ${given.type}.`,
      )
  }
  const there = new Set(keyed.columns.map((column) => column.name.toLowerCase()))
  const added = await changeSchema(
    connection,
    keyed,
    columns
      .filter((column) => !there.has(column.name.toLowerCase()))
      .map(({ name, type }) => ({ change: 'add', column: name, type })),
  )
  current.schema.push(...changed.done, ...added.done)
  return added.table
}

async function makeTable(connection: Connection, load: VersionedLoad): Promise<Table> {
  const { source, businessKey } = load
  if (businessKey.length > 0) {
    const key = businessKey.map((name) => keyColumn(name, source.columns).name)
    return await createVersioned(connection, load.table, source.columns, key)
  }
  const relation = 'relation' in source ? source.relation : 'temp.staged'
  const key = await detectKey(connection, relation, load.table, source.columns)
  return await createVersioned(connection, load.table, source.columns, key, 'detected')
}

/** Throws CONFLICT (retry later) when a table has other columns than those that changes were decided on. */
export function refuseRace(table: Table, seen: readonly Column[] | undefined): void {
  const form = (columns: readonly Column[]): string => columns.map(({ name, type }) => `${name} ${type}`).join('\u001f')
  if (seen && form(seen) !== form(table.columns))
    throw new AppError('CONFLICT', `Another step changed the columns of ${table.name} at the same time.`, {
      retry: 'later',
    })
}

// Into an empty table every row is a first version; there is nothing to compare.
async function loadFirst(
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

// Straight from the reader, and the keys are looked at afterwards, inside the transaction.
async function loadStream(
  connection: Connection,
  load: VersionedLoad,
  stream: Stream,
  table: Table,
  keys: readonly Column[],
  current: CurrentLoad,
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
  refuseGuess(table, duplicates)
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
  const { moment, mark } = origin(load, current)
  return `INSERT INTO ${versionsOf(table.name)} (${names})
    SELECT ${literal(load.orgId)}, ${compositeKey(load.orgId, table.name, keys)}, 1, ${rowHash(table.columns)}, 'INSERT',
      NULL, NULL, ${literal(load.actor)}, ${moment}, ${moment}, true, false, ${file}, ${mark},
      ${table.columns.map((column) => quoted(column.name)).join(', ')} FROM ${relation}`
}

// Which load wrote a version, in the order of the envelope: its moment, then run, step, attempt and number.
function origin(load: VersionedLoad, current: CurrentLoad): { moment: string; mark: string } {
  const { runId, stepKey, number } = load.attempt
  return {
    moment: `${literal(current.moment)}::TIMESTAMPTZ`,
    mark: `${literal(runId)}, ${literal(stepKey)}, ${number}, ${current.number}`,
  }
}

async function applyChanges(
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
  const { moment, mark } = origin(load, current)
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
