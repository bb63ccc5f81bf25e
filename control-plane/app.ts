import { NoSchemaIntrospectionCustomRule } from 'graphql'
import { createYoga, mapAsyncIterator, type Plugin } from 'graphql-yoga'
import { AppError } from '../shared/errors.ts'
import { newId } from '../shared/ids.ts'
import { describeError } from '../shared/log.ts'
import type { Ports } from '../shared/ports.ts'
import { exportAudit } from './audit/export-audit.ts'
import { noteDenials } from './audit/note-denials.ts'
import { keyUse } from './auth/api-key.ts'
import { authenticate } from './auth/authenticate.ts'
import { type IdentityOptions, identityFor } from './auth/identity.ts'
import { isPublicDocument } from './auth/public-document.ts'
import type { Context, Waits } from './context.ts'
import { innermost, publicError } from './graphql/errors.ts'
import { limits, withinLimits } from './graphql/limits.ts'
import { schema } from './graphql/schema.ts'
import { withEventIds } from './http/event-ids.ts'
import { withBody } from './http/read-body.ts'

/** How the API is put up. */
export type AppOptions = {
  /** What a request works with; `close` is called when its answer is out and its later work done. */
  ports: (request: Request) => Promise<{ ports: Ports; close?: () => Promise<void> }>
  /** GraphiQL, and answers to requests without a key. */
  development: boolean
  /** Origins of browsers that may call, in full: `https://console.example`. */
  allowedOrigins: string[]
  /** Milliseconds; default: 30 s for provisioning, streams of 5 minutes. */
  waits?: Partial<Waits>
  identity?: IdentityOptions
}

/** What the host lends to one request: `address` is where it comes from, which no header of it can say. */
export type Host = { waitUntil?: (work: Promise<unknown>) => void; address?: string | undefined }

/** The control plane as one fetch handler: `/graphql`, `/v1/audit.ndjson` and `/healthz`, the same on Workers, Deno and Node. */
export type App = { fetch(request: Request, host?: Host): Promise<Response> }

/** Puts up the API. It keeps no state between requests but a memory of which keys were noted as used, and of providers' keys. */
export function createApp(options: AppOptions): App {
  const noteUse = keyUse()
  const identity = identityFor(options.identity)
  const waits: Waits = { provisionMs: 30_000, streamMs: 300_000, ...options.waits }
  const yoga = createYoga<Context>({
    schema,
    graphqlEndpoint: '/graphql',
    graphiql: options.development,
    landingPage: false,
    batching: false,
    multipart: false,
    logging: false,
    maskedErrors: false,
    cors: options.allowedOrigins.length > 0 ? corsFor(options.allowedOrigins) : false,
    plugins: [documentRules(options.development), publicResults],
  })

  return {
    async fetch(request, host = {}) {
      const requestId = newId('request')
      const { pathname, searchParams } = new URL(request.url)
      if (pathname === '/healthz') return Response.json({ status: 'ok' })
      const isExport = pathname === '/v1/audit.ndjson' && request.method === 'GET'
      if (pathname !== '/graphql' && !isExport)
        return refuse(new AppError('NOT_FOUND', 'There is no such path.'), requestId)
      if (request.method === 'OPTIONS') {
        // The CORS plugin answers before anything reads the context: a preflight costs no database.
        return options.allowedOrigins.length > 0
          ? yoga.fetch(request, {} as Context)
          : new Response(null, { status: 204 })
      }
      try {
        if (isExport)
          return await answer(request, requestId, host, (context, end) => exportAudit(context, searchParams, end))
        if (request.method === 'POST') refuseOtherThanJson(request)
        const whole = await withBody(request, limits.bodyBytes)
        return await answer(whole, requestId, host, async (context, end) => {
          const response = await yoga.fetch(whole, context)
          if (response.headers.get('content-type')?.startsWith('text/event-stream')) return withEventIds(response, end)
          end()
          return response
        })
      } catch (error) {
        if (error instanceof AppError) return refuse(error, requestId)
        throw error
      }
    },
  }

  // Opens what the request works with; `respond` calls `end` when its answer is out.
  async function answer(
    request: Request,
    requestId: string,
    host: Host,
    respond: (context: Context, end: () => void) => Promise<Response>,
  ): Promise<Response> {
    const { ports, close } = await options.ports(request)
    const laterWork: Promise<void>[] = []
    const gone = new AbortController()
    const context: Context = {
      ports,
      requestId,
      auth: undefined,
      refusal: undefined,
      waits,
      identity,
      address: host.address,
      lastEventId: lastEventId(request),
      event: { id: undefined },
      loaders: new Map(),
      signal: AbortSignal.any([gone.signal, request.signal]),
      later(work) {
        const logged = work().catch((error) =>
          ports.log.warn('hint.lost', { requestId, error: describeError(innermost(error)) }),
        )
        laterWork.push(logged)
        host.waitUntil?.(logged)
      },
    }
    const end = (): void => {
      gone.abort()
      const closed = Promise.all(laterWork)
        .then(() => close?.())
        .catch((error) => ports.log.warn('close.failed', { requestId, error: describeError(innermost(error)) }))
      host.waitUntil?.(closed)
    }
    try {
      await identify(context, request)
      const { auth } = context
      if (auth) context.later(() => noteUse(ports, auth))
      const response = await respond(context, end)
      response.headers.set('x-request-id', requestId)
      return response
    } catch (error) {
      noteDenials(context, [error])
      end()
      if (error instanceof AppError) throw error
      ports.log.error('request.failed', { requestId, error: describeError(innermost(error)) })
      throw new AppError('INTERNAL', 'An unexpected error ended this request.', { cause: error })
    }
  }

  // Without a valid key or token nothing is told to strangers, not even whether a field exists, but what it takes to sign in.
  async function identify(context: Context, request: Request): Promise<void> {
    try {
      context.auth = await authenticate(context, request.headers)
    } catch (error) {
      if (!(error instanceof AppError)) throw error
      if (!options.development && !(await isPublicDocument(request))) throw error
      noteDenials(context, [error])
      context.refusal = error
    }
  }
}

function refuseOtherThanJson(request: Request): void {
  const type = request.headers.get('content-type') ?? ''
  if (/^application\/json *(;|$)/i.test(type)) return
  throw new AppError('BAD_INPUT', 'The body must be application/json.', { hint: 'Set content-type: application/json.' })
}

function refuse(error: AppError, requestId: string): Response {
  const { code, hint, message, status } = error
  return Response.json(
    { errors: [{ message, extensions: { code, hint, requestId } }] },
    { status, headers: { 'x-request-id': requestId } },
  )
}

function lastEventId(request: Request): number {
  const text = request.headers.get('last-event-id') ?? ''
  return /^\d{1,15}$/.test(text) ? Number(text) : 0
}

const corsFor = (origin: string[]) => ({
  origin,
  methods: ['GET', 'POST'],
  allowedHeaders: ['content-type', 'authorization', 'x-api-key', 'x-tenant-id', 'last-event-id', 'accept'],
  exposedHeaders: ['x-request-id'],
  credentials: false,
  maxAge: 86_400,
})

const documentRules = (development: boolean): Plugin<Context, Context> => ({
  onParse({ setParseFn, parseFn }) {
    setParseFn((source, parseOptions) => parseFn(source, { ...parseOptions, maxTokens: limits.tokens }))
  },
  onValidate({ context, addValidationRule }) {
    addValidationRule(withinLimits)
    if (!development && context.auth === undefined) addValidationRule(NoSchemaIntrospectionCustomRule)
  },
})

// The last word on every result: errors become public ones, and an event carries its number.
const publicResults: Plugin<Context, Context> = {
  onResultProcess({ result, setResult, serverContext }) {
    const { requestId, ports } = serverContext
    const published = <R extends object>(one: R): R => {
      const errors: unknown[] | undefined = 'errors' in one && Array.isArray(one.errors) ? one.errors : undefined
      if (errors) noteDenials(serverContext, errors)
      return {
        ...one,
        ...(errors ? { errors: errors.map((error) => publicError(error, requestId, ports.log)) } : {}),
        ...(serverContext.event.id === undefined ? {} : { extensions: { eventId: serverContext.event.id } }),
      }
    }
    if (Array.isArray(result)) setResult(result.map(published))
    else if (Symbol.asyncIterator in result) setResult(mapAsyncIterator(result, published))
    else setResult(published(result))
  },
}
