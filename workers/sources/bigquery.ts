import { Readable } from 'node:stream'
import { gcpShape } from '../../schema/config/credentials.ts'
import { AppError } from '../../shared/errors.ts'
import { abortedError, orAborted, throwIfAborted } from '../aborted.ts'
import { type BoundSql, defineSource, type Extract, type StepContext } from '../define.ts'
import { pause } from '../http.ts'
import { type BigQueryApi, bigqueryApi, type Field, type Page } from './bigquery-api.ts'
import { csvOf, resultColumns } from './bigquery-rows.ts'
import { chunkFiles } from './chunk-files.ts'

const graceMs = 30_000

/**
 * BigQuery, read over HTTP page by page. Its token can read and cannot write. A query that is given up is cancelled
 * there, for it costs as long as it runs.
 */
export default defineSource({
  provider: 'gcp',
  title: 'Google BigQuery',
  dialect: 'bigquery',
  secret: gcpShape,
  async check(ctx, secret) {
    await finished(ctx, bigqueryApi(secret), { text: 'SELECT 1', values: [] })
  },
  async read(ctx, secret, query): Promise<Extract> {
    const api = bigqueryApi(secret)
    const first = await finished(ctx, api, query)
    const fields = first.schema?.fields ?? []
    if (fields.length === 0) throw new AppError('SQL_NOT_ALLOWED', 'The query gives no rows: it is no SELECT.')
    const columns = resultColumns(fields)
    for (const { name, note } of columns) if (note) ctx.log('info', `${name}: ${note}`)
    return {
      columns: columns.map(({ name, type }) => ({ name, type })),
      rowsTotal: first.totalRows === undefined ? null : Number(first.totalRows),
      files: readFiles(ctx, api, first, fields),
    }
  },
})

type Context = Pick<StepContext, 'signal' | 'allowPrivateNetwork'>

// The first page of a query that is done.
async function finished(
  ctx: Context & Partial<Pick<StepContext, 'log'>>,
  api: BigQueryApi,
  query: BoundSql,
): Promise<Page> {
  throwIfAborted(ctx.signal)
  const starting = api.start(ctx, query, graceAfter(ctx.signal))
  try {
    let page = await orAborted(starting, ctx.signal)
    const job = page.jobReference
    ctx.log?.('info', `BigQuery runs this as job ${job.jobId}.`)
    for (let waitMs = 100; !page.jobComplete; waitMs = Math.min(2 * waitMs, 5000)) {
      // A server that answers at once that it is not done is not asked at once again.
      await pause(ctx, waitMs)
      page = await api.page(ctx, job, undefined)
    }
    if (page.totalBytesProcessed) ctx.log?.('info', `BigQuery processed ${page.totalBytesProcessed} bytes.`)
    return page
  } catch (error) {
    // A job with a fault in its query is over.
    if (!(error instanceof AppError && error.code === 'SQL_INVALID')) cancelLater(ctx, api, starting)
    throw error
  }
}

// Nobody waits for it, and what goes wrong is nobody's to hear: the step has its end, and the job ends by itself in time.
function cancelLater(ctx: Context, api: BigQueryApi, starting: Promise<Page>): void {
  const { allowPrivateNetwork } = ctx
  starting
    .then(({ jobReference }) => api.cancel({ allowPrivateNetwork, signal: AbortSignal.timeout(graceMs) }, jobReference))
    .catch(() => {})
}

// Aborts some time after another signal did.
function graceAfter(signal: AbortSignal): AbortSignal {
  const late = new AbortController()
  const abort = (): void => void setTimeout(() => late.abort(), graceMs).unref()
  signal.addEventListener('abort', abort, { once: true })
  return late.signal
}

async function* readFiles(
  ctx: Context & Pick<StepContext, 'workDir'>,
  api: BigQueryApi,
  first: Page,
  fields: readonly Field[],
): AsyncGenerator<{ path: string; bytes: number }> {
  const stop = new AbortController()
  const signal = AbortSignal.any([ctx.signal, stop.signal])
  const pages = csvPages({ ...ctx, signal }, api, first, fields)
  try {
    // One page is fetched while the one before is written.
    yield* chunkFiles(Readable.from(pages, { highWaterMark: 1 }), ctx.workDir)
  } catch (error) {
    if (ctx.signal.aborted) throw abortedError(ctx.signal)
    throw error
  } finally {
    stop.abort()
  }
}

async function* csvPages(
  ctx: Context,
  api: BigQueryApi,
  first: Page,
  fields: readonly Field[],
): AsyncGenerator<Buffer> {
  const job = first.jobReference
  const announced = Number(first.totalRows ?? Number.POSITIVE_INFINITY)
  let rows = 0
  for (let page = first; ; page = await api.page(ctx, job, page.pageToken)) {
    rows += page.rows.length
    if (page.rows.length > 0) yield csvOf(fields, page.rows)
    if (!page.pageToken || rows > announced) break
  }
  // A result that is cut short would be taken for the whole.
  if (first.totalRows !== undefined && rows !== announced)
    throw new AppError('SOURCE_FAILED', `BigQuery announced ${first.totalRows} rows and sent ${rows}.`)
}
