import { rm } from 'node:fs/promises'
import { z } from 'zod'
import { AppError } from '../../../shared/errors.ts'
import { type Column, defineProcessor, type Extract, type StepContext, type StepResult } from '../../define.ts'
import { findTable } from '../../lake/catalog.ts'
import { attemptOf, destination, loadInto, loadOutputs } from '../../lake/destination.ts'
import { fitColumns, sameType } from '../../lake/fit-columns.ts'
import { literal, quoted } from '../../lake/names.ts'
import { findReceipt } from '../../lake/receipt.ts'
import { rowHash } from '../../lake/row-hash.ts'
import { openRejected, type Staging } from '../../lake/staging.ts'
import { type Batch, stageStream, type Stream } from '../../lake/stream.ts'
import { sources } from '../../sources/index.ts'

const providers = sources.map((source) => source.provider)

/** Reads the result of a query of another database into a table of the lake. */
export default defineProcessor({
  type: 'db.ingest',
  title: 'Ingest from a database',
  description: 'Runs a query in the database of a credential, read-only, and loads its rows into a table.',
  queue: 'ingest',
  settings: z.strictObject({
    source: z.strictObject({
      provider: z.enum(providers).default('postgres').describe('The kind of database that the credential is for.'),
      query: z.string().min(1).meta({ 'x-sql': true }).describe('One SELECT in the SQL of that database.'),
      cursor: z
        .string()
        .min(1)
        .optional()
        .describe(
          'A column that grows with each change: of rows with the same key the one with the greatest value counts.',
        ),
    }),
    destination,
  }),
  credentialProviders: providers,
  async run(ctx, settings): Promise<StepResult> {
    using connection = await ctx.lake.connect(ctx.signal)
    const done = await findReceipt(connection, attemptOf(ctx))
    if (done) return { outputs: loadOutputs(settings.destination.table, done) }
    const source = sources.find((source) => source.provider === settings.source.provider)
    if (!source) throw new AppError('CONFIG_INVALID', `There is no source ${settings.source.provider}.`)
    const extract = await source.read(ctx, ctx.secret(source.secret), ctx.bindSql(settings.source.query))
    await openRejected(connection)
    const stream = streamOf(ctx, extract, settings.source.cursor)
    const { table, mode } = settings.destination
    const existing = mode === 'replace' ? undefined : await findTable(connection, table)
    const target = extract.columns.map((column) => existingColumn(column, existing?.columns ?? []))
    const isSame = target.every((column, index) => sameType(column.type, extract.columns[index]?.type ?? ''))
    // Other types than the table has: every value must fit them, so the rows are looked at before they go in.
    const rows: Staging | Stream = isSame
      ? { ...stream, columns: target }
      : await fitColumns(
          connection,
          await stageStream(connection, stream).catch((error: unknown) => {
            throw valueError(error)
          }),
          target,
        )
    const counts = await loadInto(connection, ctx, settings.destination, rows).catch((error: unknown) => {
      throw valueError(error)
    })
    if (counts.rejected > 0) ctx.log('warn', `${counts.rejected} of ${counts.rowsIn} rows were quarantined.`)
    return { outputs: loadOutputs(table, counts) }
  },
})

const existingColumn = (column: Column, existing: readonly Column[]): Column =>
  existing.find(({ name }) => name.toLowerCase() === column.name.toLowerCase()) ?? column

function streamOf(ctx: StepContext, extract: Extract, cursor: string | undefined): Stream {
  const { columns } = extract
  const last = columns.find((column) => column.name.toLowerCase() === cursor?.toLowerCase())
  if (cursor !== undefined && !last)
    throw new AppError('CONFIG_INVALID', `The query has no column ${JSON.stringify(cursor)}.`)
  return {
    columns,
    // The rows of a query have no order here; the hash picks the same one in every attempt.
    keep: `${last ? `${quoted(last.name)} DESC NULLS LAST, ` : ''}${rowHash(columns)} DESC`,
    batches: batchesOf(ctx, extract),
  }
}

async function* batchesOf(ctx: StepContext, extract: Extract): AsyncGenerator<Batch> {
  const types = extract.columns.map(({ name, type }) => `${literal(name)}: ${literal(type)}`).join(', ')
  let done = 0
  for await (const file of extract.files)
    yield {
      relation: `read_csv(${literal(file.path)}, columns = {${types}}, auto_detect = false, header = false, delim = ',',
        quote = '"', escape = '"', nullstr = '', allow_quoted_nulls = false, max_line_size = 33554432, buffer_size = 33554432)`,
      loaded: async (rows) => {
        done += rows
        ctx.progress({ done, total: extract.rowsTotal, unit: 'rows' })
        await rm(file.path, { force: true })
      },
    }
}

// A value that its own column type does not announce: NaN in a numeric, a year before Christ.
function valueError(error: unknown): unknown {
  const cause = error instanceof AppError && error.code === 'INTERNAL' ? error.cause : undefined
  const text = cause instanceof Error ? cause.message : ''
  const found = /converting column "([^"]+)"\. Could not convert string "([^"]*)" to '([^']+)'/.exec(text)
  if (!found) return error
  const [, column, value = '', type] = found
  return new AppError(
    'SOURCE_FAILED',
    `The column ${column} holds ${JSON.stringify(value.slice(0, 80))}, which is no ${type}.`,
    {
      retry: 'never',
      hint: 'Cast the column in the query, for example to text.',
      cause,
    },
  )
}
