import { randomUUID } from 'node:crypto'
import { z } from 'zod'
import type { gcpShape } from '../../schema/config/credentials.ts'
import { AppError } from '../../shared/errors.ts'
import type { BoundSql, StepContext } from '../define.ts'
import { exchange, type HttpReply, type HttpRequest, untilAnswered } from '../http.ts'
import { bigqueryError, isPassing } from './bigquery-error.ts'
import { googleTokens, jsonOf } from './google-token.ts'

type Secret = z.output<typeof gcpShape>

/** A column or a part of one, as BigQuery describes it. */
export type Field = { name: string; type: string; mode?: string | undefined; fields?: Field[] | undefined }
const field: z.ZodType<Field> = z.object({
  name: z.string().min(1).max(300),
  type: z.string().max(100),
  mode: z.string().max(100).optional(),
  get fields() {
    return z.array(field).max(10_000).optional()
  },
})

const page = z.object({
  jobComplete: z.boolean().default(false),
  jobReference: z.object({ projectId: z.string(), jobId: z.string().min(1), location: z.string().optional() }),
  schema: z.object({ fields: z.array(field).max(10_000).default([]) }).optional(),
  // Looked at where they are written: of a page of rows every cell would be copied.
  rows: z.array(z.unknown()).default([]),
  pageToken: z.string().optional(),
  totalRows: z.string().regex(/^\d+$/).optional(),
  totalBytesProcessed: z.string().regex(/^\d+$/).optional(),
})
/** A part of a result, or the news that there is none yet. */
export type Page = z.output<typeof page>
/** Which job. */
export type Job = Page['jobReference']

/** What a source needs of BigQuery. All three throw as `bigqueryError` and `exchange` say. */
export type BigQueryApi = {
  /**
   * Starts a query and waits for a second at most. Sent again after a broken connection, it is one job all the same.
   * A request on its way is cut off by `late` only: it may have made a job, whose name is in the answer.
   */
  start(ctx: Context, query: BoundSql, late: AbortSignal): Promise<Page>
  /** The first page, or that of a token. Waits ten seconds at most for a job that is not done. */
  page(ctx: Context, job: Job, pageToken: string | undefined): Promise<Page>
  cancel(ctx: Context, job: Job): Promise<void>
}
type Context = Pick<StepContext, 'signal' | 'allowPrivateNetwork'>

// Rows only bound a page of narrow ones: BigQuery ends a page after 10 MB.
const rowsPerPage = 50_000
const readScope = 'https://www.googleapis.com/auth/bigquery.readonly'
// Cancelling is no reading to Google; this token is asked for when there is something to cancel.
const cancelScope = 'https://www.googleapis.com/auth/bigquery'

/** Opens nothing yet: the first call does. */
export function bigqueryApi(secret: Secret): BigQueryApi {
  const tokens = googleTokens(secret)
  const root = `${secret.api_url.replace(/\/+$/, '')}/bigquery/v2/projects`

  async function call(ctx: Context, scope: string, request: HttpRequest, signal = ctx.signal): Promise<HttpReply> {
    const authorized = async (): Promise<HttpReply> => {
      const headers = { accept: 'application/json', authorization: `Bearer ${await tokens.get(scope, ctx)}` }
      return exchange({ ...ctx, signal }, { ...request, headers: { ...request.headers, ...headers } })
    }
    let reply = await untilAnswered(ctx, authorized, isPassing)
    if (reply.status === 401) {
      tokens.forget()
      reply = await untilAnswered(ctx, authorized, isPassing)
    }
    if (reply.status !== 200) throw bigqueryError(reply, tokens.issued())
    return reply
  }

  return {
    async start(ctx, query, late) {
      const body = JSON.stringify({
        query: query.text,
        useLegacySql: false,
        requestId: randomUUID(),
        maxResults: rowsPerPage,
        timeoutMs: 1000,
        formatOptions: { useInt64Timestamp: true },
        ...(secret.location ? { location: secret.location } : {}),
        ...(secret.dataset ? { defaultDataset: { projectId: secret.project_id, datasetId: secret.dataset } } : {}),
        ...(query.values.length > 0 ? { parameterMode: 'NAMED', queryParameters: query.values.map(parameter) } : {}),
      })
      const url = new URL(`${root}/${encodeURIComponent(secret.project_id)}/queries`)
      const headers = { 'content-type': 'application/json' }
      return pageOf(await call(ctx, readScope, { method: 'POST', url, headers, body }, late))
    },
    async page(ctx, job, pageToken) {
      const url = new URL(`${root}/${encodeURIComponent(job.projectId)}/queries/${encodeURIComponent(job.jobId)}`)
      url.search = new URLSearchParams({
        ...(job.location ? { location: job.location } : {}),
        ...(pageToken ? { pageToken } : {}),
        maxResults: String(rowsPerPage),
        timeoutMs: '10000',
        'formatOptions.useInt64Timestamp': 'true',
      }).toString()
      return pageOf(await call(ctx, readScope, { method: 'GET', url }))
    },
    async cancel(ctx, job) {
      const path = `${encodeURIComponent(job.projectId)}/jobs/${encodeURIComponent(job.jobId)}/cancel`
      const url = new URL(`${root}/${path}`)
      if (job.location) url.searchParams.set('location', job.location)
      await call(ctx, cancelScope, { method: 'POST', url })
    },
  }
}

function parameter(value: BoundSql['values'][number], index: number): object {
  const number = Number.isInteger(value) ? 'INT64' : 'FLOAT64'
  const type = typeof value === 'number' ? number : typeof value === 'boolean' ? 'BOOL' : 'STRING'
  return {
    name: `p${index + 1}`,
    parameterType: { type },
    parameterValue: { value: value === null ? null : String(value) },
  }
}

function pageOf(reply: HttpReply): Page {
  const parsed = page.safeParse(jsonOf(reply.body))
  if (parsed.success) return parsed.data
  throw new AppError('SOURCE_FAILED', 'BigQuery answered with something that is no page of a result.')
}
