import type { DataRow } from '../../shared/datasets/reader.ts'
import { builder } from '../graphql/builder.ts'
import { pageArgs } from '../graphql/page.ts'
import { readData } from './read-data.ts'

type LakeTable = DataRow & {
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

type CurrentRow = DataRow & { key: string | null; values: unknown }
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

type VersionRow = DataRow & {
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

type ActivityRow = DataRow & {
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

type FrequencyRow = DataRow & { name: string; changes: number; users: number; firstAt: number; lastAt: number }
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

type QualityRow = DataRow & {
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

type LineageRow = DataRow & {
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

const Bucket = builder.enumType('ActivityBucket', {
  description: 'Spans of time in UTC.',
  values: {
    HOUR: { value: 'hour', description: 'Hours.' },
    DAY: { value: 'day', description: 'Days.' },
    WEEK: { value: 'week', description: 'Weeks, from Monday.' },
    MONTH: { value: 'month', description: 'Months.' },
  } as const,
})
const Changed = builder.enumType('Changed', {
  description: 'What is counted.',
  values: {
    RECORD: { value: 'record', description: 'Changes of each record.' },
    FIELD: { value: 'field', description: 'Changes of each field.' },
  } as const,
})

const TableConnection = builder.connectionObject(
  { type: Table, name: 'TableConnection', description: 'A page of the list.' },
  { name: 'TableEdge', description: 'An item and its place in the list.' },
)
const TableRowConnection = builder.connectionObject(
  { type: TableRow, name: 'TableRowConnection', description: 'A page of the list.' },
  { name: 'TableRowEdge', description: 'An item and its place in the list.' },
)
const RecordVersionConnection = builder.connectionObject(
  { type: RecordVersion, name: 'RecordVersionConnection', description: 'A page of the list.' },
  { name: 'RecordVersionEdge', description: 'An item and its place in the list.' },
)
const UserActivityConnection = builder.connectionObject(
  { type: UserActivity, name: 'UserActivityConnection', description: 'A page of the list.' },
  { name: 'UserActivityEdge', description: 'An item and its place in the list.' },
)
const ChangeFrequencyConnection = builder.connectionObject(
  { type: ChangeFrequency, name: 'ChangeFrequencyConnection', description: 'A page of the list.' },
  { name: 'ChangeFrequencyEdge', description: 'An item and its place in the list.' },
)
const QualityMeasureConnection = builder.connectionObject(
  { type: QualityMeasure, name: 'QualityMeasureConnection', description: 'A page of the list.' },
  { name: 'QualityMeasureEdge', description: 'An item and its place in the list.' },
)
const LineageEntryConnection = builder.connectionObject(
  { type: LineageEntry, name: 'LineageEntryConnection', description: 'A page of the list.' },
  { name: 'LineageEntryEdge', description: 'An item and its place in the list.' },
)

builder.queryFields((t) => {
  const scoped = { authScopes: { scope: 'data:read' }, extensions: { waits: 1 } } as const
  const table = t.arg.string({ required: true, description: 'Name of the table.' })
  const span = {
    since: t.arg({ type: 'DateTime', description: 'At or after this moment.' }),
    until: t.arg({ type: 'DateTime', description: 'Before this moment.' }),
  }
  return {
    tables: t.field({
      ...scoped,
      type: TableConnection,
      description: 'Tables of the lake, by name.',
      args: pageArgs,
      resolve: (_root, args, context) => readData<LakeTable>(context, 'tables', args),
    }),
    tableRows: t.field({
      ...scoped,
      type: TableRowConnection,
      description: 'Rows of a table as they are, or were at a moment or after a load.',
      args: {
        ...pageArgs,
        table,
        at: t.arg({ type: 'DateTime', description: 'As they were at this moment; of a versioned table.' }),
        load: t.arg({ type: 'BigInt', description: 'As they were after this load.' }),
      },
      resolve: (_root, args, context) => readData<CurrentRow>(context, 'rows', args),
    }),
    recordHistory: t.field({
      ...scoped,
      type: RecordVersionConnection,
      description: 'All versions of one record, newest first.',
      args: {
        ...pageArgs,
        table,
        key: t.arg({ type: 'JSON', required: true, description: 'Values of its business key by column: `{"id": 7}`.' }),
      },
      resolve: (_root, args, context) => readData<VersionRow>(context, 'versions', args),
    }),
    changeLog: t.field({
      ...scoped,
      type: RecordVersionConnection,
      description: 'Changes of a table’s records, newest first.',
      args: {
        ...pageArgs,
        table,
        ...span,
        changeTypes: t.arg.stringList({ description: 'Only `INSERT`, `UPDATE` or `DELETE`; default: all.' }),
        changedBy: t.arg.string({ description: 'Only those of this person or program.' }),
      },
      resolve: (_root, args, context) => readData<VersionRow>(context, 'versions', args),
    }),
    userActivity: t.field({
      ...scoped,
      type: UserActivityConnection,
      description: 'Who changed how much of a table, the newest span of time first.',
      args: {
        ...pageArgs,
        table,
        ...span,
        per: t.arg({ type: Bucket, description: 'Spans of this length.', defaultValue: 'day' }),
      },
      resolve: (_root, args, context) => readData<ActivityRow>(context, 'activity', args),
    }),
    changeFrequency: t.field({
      ...scoped,
      type: ChangeFrequencyConnection,
      description: 'Which records or fields of a table change most often.',
      args: {
        ...pageArgs,
        table,
        ...span,
        of: t.arg({ type: Changed, description: 'Records or fields.', defaultValue: 'record' }),
      },
      resolve: (_root, args, context) => readData<FrequencyRow>(context, 'frequency', args),
    }),
    qualityTrend: t.field({
      ...scoped,
      type: QualityMeasureConnection,
      description: 'How good a table was at each load and check, newest first.',
      args: { ...pageArgs, table, ...span },
      resolve: (_root, args, context) => readData<QualityRow>(context, 'quality', args),
    }),
    lineage: t.field({
      ...scoped,
      type: LineageEntryConnection,
      description: 'What a table was made from and what was made from it, newest first.',
      args: { ...pageArgs, table },
      resolve: (_root, args, context) => readData<LineageRow>(context, 'lineage', args),
    }),
  }
})
