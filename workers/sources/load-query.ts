import { rm } from 'node:fs/promises'
import type { z } from 'zod'
import { AppError } from '../../shared/errors.ts'
import type { Column, Extract, Source, StepContext, StepResult } from '../define.ts'
import { findTable } from '../lake/catalog.ts'
import { attemptOf, type destination, loadInto, loadOutputs } from '../lake/destination.ts'
import { fitColumns, sameType } from '../lake/fit-columns.ts'
import { literal, quoted } from '../lake/names.ts'
import { findReceipt } from '../lake/receipt.ts'
import { rowHash } from '../lake/row-hash.ts'
import { openRejected, type Staging } from '../lake/staging.ts'
import { type Batch, stageStream, type Stream } from '../lake/stream.ts'

/** What to read and where it goes. `query` still has its placeholders. */
export type QueryLoad = {
  source: Source
  query: string
  /** Of rows with the same key the one with the greatest value of this column counts. */
  cursor: string | undefined
  destination: z.output<typeof destination>
}

/**
 * Loads the result of a query of a source into a table, once per cycle of a step: a repeat reads nothing and answers
 * what the first did. Throws what the source and the load throw, and SOURCE_FAILED for a value that its type cannot hold.
 */
export async function loadQuery(ctx: StepContext, load: QueryLoad): Promise<StepResult> {
  const { source, destination } = load
  using connection = await ctx.lake.connect(ctx.signal)
  const done = await findReceipt(connection, attemptOf(ctx))
  if (done) return { outputs: loadOutputs(destination.table, done) }
  const extract = await source.read(ctx, ctx.secret(source.secret), ctx.bindSql(load.query, source.dialect))
  await openRejected(connection)
  const stream = streamOf(ctx, extract, load.cursor)
  const { table, mode } = destination
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
  const counts = await loadInto(connection, ctx, destination, rows).catch((error: unknown) => {
    throw valueError(error)
  })
  if (counts.rejected > 0) ctx.log('warn', `${counts.rejected} of ${counts.rowsIn} rows were quarantined.`)
  return { outputs: loadOutputs(table, counts) }
}

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
  // What stands in a row stays out of messages; these words are nobody's.
  const shown = /^[+-]?(?:nan|inf|infinity)$/i.test(value) ? `${JSON.stringify(value)},` : 'a value'
  return new AppError('SOURCE_FAILED', `The column ${column} holds ${shown} which is no ${type}.`, {
    retry: 'never',
    hint: 'Cast the column in the query, for example to text.',
    cause,
  })
}
