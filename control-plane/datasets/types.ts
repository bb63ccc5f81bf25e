import type { DataRow } from '../../shared/datasets/reader.ts'
import { builder } from '../graphql/builder.ts'

/** A table as the lake tells of it. */
export type LakeTable = DataRow & {
  name: string
  kind: string
  key: string[]
  columns: { name: string; type: string }[]
  rows: number | null
  load: number | null
  loadedAt: number | null
}
const TableColumn = builder.objectRef<{ name: string; type: string }>('TableColumn').implement({
  description: 'A column of a table.',
  fields: (t) => ({
    name: t.exposeString('name', { description: 'Its name.' }),
    type: t.exposeString('type', { description: 'Its type, as DuckDB names it.' }),
  }),
})
const moment = (ms: number | null): Date | null => (ms === null ? null : new Date(ms))

const Table = builder.objectRef<LakeTable>('Table').implement({
  description: 'A table of the tenant’s lake.',
  fields: (t) => ({
    name: t.exposeString('name', { description: 'Its name.' }),
    kind: t.exposeString('kind', { description: '`versioned`, `plain` or `view`.' }),
    businessKey: t.exposeStringList('key', { description: 'The columns that tell its records apart.' }),
    columns: t.field({ type: [TableColumn], description: 'Its columns, in order.', resolve: (row) => row.columns }),
    rowCount: t.field({
      type: 'BigInt',
      nullable: true,
      description: 'How many rows it has now; null for a view.',
      resolve: (row) => row.rows,
    }),
    loadNumber: t.field({
      type: 'BigInt',
      nullable: true,
      description: 'Number of its last load.',
      resolve: (row) => row.load,
    }),
    loadedAt: t.field({
      type: 'DateTime',
      nullable: true,
      description: 'When that was.',
      resolve: (row) => moment(row.loadedAt),
    }),
  }),
})

/** A row as it is or was. */
export type CurrentRow = DataRow & { key: string | null; values: unknown }
const TableRow = builder.objectRef<CurrentRow>('TableRow').implement({
  description: 'A row of a table.',
  fields: (t) => ({
    compositeKey: t.exposeString('key', { nullable: true, description: 'Its key in a versioned table.' }),
    values: t.field({
      type: 'JSON',
      description: 'Values by column. Those that JavaScript’s numbers cannot hold come as text.',
      resolve: (row) => row.values,
    }),
  }),
})

/** A version of a record. */
export type VersionRow = DataRow & {
  key: string
  version: number
  previous: number | null
  change: string
  fields: string[] | null
  who: string
  happened: number
  run: string
  step: string | null
  file: string | null
  load: number | null
  hash: string
  previousHash: string | null
  values: unknown
}
const RecordVersion = builder.objectRef<VersionRow>('RecordVersion').implement({
  description: 'One version of a record: who changed it, by which run, and what it was from then on.',
  fields: (t) => ({
    compositeKey: t.exposeString('key', { description: 'The record.' }),
    version: t.exposeInt('version', { description: 'From 1, without gaps.' }),
    previousVersion: t.exposeInt('previous', { nullable: true, description: 'The version before.' }),
    changeType: t.exposeString('change', { description: '`INSERT`, `UPDATE` or `DELETE`.' }),
    changedFields: t.exposeStringList('fields', { nullable: true, description: 'What an update changed.' }),
    changedBy: t.exposeString('who', { description: 'Who started the run.' }),
    changedAt: t.field({ type: 'DateTime', description: 'When.', resolve: (row) => new Date(row.happened) }),
    runId: t.exposeString('run', { description: 'The run.' }),
    stepKey: t.exposeString('step', { nullable: true, description: 'Its step.' }),
    sourceFile: t.exposeString('file', { nullable: true, description: 'The file that it came from.' }),
    loadNumber: t.field({
      type: 'BigInt',
      nullable: true,
      description: 'The load of the table.',
      resolve: (row) => row.load,
    }),
    dataHash: t.exposeString('hash', { description: 'SHA-256 of the row.' }),
    previousDataHash: t.exposeString('previousHash', { nullable: true, description: 'That of the version before.' }),
    values: t.field({ type: 'JSON', description: 'Values by column.', resolve: (row) => row.values }),
  }),
})

/** What one person or program changed in a span of time. */
export type ActivityRow = DataRow & {
  bucket: number
  who: string
  inserted: number
  updated: number
  deleted: number
  records: number
  lastAt: number
}
const UserActivity = builder.objectRef<ActivityRow>('UserActivity').implement({
  description: 'What one person or program changed in a span of time.',
  fields: (t) => {
    const count = (name: 'inserted' | 'updated' | 'deleted' | 'records', description: string) =>
      t.field({ type: 'BigInt', description, resolve: (row) => row[name] })
    return {
      changedBy: t.exposeString('who', { description: 'Who started the runs.' }),
      from: t.field({ type: 'DateTime', description: 'When the span begins.', resolve: (row) => new Date(row.bucket) }),
      inserted: count('inserted', 'Records that came.'),
      updated: count('updated', 'Changes of records.'),
      deleted: count('deleted', 'Records that went.'),
      records: count('records', 'How many different records that were.'),
      lastAt: t.field({ type: 'DateTime', description: 'The last of them.', resolve: (row) => new Date(row.lastAt) }),
    }
  },
})

/** How often a record or field changed. */
export type FrequencyRow = DataRow & { name: string; changes: number; users: number; firstAt: number; lastAt: number }
const ChangeFrequency = builder.objectRef<FrequencyRow>('ChangeFrequency').implement({
  description: 'How often a record or a field was changed.',
  fields: (t) => ({
    name: t.exposeString('name', { description: 'Composite key of the record, or name of the field.' }),
    changes: t.field({ type: 'BigInt', description: 'How often.', resolve: (row) => row.changes }),
    users: t.field({ type: 'BigInt', description: 'By how many.', resolve: (row) => row.users }),
    firstAt: t.field({ type: 'DateTime', description: 'The first time.', resolve: (row) => new Date(row.firstAt) }),
    lastAt: t.field({ type: 'DateTime', description: 'The last time.', resolve: (row) => new Date(row.lastAt) }),
  }),
})

/** How good a table was at a load or check. */
export type QualityRow = DataRow & {
  measured: number
  run: string
  step: string
  score: number
  rows: number
  checks: number
  failed: number
}
const QualityMeasure = builder.objectRef<QualityRow>('QualityMeasure').implement({
  description: 'A measurement of a table by a load or a check.',
  fields: (t) => ({
    measuredAt: t.field({ type: 'DateTime', description: 'When.', resolve: (row) => new Date(row.measured) }),
    runId: t.exposeString('run', { description: 'The run.' }),
    stepKey: t.exposeString('step', { description: 'Its step.' }),
    score: t.exposeFloat('score', { description: 'Part of the checks that held, 0 to 1.' }),
    rowCount: t.field({ type: 'BigInt', description: 'Rows that were looked at.', resolve: (row) => row.rows }),
    checks: t.field({ type: 'BigInt', description: 'Checks that were made.', resolve: (row) => row.checks }),
    failed: t.field({ type: 'BigInt', description: 'Those that did not hold.', resolve: (row) => row.failed }),
  }),
})

/** What a table was made from. */
export type LineageRow = DataRow & {
  target: string
  targetColumn: string | null
  source: string
  sourceColumn: string | null
  relation: string
  run: string
  step: string
  recorded: number
}
const LineageEntry = builder.objectRef<LineageRow>('LineageEntry').implement({
  description: 'What a table or a column was made from.',
  fields: (t) => ({
    targetTable: t.exposeString('target', { description: 'The table that was made.' }),
    targetColumn: t.exposeString('targetColumn', { nullable: true, description: 'Its column; null for all of it.' }),
    sourceTable: t.exposeString('source', { description: 'The table that was read.' }),
    sourceColumn: t.exposeString('sourceColumn', { nullable: true, description: 'Its column.' }),
    relation: t.exposeString('relation', { description: '`read`, and of columns `copied` or `computed`.' }),
    runId: t.exposeString('run', { description: 'The last run that did so.' }),
    stepKey: t.exposeString('step', { description: 'Its step.' }),
    recordedAt: t.field({ type: 'DateTime', description: 'When.', resolve: (row) => new Date(row.recorded) }),
  }),
})

/** Spans of time in UTC. */
export const Bucket = builder.enumType('ActivityBucket', {
  description: 'Spans of time in UTC.',
  values: {
    HOUR: { value: 'hour', description: 'Hours.' },
    DAY: { value: 'day', description: 'Days.' },
    WEEK: { value: 'week', description: 'Weeks, from Monday.' },
    MONTH: { value: 'month', description: 'Months.' },
  } as const,
})
/** What changes are counted of. */
export const Changed = builder.enumType('Changed', {
  description: 'What is counted.',
  values: {
    RECORD: { value: 'record', description: 'Changes of each record.' },
    FIELD: { value: 'field', description: 'Changes of each field.' },
  } as const,
})

/** A page of tables. */
export const TableConnection = pageOf(Table)
/** A page of rows. */
export const TableRowConnection = pageOf(TableRow)
/** A page of versions. */
export const RecordVersionConnection = pageOf(RecordVersion)
/** A page of who changed how much. */
export const UserActivityConnection = pageOf(UserActivity)
/** A page of what changes most often. */
export const ChangeFrequencyConnection = pageOf(ChangeFrequency)
/** A page of measures of quality. */
export const QualityMeasureConnection = pageOf(QualityMeasure)
/** A page of lineage. */
export const LineageEntryConnection = pageOf(LineageEntry)

function pageOf<Row extends DataRow>(type: ReturnType<ReturnType<typeof builder.objectRef<Row>>['implement']>) {
  return builder.connectionObject(
    { type, name: `${type.name}Connection`, description: 'A page of the list.' },
    { name: `${type.name}Edge`, description: 'An item and its place in the list.' },
  )
}
