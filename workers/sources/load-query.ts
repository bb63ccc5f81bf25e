import { rm } from 'node:fs/promises'
import type { z } from 'zod'
import { dialectRules } from '../../shared/config/sql-dialects.ts'
import { AppError } from '../../shared/errors.ts'
import type { BoundSql, Column, Extract, Source, StepContext, StepResult } from '../define.ts'
import { conform } from '../formats/conform.ts'
import { readSchemaFiles } from '../formats/schema-file.ts'
import { findTable, type Table } from '../lake/catalog.ts'
import type { Connection } from '../lake/connection.ts'
import { contractOf } from '../lake/contract.ts'
import {
  alertMail,
  attemptOf,
  type destination,
  isMadeAnew,
  loadInto,
  loadOutputs,
  type Preparation,
} from '../lake/destination.ts'
import { sameType } from '../lake/fit-columns.ts'
import { literal, quoted } from '../lake/names.ts'
import { findReceipt } from '../lake/receipt.ts'
import { rowHash } from '../lake/row-hash.ts'
import { openRejected, type Staging } from '../lake/staging.ts'
import { type Batch, stageStream, type Stream } from '../lake/stream.ts'
import { findWatermark, type Watermark } from '../lake/watermark.ts'

/** What to read and where it goes. `query` still has its placeholders. */
export type QueryLoad = {
  source: Source
  query: string
  /** Of rows with the same key the one with the greatest value of this column counts. */
  cursor: string | undefined
  /** Read only what is at or after the greatest cursor value that the step has loaded. */
  resume?: boolean
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
  if (done) return { outputs: loadOutputs(destination.table, done), mail: alertMail(ctx, destination, done) }
  const watermark = watermarkOf(ctx, load)
  const since = watermark && (await findWatermark(connection, destination.table, watermark))
  const bound = ctx.bindSql(load.query, source.dialect)
  const query = watermark && since !== undefined ? sinceThen(bound, load, watermark.cursor, since) : bound
  const extract = await source.read(ctx, ctx.secret(source.secret), query)
  await openRejected(connection)
  const stream = streamOf(ctx, extract, load.cursor)
  const table = isMadeAnew(destination) ? undefined : await findTable(connection, destination.table)
  try {
    const { rows, preparation } = await prepare(connection, ctx, load, stream, table)
    const counts = await loadInto(
      connection,
      ctx,
      destination,
      rows,
      watermark ? { ...preparation, watermark } : preparation,
    )
    if (counts.rejected > 0) ctx.log('warn', `${counts.rejected} of ${counts.rowsIn} rows were quarantined.`)
    // Whether, not where: the mark is a value of a row, and those stay in the lake.
    return {
      outputs: { ...loadOutputs(destination.table, counts), ...(watermark ? { resumed: since !== undefined } : {}) },
      mail: alertMail(ctx, destination, counts),
    }
  } catch (error) {
    throw valueError(error)
  }
}

// A reader is a step of a pipeline: two steps that fill the same table do not move each other's mark.
function watermarkOf(ctx: StepContext, { cursor, resume, destination }: QueryLoad): Watermark | undefined {
  if (!resume) return undefined
  if (cursor === undefined) throw new AppError('CONFIG_INVALID', 'resume needs a cursor.')
  const { mode, snapshot } = destination
  if (mode === 'replace' || (mode === 'versioned' && snapshot === 'full'))
    throw new AppError('CONFIG_INVALID', 'resume reads changed rows only: use it with snapshot: delta or mode: append.')
  return { reader: `${ctx.run.pipelineId}/${ctx.step.key}`, cursor }
}

// A versioned table takes the rows of the mark itself again, unchanged ones without a version: rows may have come to it
// since. An appended one would have them twice. Rows without a mark are read each time.
function sinceThen(query: BoundSql, load: QueryLoad, cursor: string, since: string): BoundSql {
  const { nameQuote, parameter } = dialectRules[load.source.dialect]
  if (cursor.includes(nameQuote)) throw new AppError('CONFIG_INVALID', 'The name of the cursor holds a quote.')
  const values = [...query.values, since]
  const column = `${nameQuote}${cursor}${nameQuote}`
  const operator = load.destination.mode === 'versioned' ? '>=' : '>'
  return {
    text: `SELECT * FROM (\n${query.text.replace(/[;\s]+$/, '')}\n) AS tributary_rows
WHERE ${column} ${operator} ${parameter(values.length)} OR ${column} IS NULL`,
    values,
  }
}

// Rows that already look like the table go in as they come; others are staged, and brought together with it.
async function prepare(
  connection: Connection,
  ctx: StepContext,
  { destination }: QueryLoad,
  stream: Stream,
  table: Table | undefined,
): Promise<{ rows: Staging | Stream; preparation: Preparation }> {
  const schemaFiles = await readSchemaFiles(ctx.files, ctx.tenant.id, destination.table)
  const target = stream.columns.map((column) => existingColumn(column, table?.columns ?? []))
  const isSame =
    target.every((column, index) => sameType(column.type, stream.columns[index]?.type ?? '')) &&
    (!table || table.columns.length === target.length) &&
    schemaFiles.table.length + schemaFiles.organisation.length === 0
  if (isSame && target.every(({ name }) => !table || table.columns.some((column) => column.name === name)))
    return { rows: { ...stream, columns: target }, preparation: table ? { seen: table.columns } : {} }
  const { staging, changes } = await conform(connection, await stageStream(connection, stream), {
    declared: {},
    schemaFiles,
    table,
    contract: contractOf(destination.contract),
    renames: destination.rename_columns,
    allowsLoss: destination.dry_run || destination.plan !== undefined,
  })
  return { rows: staging, preparation: table ? { changes, seen: table.columns } : {} }
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
