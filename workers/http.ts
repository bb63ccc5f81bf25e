import { type IncomingHttpHeaders, type IncomingMessage, request as requestHttp } from 'node:http'
import { request as requestHttps } from 'node:https'
import type { LookupFunction } from 'node:net'
import { setTimeout as wait } from 'node:timers/promises'
import { AppError } from '../shared/errors.ts'
import { abortedError, throwIfAborted } from './aborted.ts'
import type { StepContext } from './define.ts'
import { isAllowed, resolveTarget, type Target } from './egress.ts'

/** One request. The body is text; its length is set. */
export type HttpRequest = { method: 'GET' | 'POST'; url: URL; headers?: Record<string, string>; body?: string }
/** The whole answer, whatever its status. */
export type HttpReply = { status: number; headers: IncomingHttpHeaders; body: Buffer }
type Context = Pick<StepContext, 'signal' | 'allowPrivateNetwork'>

const defaults = { timeoutMs: 60_000, bytesMax: 32 << 20 }
const retriesMax = 5
const waitMaxMs = 60_000

/**
 * One exchange with a server outside, to the address that its name was resolved to and no other. Redirects are answers
 * like any other: nobody follows them. Plain `http:` is for private networks only.
 * Throws EGRESS_DENIED, CONNECTION_FAILED (no answer within 60 s counts), TOO_LARGE beyond 32 MiB, the signal's error.
 */
export async function exchange(ctx: Context, request: HttpRequest, limits = defaults): Promise<HttpReply> {
  const { url } = request
  const host = url.hostname.replace(/^\[|\]$/g, '')
  if (url.protocol !== 'https:' && url.protocol !== 'http:')
    throw new AppError('EGRESS_DENIED', `Only https is spoken here, not ${url.protocol}`)
  const port = Number(url.port || (url.protocol === 'https:' ? 443 : 80))
  const target = await resolveTarget({ host, port, allowPrivate: ctx.allowPrivateNetwork, signal: ctx.signal })
  if (url.protocol === 'http:' && isAllowed(target, false))
    throw new AppError('EGRESS_DENIED', `${host} is on the public internet: use https.`)
  const late = AbortSignal.timeout(limits.timeoutMs)
  try {
    const reply = await send(request, target, AbortSignal.any([ctx.signal, late]))
    return {
      status: reply.statusCode ?? 0,
      headers: reply.headers,
      body: await bodyOf(reply, limits.bytesMax),
    }
  } catch (error) {
    if (ctx.signal.aborted) throw abortedError(ctx.signal)
    if (error instanceof AppError) throw error
    throw connectionError(host, error, late.aborted)
  }
}

/**
 * Makes exchanges until one is neither a broken connection nor an answer to try again, six at most, and gives the last.
 * Waits as long as `Retry-After` says, else 0.5 s and twice as long each time; a server that wants more than a minute is
 * not waited for. What is sent must bear being sent twice.
 */
export async function untilAnswered(
  ctx: Context,
  send: () => Promise<HttpReply>,
  isPassing: (reply: HttpReply) => boolean = (reply) => passingStatuses.has(reply.status),
): Promise<HttpReply> {
  for (let retries = 0; ; retries++) {
    const outcome = await send().catch((error: unknown) => {
      if (retries < retriesMax && error instanceof AppError && error.code === 'CONNECTION_FAILED' && !isFinal(error))
        return undefined
      throw error
    })
    if (outcome && (retries >= retriesMax || !isPassing(outcome))) return outcome
    const waitMs = (outcome && retryAfterMs(outcome.headers)) ?? 500 * 2 ** retries
    if (outcome && waitMs > waitMaxMs) return outcome
    await pause(ctx, waitMs)
  }
}

/** Statuses that say: not now. */
export const passingStatuses: ReadonlySet<number> = new Set([429, 500, 502, 503, 504])

/** Waits, unless the signal aborts first: then it throws the signal's error. */
export async function pause(ctx: Pick<Context, 'signal'>, ms: number): Promise<void> {
  throwIfAborted(ctx.signal)
  await wait(ms, undefined, { signal: ctx.signal }).catch(() => throwIfAborted(ctx.signal))
}

const isFinal = (error: AppError): boolean => error.retry === 'never'

function send(request: HttpRequest, target: Target, signal: AbortSignal): Promise<IncomingMessage> {
  const lookup: LookupFunction = (_host, options, found) =>
    options.all ? found(null, [target]) : found(null, target.address, target.family)
  return new Promise((resolve, reject) => {
    const body = request.body === undefined ? undefined : Buffer.from(request.body)
    const headers = { ...request.headers, ...(body ? { 'content-length': String(body.length) } : {}) }
    const start = request.url.protocol === 'https:' ? requestHttps : requestHttp
    const sent = start(request.url, { method: request.method, headers, lookup, signal }, resolve)
    sent.on('error', reject)
    sent.end(body)
  })
}

async function bodyOf(reply: IncomingMessage, bytesMax: number): Promise<Buffer> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of reply) {
    const piece = chunk as Buffer // no encoding is set
    bytes += piece.length
    if (bytes > bytesMax) throw new AppError('TOO_LARGE', `The server's answer is longer than ${bytesMax} bytes.`)
    chunks.push(piece)
  }
  return Buffer.concat(chunks)
}

// Seconds, or a moment, which is compared with the server's own clock.
function retryAfterMs(headers: IncomingHttpHeaders): number | undefined {
  const text = headers['retry-after']
  if (text === undefined) return undefined
  const ms = /^\d{1,9}$/.test(text) ? Number(text) * 1000 : Date.parse(text) - Date.parse(headers.date ?? '')
  return Number.isFinite(ms) ? Math.max(0, ms) : undefined
}

function connectionError(host: string, cause: unknown, isLate: boolean): AppError {
  const code = cause instanceof Error && 'code' in cause ? String(cause.code) : ''
  if (/CERT|SELF_SIGNED|ALTNAME|LEAF_SIGNATURE|ISSUER/.test(code))
    return new AppError('CONNECTION_FAILED', `The certificate of ${host} is not trusted.`, { cause, retry: 'never' })
  const why = isLate ? ' in time' : code === 'ECONNREFUSED' ? ': it refused' : ''
  return new AppError('CONNECTION_FAILED', `No answer from ${host}${why}.`, { cause })
}
