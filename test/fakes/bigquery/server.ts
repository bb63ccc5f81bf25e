import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { exportPKCS8, generateKeyPair, jwtVerify } from 'jose'
import { z } from 'zod'

/** A column of a result as BigQuery describes it. */
export type FakeField = { name: string; type: string; mode?: string; fields?: FakeField[] }

/** What the next query gives: rows in the form of the REST API, timestamps as microseconds. */
export type Result = {
  fields: FakeField[]
  rows: unknown[][]
  /** What the server says the number of rows is; default: the truth. */
  announced?: number
  /** Rows of a page; default: all. */
  pageRows?: number
  /** How often the job is asked for before it is done: PENDING first, then RUNNING. */
  waits?: number
  /** The job ends with this instead of rows. */
  error?: Refusal
}

/** A refusal in BigQuery's words. */
export type Refusal = { status: number; reason: string; message?: string; retryAfter?: string }
/** What a call can be. */
export type Call = 'token' | 'query' | 'page' | 'cancel'

/** A job as the fake remembers it. */
export type FakeJob = {
  id: string
  request: z.output<typeof queryRequest>
  result: Result
  asked: number
  state: 'PENDING' | 'RUNNING' | 'DONE'
  cancelled: boolean
}

/** The parts of BigQuery and of Google's token service that a reader meets. README.md beside this says what is missing. */
export type FakeBigQuery = AsyncDisposable & {
  /** A service account's key file, with `api_url` and `dataset` added. */
  secret: Record<string, string>
  /** The next queries give this. */
  result(result: Result): void
  /** The next `times` calls of one kind are refused, or carried out and never answered (`lost`). */
  fail(call: Call, how: Refusal | 'lost', times?: number): void
  /** The next call of this kind is carried out, and answered when the returned function is called. */
  hold(call: Call): () => void
  /** Tokens issued so far are no longer good. */
  revoke(): void
  jobs: FakeJob[]
  /** Every call in order, the failed ones too. */
  calls: Call[]
  /** Everything that must never be seen by a tenant. */
  secrets: string[]
}

const project = 'my-project-1'
const location = 'europe-west1'
const scopes = {
  read: 'https://www.googleapis.com/auth/bigquery.readonly',
  all: 'https://www.googleapis.com/auth/bigquery',
}

const queryRequest = z.strictObject({
  query: z.string().min(1),
  useLegacySql: z.literal(false),
  requestId: z.string().regex(/^[\x20-\x7e]{1,36}$/),
  maxResults: z.int().positive(),
  timeoutMs: z.int().min(0),
  formatOptions: z.strictObject({ useInt64Timestamp: z.boolean() }),
  location: z.string().optional(),
  defaultDataset: z.strictObject({ projectId: z.literal(project), datasetId: z.string() }).optional(),
  parameterMode: z.literal('NAMED').optional(),
  queryParameters: z
    .array(
      z.strictObject({
        name: z.string(),
        parameterType: z.strictObject({ type: z.enum(['STRING', 'INT64', 'FLOAT64', 'BOOL']) }),
        parameterValue: z.strictObject({ value: z.string().nullable() }),
      }),
    )
    .default([]),
})

const pageQuery = z.strictObject({
  location: z.literal(location),
  pageToken: z.string().optional(),
  maxResults: z.string().regex(/^\d+$/),
  timeoutMs: z.string().regex(/^\d+$/),
  'formatOptions.useInt64Timestamp': z.enum(['true', 'false']),
})

const tokenRequest = z.strictObject({
  grant_type: z.literal('urn:ietf:params:oauth:grant-type:jwt-bearer'),
  assertion: z.string(),
})

/** Listens on a free port of the loopback address. */
export async function fakeBigQuery(): Promise<FakeBigQuery> {
  const { publicKey, privateKey } = await generateKeyPair('RS256', { extractable: true })
  const pem = await exportPKCS8(privateKey)
  const jobs: FakeJob[] = []
  const calls: Call[] = []
  const secrets = pem.split('\n').filter((line) => line.length > 30)
  const tokens = new Map<string, string>()
  const faults: { call: Call; how: Refusal | 'lost' }[] = []
  const held = new Map<Call, Promise<void>>()
  let next: Result = { fields: [{ name: 'n', type: 'INTEGER' }], rows: [['1']] }

  const server = createServer((request, response) => {
    void answer(request).then(
      (reply) => {
        if (reply === 'lost') request.socket.destroy()
        else send(response, reply)
      },
      (error: unknown) => send(response, refusal({ status: 500, reason: 'internalError', message: String(error) })),
    )
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const email = 'reader@my-project-1.iam.gserviceaccount.com'

  async function answer(request: IncomingMessage): Promise<Reply | 'lost'> {
    const to = new URL(request.url ?? '', url)
    const body = await textOf(request)
    const route = routeOf(request.method ?? '', to.pathname)
    if (!route) return refusal({ status: 404, reason: 'notFound', message: `Not found: URL ${to.pathname}` })
    calls.push(route.call)
    const at = faults.findIndex((fault) => fault.call === route.call)
    const fault = at < 0 ? undefined : faults.splice(at, 1)[0]
    if (fault && fault.how !== 'lost') return refusal(fault.how)
    const reply =
      route.call === 'token' ? await token(request, body) : (unauthorized(request, route.call) ?? api(route, to, body))
    const release = held.get(route.call)
    held.delete(route.call)
    await release
    return fault ? 'lost' : reply
  }

  async function token(request: IncomingMessage, body: string): Promise<Reply> {
    const form = tokenRequest.safeParse(Object.fromEntries(new URLSearchParams(body)))
    if (!form.success || request.headers['content-type'] !== 'application/x-www-form-urlencoded')
      return { status: 400, body: { error: 'invalid_request' } }
    const verified = await jwtVerify(form.data.assertion, publicKey, {
      issuer: email,
      audience: `${url}/token`,
      algorithms: ['RS256'],
      requiredClaims: ['iat', 'exp', 'scope'],
    }).catch(() => undefined)
    const { iat = 0, exp = 0, scope } = verified?.payload ?? {}
    const unknown = Object.keys(verified?.payload ?? {}).filter((claim) => !jwtClaims.has(claim))
    if (!verified || exp - iat > 3600 || unknown.length > 0)
      return { status: 400, body: { error: 'invalid_grant', error_description: 'Invalid JWT Signature.' } }
    if (scope !== scopes.read && scope !== scopes.all) return { status: 400, body: { error: 'invalid_scope' } }
    const issued = `ya29.${crypto.randomUUID()}`
    tokens.set(issued, scope)
    secrets.push(issued)
    return { status: 200, body: { access_token: issued, expires_in: 3599, token_type: 'Bearer' } }
  }

  function unauthorized(request: IncomingMessage, call: Call): Reply | undefined {
    const scope = tokens.get(/^Bearer (.+)$/.exec(request.headers.authorization ?? '')?.[1] ?? '')
    if (!scope) return refusal({ status: 401, reason: 'authError', message: 'Invalid Credentials' })
    if (call === 'cancel' && scope !== scopes.all)
      return refusal({ status: 403, reason: 'insufficientPermissions', message: 'insufficient scopes' })
    return undefined
  }

  function api(route: Route, to: URL, body: string): Reply {
    if (route.project !== project) return refusal({ status: 404, reason: 'notFound', message: 'Not found: Project' })
    if (route.call === 'query') return query(body)
    const job = jobs.find(({ id }) => id === route.job)
    if (!job || to.searchParams.get('location') !== location)
      return refusal({ status: 404, reason: 'notFound', message: `Not found: Job ${project}:${route.job}` })
    if (route.call === 'cancel') {
      if (job.state !== 'DONE') job.cancelled = true
      return { status: 200, body: { kind: 'bigquery#jobCancelResponse', job: { id: job.id } } }
    }
    const asked = pageQuery.safeParse(Object.fromEntries(to.searchParams))
    if (!asked.success) return refusal({ status: 400, reason: 'invalid', message: z.prettifyError(asked.error) })
    const isInt64 = asked.data['formatOptions.useInt64Timestamp'] === 'true'
    return page(job, asked.data.pageToken, Number(asked.data.maxResults), isInt64)
  }

  function query(body: string): Reply {
    const parsed = queryRequest.safeParse(JSON.parse(body))
    if (!parsed.success) return refusal({ status: 400, reason: 'invalid', message: z.prettifyError(parsed.error) })
    const request = parsed.data
    const wanted = [...new Set(request.query.match(/@\w+/g))].sort().join()
    const given = request.queryParameters.map(({ name }) => `@${name}`)
    if (wanted !== given.toSorted().join())
      return refusal({ status: 400, reason: 'invalidQuery', message: 'Query parameters do not fit the query' })
    let job = jobs.find((known) => known.request.requestId === request.requestId)
    if (!job) {
      job = { id: `job_${jobs.length + 1}`, request, result: next, asked: 0, state: 'PENDING', cancelled: false }
      jobs.push(job)
    }
    return page(job, undefined, request.maxResults, request.formatOptions.useInt64Timestamp)
  }

  function page(job: FakeJob, pageToken: string | undefined, maxResults: number, isInt64: boolean): Reply {
    const { fields, rows, announced = rows.length, pageRows = rows.length, waits = 0, error } = job.result
    if (job.cancelled) return refusal({ status: 400, reason: 'stopped', message: 'Job execution was cancelled' })
    const head = { kind: 'bigquery#queryResponse', jobReference: { projectId: project, jobId: job.id, location } }
    if (job.asked++ < waits) {
      job.state = job.asked === 1 ? 'PENDING' : 'RUNNING'
      return { status: 200, body: { ...head, jobComplete: false } }
    }
    job.state = 'DONE'
    if (error) return refusal(error)
    const from = pageToken === undefined ? 0 : Number(/^page-(\d+)$/.exec(pageToken)?.[1] ?? Number.NaN)
    if (!(from < rows.length || from === 0)) return refusal({ status: 400, reason: 'invalid', message: 'pageToken' })
    const to = from + Math.max(1, Math.min(pageRows, maxResults))
    return {
      status: 200,
      body: {
        ...head,
        jobComplete: true,
        ...(fields.length > 0 ? { schema: { fields } } : { numDmlAffectedRows: '1' }),
        totalRows: String(announced),
        totalBytesProcessed: '1024',
        rows: rows.slice(from, to).map((row) => ({ f: row.map((v, i) => ({ v: shown(v, fields[i], isInt64) })) })),
        ...(to < rows.length ? { pageToken: `page-${to}` } : {}),
      },
    }
  }

  return {
    secret: {
      type: 'service_account',
      project_id: project,
      private_key_id: 'k1',
      private_key: pem,
      client_email: email,
      client_id: '1',
      auth_uri: `${url}/auth`,
      token_uri: `${url}/token`,
      universe_domain: 'googleapis.com',
      api_url: url,
      dataset: 'billing',
    },
    result: (result) => void (next = result),
    fail(call, how, times = 1) {
      for (let i = 0; i < times; i++) faults.push({ call, how })
    },
    hold(call) {
      let release = (): void => {}
      held.set(call, new Promise((resolve) => (release = resolve)))
      return () => release()
    },
    revoke: () => tokens.clear(),
    jobs,
    calls,
    secrets,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

const jwtClaims = new Set(['iss', 'aud', 'iat', 'exp', 'scope'])

type Route = { call: Call; project?: string | undefined; job?: string | undefined }
type Reply = { status: number; headers?: Record<string, string>; body: unknown }

function routeOf(method: string, path: string): Route | undefined {
  if (method === 'POST' && path === '/token') return { call: 'token' }
  const found = /^\/bigquery\/v2\/projects\/([^/]+)\/(queries|jobs)(?:\/([^/]+))?(\/cancel)?$/.exec(path)
  const [, project, kind, job, cancel] = found ?? []
  const call = `${method} ${kind}${job ? '/id' : ''}${cancel ?? ''}`
  const routes: Record<string, Call> = {
    'POST queries': 'query',
    'GET queries/id': 'page',
    'POST jobs/id/cancel': 'cancel',
  }
  return routes[call] && { call: routes[call], project, job }
}

// Without the option, timestamps are doubles of seconds.
function shown(value: unknown, field: FakeField | undefined, isInt64: boolean): unknown {
  return field?.type === 'TIMESTAMP' && !isInt64 && typeof value === 'string'
    ? (Number(value) / 1e6).toExponential()
    : value
}

function refusal({ status, reason, message = reason, retryAfter }: Refusal): Reply {
  const error = { code: status, message, errors: [{ message, domain: 'global', reason }] }
  return { status, headers: retryAfter === undefined ? {} : { 'retry-after': retryAfter }, body: { error } }
}

async function textOf(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks).toString('utf8')
}

function send(response: ServerResponse, { status, headers = {}, body }: Reply): void {
  response.writeHead(status, { 'content-type': 'application/json', ...headers })
  response.end(JSON.stringify(body))
}
