import { builder } from '../graphql/builder.ts'
import { pageArgs } from '../graphql/page.ts'
import { readData } from './read-data.ts'
import {
  type LakeTable,
  type CurrentRow,
  type VersionRow,
  type ActivityRow,
  type FrequencyRow,
  type QualityRow,
  type LineageRow,
  TableConnection,
  TableRowConnection,
  RecordVersionConnection,
  UserActivityConnection,
  ChangeFrequencyConnection,
  QualityMeasureConnection,
  LineageEntryConnection,
  Bucket,
  Changed,
} from './types.ts'

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
