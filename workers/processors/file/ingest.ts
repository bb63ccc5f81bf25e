import { extname } from 'node:path'
import { stat } from 'node:fs/promises'
import { z } from 'zod'
import { AppError } from '../../../shared/errors.ts'
import { defineProcessor, type StepContext, type StepResult } from '../../define.ts'
import { conform, type Conformity, typesInAdvance } from '../../formats/conform.ts'
import { type InputFile, stageCsv } from '../../formats/csv.ts'
import { declaredColumns } from '../../formats/declared-columns.ts'
import { stageJson } from '../../formats/json.ts'
import { stageParquet } from '../../formats/parquet.ts'
import { readSchemaFiles } from '../../formats/schema-file.ts'
import { findTable } from '../../lake/catalog.ts'
import type { Connection } from '../../lake/connection.ts'
import { contractOf } from '../../lake/contract.ts'
import { alertMail, attemptOf, destination, isMadeAnew, loadInto, loadOutputs } from '../../lake/destination.ts'
import { findReceipt } from '../../lake/receipt.ts'
import { openRejected, renameColumns, type Staging } from '../../lake/staging.ts'

const source = z.strictObject({
  path: z.string().min(1).describe('A path in the tenant folder; `*`, `?` and `**` match several files.'),
  format: z
    .enum(['csv', 'json', 'ndjson', 'parquet'])
    .optional()
    .describe('By default what the name ends with, else csv.'),
  columns: declaredColumns,
  rename: z
    .record(z.string().min(1), z.string().min(1).max(255))
    .default({})
    .describe('New names of columns, by the name in the file.'),
  delimiter: z
    .string()
    .regex(/^[\t -~]$/, 'one character')
    .default(',')
    .describe('CSV: what stands between fields.'),
  quote: z
    .string()
    .regex(/^[!-~]$/, 'one character')
    .default('"')
    .describe('CSV: what encloses a field.'),
  header: z.boolean().default(true).describe('CSV: false takes the names from `columns`, in their order.'),
  null_values: z
    .array(z.string().max(100))
    .min(1)
    .max(20)
    .default([''])
    .describe('CSV: texts that mean NULL where they stand without quotes.'),
  encoding: z.enum(['utf-8', 'utf-16', 'latin-1']).default('utf-8').describe('CSV: the encoding of the file.'),
})
type Source = z.output<typeof source>

/** Reads files of the tenant's folder into a table of the lake. */
export default defineProcessor({
  type: 'file.ingest',
  title: 'Ingest files',
  description:
    'Reads CSV, JSON or Parquet files of the tenant folder into a table; rows that do not fit are quarantined.',
  queue: 'ingest',
  settings: z.strictObject({ source, destination }),
  credentialProviders: [],
  async run(ctx, { source, destination }): Promise<StepResult> {
    using connection = await ctx.lake.connect(ctx.signal)
    const done = await findReceipt(connection, attemptOf(ctx))
    if (done) return { outputs: loadOutputs(destination.table, done), mail: alertMail(ctx, destination, done) }
    const files = await inputFiles(ctx, source.path)
    await openRejected(connection)
    const table = isMadeAnew(destination) ? undefined : await findTable(connection, destination.table)
    const want = {
      declared: source.columns,
      schemaFiles: await readSchemaFiles(ctx.files, ctx.tenant.id, destination.table),
      table,
      contract: contractOf(destination.contract),
      renames: destination.rename_columns,
      allowsLoss: destination.dry_run || destination.plan !== undefined,
    }
    const staging = renameColumns(await stage(connection, ctx, source, files, want), source.rename)
    const { staging: rows, changes } = await conform(connection, staging, want)
    const counts = await loadInto(connection, ctx, destination, rows, table ? { changes, seen: table.columns } : {})
    if (counts.rejected > 0) ctx.log('warn', `${counts.rejected} of ${counts.rowsIn} rows were quarantined.`)
    return { outputs: loadOutputs(destination.table, counts), mail: alertMail(ctx, destination, counts) }
  },
})

async function inputFiles(ctx: StepContext, path: string): Promise<InputFile[]> {
  const names = await ctx.files.match([path])
  if (names.length === 0) throw new AppError('FILE_MISSING', `No file matches ${JSON.stringify(path)}.`)
  return await Promise.all(names.map(async (name) => ({ name, path: await ctx.files.resolve(name) })))
}

async function stage(
  connection: Connection,
  ctx: StepContext,
  source: Source,
  files: readonly InputFile[],
  want: Conformity,
): Promise<Staging> {
  const sizes = await Promise.all(files.map(async (file) => (await stat(file.path)).size))
  const total = sizes.reduce((sum, size) => sum + size, 0)
  let done = 0
  const loaded = (bytes: number): void => {
    done += bytes
    ctx.progress({ done, total, unit: 'bytes', note: 'read' })
  }
  const format = source.format ?? formatOf(files[0]?.name ?? '')
  if (format === 'parquet') return await stageParquet(connection, files)
  if (format !== 'csv') return await stageJson(connection, files, format, loaded)
  const names = Object.keys(source.columns)
  if (!source.header && names.length === 0)
    throw new AppError('CONFIG_INVALID', 'A file without a header needs source.columns for the names.')
  const options = { ...source, nullValues: source.null_values }
  const isRenamed = Object.keys(source.rename).length > 0
  return await stageCsv(connection, files, options, {
    workDir: ctx.workDir,
    names,
    signal: ctx.signal,
    loaded,
    typesOf: (names) => (isRenamed ? undefined : typesInAdvance(names, want)),
  })
}

function formatOf(name: string): 'csv' | 'json' | 'ndjson' | 'parquet' {
  const ending = extname(name).toLowerCase()
  if (ending === '.parquet') return 'parquet'
  if (ending === '.ndjson' || ending === '.jsonl') return 'ndjson'
  return ending === '.json' ? 'json' : 'csv'
}
