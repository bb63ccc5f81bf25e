import { createYoga } from 'graphql-yoga'
import { systemClock } from '../shared/clock.ts'
import { AppError } from '../shared/errors.ts'
import { newId } from '../shared/ids.ts'
import { describeError } from '../shared/log.ts'
import type { Sender } from '../shared/qstash/receive-delivery.ts'
import { inProcessRateLimit, type RateLimit } from '../shared/rate-limit.ts'
import { exportAudit } from './audit/export-audit.ts'
import { noteDenials } from './audit/note-denials.ts'
import { keyUse } from './auth/api-key.ts'
import { authenticate } from './auth/authenticate.ts'
import { type IdentityOptions, identityFor } from './auth/identity.ts'
import type { KeyCache } from './auth/key-cache.ts'
import { knownKeys } from './auth/pledge.ts'
import { carriesBearer, isPublicDocument, publicBodyBytes } from './auth/public-document.ts'
import { type Context, userIdOf, type Waits } from './context.ts'
import { documentCache, documentRules } from './graphql/document-rules.ts'
import { parsedRequests, publicResults } from './graphql/plugins.ts'
import { databaseFault, innermost } from './graphql/errors.ts'
import { executionRules } from './graphql/execution-rules.ts'
import { limits } from './graphql/limits.ts'
import { schema } from './graphql/schema.ts'
import { admission, rateHeaders } from './http/admit.ts'
import { corsFor } from './http/cors.ts'
import { withEventIds } from './http/event-ids.ts'
import { type Host, type Opened, openRequest, type OpenRequest } from './http/open-request.ts'
import { isPublished, type Params, readGet, readPost } from './http/read-params.ts'
import { receiveFailedWake } from './http/receive-failed-wake.ts'
import { receiveTick } from './http/receive-tick.ts'
import { asAccepted, refuse } from './http/refuse.ts'
import { answerOf, problemOf } from './rest/answer.ts'
import { findRoute, restPrefix } from './rest/find-route.ts'
import { publishedAt } from './rest/published.ts'
import { receiveMessage } from './webhooks/receive-message.ts'

/** How the API is put up. */
export type AppOptions = {
  /** What a request works with; `close` is called when its answer is out and its later work done. */
  ports: (request: Request) => Promise<Opened>
  /** GraphiQL, and answers to requests without a key. */
  development: boolean
  /** Origins of browsers that may call, in full: `https://console.example`. */
  allowedOrigins: string[]
  /** Milliseconds; default: 30 s for provisioning, streams of 5 minutes, 5 s to answer. */
  waits?: Partial<Waits>
  /** What callers may use in a minute; default: counted in this process alone. */
  rateLimit?: RateLimit
  /** Remembers good keys for seconds; default: each is looked up with each request. */
  keyCache?: KeyCache | undefined
  /** Whether people, unlike keys, may run the published operations only. Default: not in development. */
  sessionsRunPersistedOnly?: boolean
  identity?: IdentityOptions
  /** Who may call `/tick` for the housekeeping; nobody by default. */
  ticks?: Sender | undefined
  /** Who may report to `/wake-failed` the wake-ups that nobody took; nobody by default. */
  failedWakes?: Sender | undefined
}

/** The control plane as one fetch handler: `/graphql`, `/api/v1/…`, `/v1/audit.ndjson`, `/v1/hooks/<id>`, `/tick`, `/wake-failed` and `/healthz`, the same on Workers, Deno and Node. */
export type App = { fetch(request: Request, host?: Host): Promise<Response> }

/** Puts up the API. Between requests it keeps bounded memories: documents, limits, which keys were good and which were noted as used, providers' keys. */
export function createApp(options: AppOptions): App {
  const noteUse = keyUse()
  const known = knownKeys()
  const identity = identityFor(options.identity)
  const waits: Waits = { provisionMs: 30_000, streamMs: 300_000, executionMs: 5_000, ...options.waits }
  const admit = admission(options.rateLimit ?? inProcessRateLimit(systemClock))
  const yoga = createYoga<Context>({
    schema,
    graphqlEndpoint: '/graphql',
    graphiql: options.development,
    landingPage: false,
    batching: false,
    // Read and bounded before: it gets what was in it.
    maxRequestBodySize: false,
    multipart: false,
    logging: false,
    maskedErrors: false,
    cors: options.allowedOrigins.length > 0 ? corsFor(options.allowedOrigins) : false,
    parserAndValidationCache: documentCache(),
    plugins: [parsedRequests, documentRules(options.development), executionRules(admit), publicResults],
  })

  return {
    async fetch(request, host = {}) {
      const response = await route(request, host)
      response.headers.set('x-content-type-options', 'nosniff')
      response.headers.set('cache-control', 'no-store')
      return response
    },
  }

  async function route(request: Request, host: Host): Promise<Response> {
    const requestId = newId('request')
    const url = new URL(request.url)
    const { pathname } = url
    if (pathname === '/healthz') return Response.json({ status: 'ok' })
    const hookId = /^\/v1\/hooks\/([^/]+)$/.exec(pathname)?.[1]
    if (hookId !== undefined && request.method === 'POST') return answerMessage(request, requestId, host, hookId)
    if (pathname === '/tick' && request.method === 'POST' && options.ticks)
      return answerDelivery(request, requestId, host, options.ticks, receiveTick)
    if (pathname === '/wake-failed' && request.method === 'POST' && options.failedWakes)
      return answerDelivery(request, requestId, host, options.failedWakes, receiveFailedWake)
    if (pathname.startsWith(`${restPrefix}/`))
      return problemOf(await answerRest(request, requestId, host, url), requestId)
    const isExport = pathname === '/v1/audit.ndjson' && request.method === 'GET'
    if (pathname !== '/graphql' && !isExport)
      return refuse(new AppError('NOT_FOUND', 'There is no such path.'), requestId)
    if (request.method === 'OPTIONS') {
      // The CORS plugin answers before anything reads the context: a preflight costs no database.
      return options.allowedOrigins.length > 0
        ? yoga.fetch(request, {} as Context)
        : new Response(null, { status: 204 })
    }
    if (isExport)
      return answer(request, requestId, host, undefined, (context, end) => exportAudit(context, url.searchParams, end))
    const isPage =
      options.development && request.method === 'GET' && (request.headers.get('accept') ?? '').includes('text/html')
    const read = async (bytesMax: number): Promise<Params> =>
      request.method === 'GET' ? readGet(url) : readPost(request, bytesMax)
    const answered = await answer(request, requestId, host, isPage ? undefined : read, async (context, end) => {
      const response = await whenSettled(context, yoga.fetch(request, context))
      if (response.headers.get('content-type')?.startsWith('text/event-stream')) return withEventIds(response, end)
      end()
      return response
    })
    return asAccepted(request, answered)
  }

  // What is asked by path and method, as the operation that it stands for.
  async function answerRest(request: Request, requestId: string, host: Host, url: URL): Promise<Response> {
    const published = request.method === 'GET' ? publishedAt(url.pathname) : undefined
    if (published)
      return answer(request, requestId, host, undefined, async (_context, end) => {
        end()
        return published()
      })
    try {
      const { route, read, refuseForeign } = findRoute(request, url)
      return await answer(request, requestId, host, read, async (context, end) => {
        refuseForeign(context)
        const headers = { accept: 'application/json', 'content-type': 'application/json' }
        const asked = new Request(new URL('/graphql', url), { method: 'POST', headers, signal: request.signal })
        const response = await answerOf(route, await whenSettled(context, yoga.fetch(asked, context)), requestId)
        end()
        return response
      })
    } catch (error) {
      if (error instanceof AppError) return refuse(error, requestId)
      throw error
    }
  }

  async function open(request: Request, requestId: string, host: Host): Promise<OpenRequest> {
    const standing = { waits, identity, keyCache: options.keyCache, knownKeys: known }
    return openRequest(request, requestId, host, await options.ports(request), standing)
  }

  // `respond` calls `end` when its answer is out.
  async function answer(
    request: Request,
    requestId: string,
    host: Host,
    read: ((bytesMax: number) => Promise<Params>) | undefined,
    respond: (context: Context, end: () => void) => Promise<Response>,
  ): Promise<Response> {
    const { context, end } = await open(request, requestId, host)
    const answered = Promise.withResolvers<void>()
    let reading: Promise<Params> | undefined
    const readOnce = read && ((bytesMax: number) => (reading ??= read(bytesMax)))
    try {
      await admit.openTo(context)
      // What a stranger asks for decides whether it is heard, so it is read first, and little of it.
      const isStranger = !carriesBearer(request.headers)
      if (isStranger) context.asked = await heard(readOnce)
      await identify(context, request)
      await admit.take(context, 1)
      const { auth } = context
      // Only then: beside the first request of an isolate it would take the time that the answer needs.
      if (auth)
        context.later(async () => {
          await answered.promise
          if (context.pledge?.state !== 'broken') await noteUse({ ...context.ports, db: context.lastingDb }, auth)
        })
      if (!isStranger) context.asked = await readOnce?.(limits.bodyBytes)
      refuseFreeDocument(context)
      if (!isReadOnly(context.asked)) await context.pledge?.settle()
      const response = await respond(context, end)
      response.headers.set('x-request-id', requestId)
      for (const [name, value] of Object.entries(rateHeaders(context.spending))) response.headers.set(name, value)
      return response
    } catch (error) {
      const lost: unknown = await context.pledge?.settle().catch((fault: unknown) => fault)
      if (context.pledge?.state !== 'broken') return failed(context, end, lost ?? error)
      end()
      return answer(request, requestId, host, readOnce, respond)
    } finally {
      answered.resolve()
    }
  }

  // What cannot be read is nothing that a stranger may ask: the answer is the same as to any other such request.
  async function heard(read: ((bytesMax: number) => Promise<Params>) | undefined): Promise<Params | undefined> {
    if (options.development) return read?.(limits.bodyBytes)
    return read?.(publicBodyBytes).catch((error: unknown) => {
      if (error instanceof AppError) return undefined
      throw error
    })
  }

  // A message proves itself by its signature alone. Who cannot sign uses up what its address may fail.
  async function answerMessage(request: Request, requestId: string, host: Host, hookId: string): Promise<Response> {
    const { context, end } = await open(request, requestId, host)
    try {
      await admit.openTo(context)
      const received = await receiveMessage(context.ports, request, hookId, requestId).catch(async (error: unknown) => {
        if (error instanceof AppError && error.code === 'UNAUTHENTICATED') await admit.take(context, 1)
        throw error
      })
      end()
      const status = received.created ? 202 : 200
      return Response.json(received, { status, headers: { 'x-request-id': requestId } })
    } catch (error) {
      return failed(context, end, error)
    }
  }

  async function answerDelivery(
    request: Request,
    requestId: string,
    host: Host,
    sender: Sender,
    receive: typeof receiveTick,
  ): Promise<Response> {
    const { context, end } = await open(request, requestId, host)
    try {
      await admit.openTo(context)
      const response = await receive({ ...context.ports, db: context.lastingDb }, request, sender).catch(
        async (error: unknown) => {
          if (error instanceof AppError && error.code === 'UNAUTHENTICATED') await admit.take(context, 1)
          throw error
        },
      )
      end()
      return response
    } catch (error) {
      return failed(context, end, error)
    }
  }

  function failed(context: Context, end: () => void, error: unknown): Response {
    const { ports, requestId, spending } = context
    noteDenials(context, [error])
    end()
    if (error instanceof AppError) return refuse(error, requestId, rateHeaders(spending))
    ports.log.error('request.failed', { requestId, error: describeError(innermost(error)) })
    const unexpected = new AppError('INTERNAL', 'An unexpected error ended this request.', { cause: error })
    return refuse(databaseFault(error) ?? unexpected, requestId, rateHeaders(spending))
  }

  // Without a valid key or token nothing is told to strangers, not even whether a field exists, but what it takes to sign in.
  async function identify(context: Context, request: Request): Promise<void> {
    try {
      context.auth = await authenticate(context, request.headers)
    } catch (error) {
      if (!(error instanceof AppError)) throw error
      const isHeard = options.development || (context.asked && isPublicDocument(request, context.asked))
      if (!isHeard) {
        await admit.take(context, 1)
        throw error
      }
      noteDenials(context, [error])
      context.refusal = error
    }
  }

  // A document of one's own is for programs: what runs in a browser with a person's rights is what we have published.
  function refuseFreeDocument({ auth, asked }: Context): void {
    const isBound = options.sessionsRunPersistedOnly ?? !options.development
    if (!isBound || !asked || !auth || userIdOf(auth) === undefined || isPublished(asked.query)) return
    throw new AppError('FORBIDDEN', 'People run the published operations only.', {
      hint: 'Send the documentId of one of them, or use an API key.',
    })
  }
}

// No operation that changes or watches is written without its word.
const isReadOnly = (asked: Params | undefined): boolean =>
  asked !== undefined && !/mutation|subscription/.test(asked.query)

// Nothing leaves for a key before the database has said that it is what it was.
async function whenSettled({ pledge }: Context, answering: Response | Promise<Response>): Promise<Response> {
  const response = await answering
  try {
    await pledge?.settle()
    return response
  } catch (error) {
    await response.body?.cancel()
    throw error
  }
}
