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

builder.queryFields((t) => {
  const scoped = { authScopes: { scope: 'data:read' }, extensions: { waits: 1 } } as const
  const table = t.arg.string({ required: true, description: 'Name of the table.' })
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
        since: t.arg({ type: 'DateTime', description: 'At or after this moment.' }),
        until: t.arg({ type: 'DateTime', description: 'Before this moment.' }),
        changeTypes: t.arg.stringList({ description: 'Only `INSERT`, `UPDATE` or `DELETE`; default: all.' }),
        changedBy: t.arg.string({ description: 'Only those of this person or program.' }),
      },
      resolve: (_root, args, context) => readData<VersionRow>(context, 'versions', args),
    }),
  }
})
