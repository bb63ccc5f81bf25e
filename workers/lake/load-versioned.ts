import { AppError } from '../../shared/errors.ts'
import type { Column } from '../define.ts'
import { applyChanges } from './apply-changes.ts'
import { createVersioned, findTable, type Table } from './catalog.ts'
import { chooseKey, keyColumn } from './choose-key.ts'
import type { Connection } from './connection.ts'
import { detectKey } from './detect-key.ts'
import { loadFirst, loadStream } from './first-versions.ts'
import { sameType } from './fit-columns.ts'
import { versionsOf } from './names.ts'
import { refreshChangeLog } from './meta.ts'
import { contentOf, type Plan } from './plan.ts'
import { type Measure, measured } from './quality-metrics.ts'
import { type Attempt, type CurrentLoad, type LoadCounts, loadOnce, type RowCounts } from './receipt.ts'
import { type Duplicates, rejectKeys } from './reject-keys.ts'
import { changeSchema, type SchemaChange } from './schema-change.ts'
import { quarantine, type Staging } from './staging.ts'
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
  if (isFirst && 'batches' in load.source)
    return await loadStream(connection, load, load.source, table, keys, current, refuseGuess)
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
