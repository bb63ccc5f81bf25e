import { AppError } from '../../shared/errors.ts'
import type { Column } from '../define.ts'
import { findTable, register, type Table } from './catalog.ts'
import { keyColumn } from './choose-key.ts'
import type { Connection } from './connection.ts'
import { sameType } from './fit-columns.ts'
import { partitionOf } from './apply-changes.ts'
import { refuseRace } from './load-versioned.ts'
import { plainOf, quoted } from './names.ts'
import { contentOf, type Plan } from './plan.ts'
import { type Measure, measured } from './quality-metrics.ts'
import { type Attempt, type CurrentLoad, type LoadCounts, loadOnce, type RowCounts } from './receipt.ts'
import { changeSchema, type SchemaChange } from './schema-change.ts'
import { quarantine, type Staging } from './staging.ts'
import { type Stream, stageStream } from './stream.ts'
import { keepWatermark, refuseUnmarked, type Watermark } from './watermark.ts'

/** A load into a table without versions. */
export type PlainLoad = {
  attempt: Attempt
  table: string
  /**
   * `append` adds to what is there, `replace` puts the new rows in its place: of all rows, or with `partitionBy` of those
   * whose values in these columns the source has somewhere.
   */
  mode: 'append' | 'replace'
  partitionBy?: readonly string[]
  /** As in a versioned load. */
  changes?: readonly SchemaChange[]
  seen?: readonly Column[]
  watermark?: Watermark
  plan?: Plan
  measure?: Measure
  source: Staging | Stream
}

/**
 * Loads rows into a plain table in one transaction with its receipt and its watermark. A table that is replaced gets the
 * columns of the source; one whose rows stay gets those that are new.
 * Throws SCHEMA_MISMATCH when the table is a versioned one, or when one whose rows stay has other columns.
 */
export async function loadPlain(connection: Connection, load: PlainLoad): Promise<LoadCounts> {
  const isReadTwice = load.plan || load.watermark || load.partitionBy?.length
  const source = 'batches' in load.source && isReadTwice ? await stageStream(connection, load.source) : load.source
  return await loadOnce(
    connection,
    load.attempt,
    load.table,
    async (current) => {
      const counts = await loadRows(connection, { ...load, source }, current)
      return load.measure
        ? await load.measure(counts, current)
        : await measured(connection, load.attempt, load.table, counts, current)
    },
    load.plan,
  )
}

async function loadRows(connection: Connection, load: PlainLoad, current: CurrentLoad): Promise<RowCounts> {
  const { source } = load
  const isWhole = load.mode === 'replace' && !load.partitionBy?.length
  if (load.plan && 'relation' in source) current.content = await contentOf(connection, source.relation, source.columns)
  const gone = isWhole ? await countRows(connection, load.table) : 0
  if (!isWhole) await follow(connection, load, current)
  await preparePlain(connection, load.table, isWhole ? 'replace' : 'append', source.columns)
  const deleted = load.partitionBy?.length && !isWhole ? await emptyPartitions(connection, load) : gone
  const names = source.columns.map((column) => quoted(column.name)).join(', ')
  const insert = (relation: string): string =>
    `INSERT INTO ${plainOf(load.table)} (${names}) SELECT ${names} FROM ${relation}`
  if ('relation' in source) {
    if (load.watermark) await refuseUnmarked(connection, load.watermark, source.relation)
    const inserted = await connection.run(insert(source.relation))
    if (load.watermark) await keepWatermark(connection, load.attempt, load.table, load.watermark, source.relation)
    const { rejected, discarded } = await quarantine(connection, load.attempt, load.table, source)
    return { rowsIn: inserted + rejected, rejected, discarded, inserted, updated: 0, deleted, unchanged: 0 }
  }
  let inserted = 0
  for await (const batch of source.batches) {
    const rows = await connection.run(insert(batch.relation))
    inserted += rows
    await batch.loaded(rows)
  }
  return { rowsIn: inserted, rejected: 0, inserted, updated: 0, deleted, unchanged: 0 }
}

// Brings the columns of a table whose rows stay to those of the source.
async function follow(connection: Connection, load: PlainLoad, current: CurrentLoad): Promise<void> {
  const found = await findPlain(connection, load.table)
  if (!found) return
  refuseRace(found, load.seen)
  const changed = await changeSchema(connection, found, load.changes ?? [])
  const there = new Set(changed.table.columns.map(({ name }) => name.toLowerCase()))
  const added = await changeSchema(
    connection,
    changed.table,
    load.source.columns
      .filter(({ name }) => !there.has(name.toLowerCase()))
      .map(({ name, type }) => ({ change: 'add', column: name, type })),
  )
  current.schema.push(...changed.done, ...added.done)
}

async function emptyPartitions(connection: Connection, load: PlainLoad): Promise<number> {
  const columns = (load.partitionBy ?? []).map((name) => keyColumn(name, load.source.columns).name)
  if (!('relation' in load.source)) return 0
  return await connection.run(
    `DELETE FROM ${plainOf(load.table)} WHERE ${partitionOf(columns)} IN (
       SELECT DISTINCT ${partitionOf(columns)} FROM ${load.source.relation})`,
  )
}

async function countRows(connection: Connection, name: string): Promise<number> {
  if (!(await findPlain(connection, name))) return 0
  const [row] = await connection.rows(`SELECT count(*)::BIGINT AS n FROM ${plainOf(name)}`)
  return Number(row?.['n'])
}

/** Makes the plain table as the mode wants it; inside a transaction. */
export async function preparePlain(
  connection: Connection,
  name: string,
  mode: PlainLoad['mode'],
  columns: readonly Column[],
): Promise<void> {
  const found = await findPlain(connection, name)
  if (found && mode === 'append') {
    const given = new Map(columns.map((column) => [column.name.toLowerCase(), column.type]))
    const isSame =
      given.size === found.columns.length &&
      found.columns.every((column) => sameType(given.get(column.name.toLowerCase()) ?? '', column.type))
    if (isSame) return
    throw new AppError(
      'SCHEMA_MISMATCH',
      `The table ${name} has the columns ${found.columns.map((column) => `${column.name} ${column.type}`).join(', ')}.`,
    )
  }
  const list = columns.map((column) => `${quoted(column.name)} ${column.type}`).join(', ')
  await connection.run(`CREATE OR REPLACE TABLE ${plainOf(name)} (${list})`)
  await register(connection, name, 'plain', [])
}

/** The plain table of this name, or undefined. Throws SCHEMA_MISMATCH when the name is a versioned table's. */
export async function findPlain(connection: Connection, name: string): Promise<Table | undefined> {
  const found = await findTable(connection, name)
  if (found?.kind === 'view')
    throw new AppError('SCHEMA_MISMATCH', `The table ${name} is a view: only mode view can write it.`)
  if (found?.kind !== 'versioned') return found
  throw new AppError('SCHEMA_MISMATCH', `The table ${name} keeps versions: only mode versioned can write it.`)
}
