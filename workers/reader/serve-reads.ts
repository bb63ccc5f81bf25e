import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { hostname } from 'node:os'
import { z } from 'zod'
import type { Clock } from '../../shared/clock.ts'
import type { DataRead, DataRow } from '../../shared/datasets/reader.ts'
import { verifyReadToken } from '../../shared/datasets/read-token.ts'
import { AppError, errorData } from '../../shared/errors.ts'
import { tenantIdPattern } from '../../shared/ids.ts'
import { describeError, type Log } from '../../shared/log.ts'
import type { SigningKeys } from '../../shared/secrets/signing-keys.ts'
import { listen } from '../listen.ts'

/** Who reads: a worker that runs. */
export type Reader = { id: string; read(read: DataRead, signal: AbortSignal): Promise<DataRow[]> }

/** A door for reads. `url` is what control planes are told. */
export type ReadServer = { url: string; stop(): Promise<void> }

const usualPort = 8084
const bodyBytesMax = 65_536
const bodyMs = 5_000
const readMs = 10_000
// A token is of no use a minute after it was made.
const rememberMs = 90_000
const rememberedMax = 100_000

const readShape = z.strictObject({
  tenantId: z.string().regex(tenantIdPattern),
  operation: z.enum(['tables', 'rows', 'versions', 'activity', 'frequency', 'quality', 'lineage', 'nothing']),
  table: z.string().max(255),
  arguments: z.record(z.string(), z.unknown()),
})

/**
 * Answers `POST /read` of control planes for whoever holds a token for that very read: of this worker and this life of
 * it, tenant, operation, table and body, for a minute at most, and once. 401 for all else, with nothing said. A read takes
 * 10 s at most. For control planes alone: put it on no address that others reach without TLS before it.
 */
export async function serveReads(
  reader: () => Reader | undefined,
  options: {
    host: string
    /** Default: `usualPort`, or a free one when that is taken. */
    port: number | undefined
    /** What control planes are told; default: where it listens, by the machine's name for all of its addresses. */
    url?: string | undefined
    ports: { signing: SigningKeys; clock: Clock; log: Log }
  },
): Promise<ReadServer> {
  const { ports, host } = options
  const stopping = new AbortController()
  const used = new Map<string, number>()
  const server = createServer(
    { headersTimeout: bodyMs, requestTimeout: bodyMs, connectionsCheckingInterval: 1_000 },
    (request, response) => {
      answer(request, response).catch((error: unknown) => {
        const known = error instanceof AppError
        if (!known || error.code === 'INTERNAL') ports.log.error('read.failed', { error: describeError(error) })
        const data = errorData(error)
        reply(response, known ? error.status : 500, { error: data })
        if (!request.complete) request.destroy()
      })
    },
  )

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (request.url !== '/read') return reply(response, 404, {})
    if (request.method !== 'POST') return reply(response, 405, {})
    const worker = reader()
    if (stopping.signal.aborted || !worker) throw new AppError('UNAVAILABLE', 'This worker reads nothing now.')
    const body = await textOf(request)
    const read = readOf(body)
    const token = /^Bearer ([\w.-]+)$/.exec(request.headers.authorization ?? '')?.[1] ?? ''
    useOnce(await verifyReadToken(ports.signing, { ...read, worker: worker.id, body }, token, ports.clock.now()))
    const gone = new AbortController()
    response.once('close', () => gone.abort())
    const late = AbortSignal.timeout(readMs)
    const rows = await worker
      .read(read, AbortSignal.any([gone.signal, late, stopping.signal]))
      .catch((error: unknown): never => {
        throw late.aborted ? new AppError('TIMED_OUT', 'The read took too long.', { cause: error }) : error
      })
    reply(response, 200, { rows })
  }

  // They are as old as their places: what cannot be good any more stands first.
  function useOnce(id: string): void {
    const now = ports.clock.now().getTime()
    for (const [old, until] of used) {
      if (until > now) break
      used.delete(old)
    }
    if (used.has(id)) throw notValid('used before')
    if (used.size >= rememberedMax) throw new AppError('UNAVAILABLE', 'Too many reads at once.')
    used.set(id, now + rememberMs)
  }

  const wanted = options.port ?? usualPort
  await listen(server, host, wanted).catch(async (cause: unknown) => {
    const isTaken = cause instanceof Error && 'code' in cause && cause.code === 'EADDRINUSE'
    if (options.port === undefined && isTaken) return listen(server, host, 0)
    throw new AppError('BAD_INPUT', `The address ${host}:${wanted} cannot be listened on.`, {
      hint: 'Choose another with READER_HOST and READER_PORT.',
      cause,
    })
  })
  const { port } = server.address() as AddressInfo // of a server that listens on TCP
  return {
    url: options.url ?? `http://${addressOf(host)}:${port}`,
    async stop() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()))
      stopping.abort()
      server.closeIdleConnections()
      const timer = setTimeout(() => server.closeAllConnections(), 1_000)
      await closed
      clearTimeout(timer)
    },
  }
}

function addressOf(host: string): string {
  if (host === '0.0.0.0' || host === '::') return hostname()
  return host.includes(':') ? `[${host}]` : host
}

function reply(response: ServerResponse, status: number, body: object): void {
  if (response.headersSent) return
  response.writeHead(status, { 'content-type': 'application/json', 'cache-control': 'no-store' })
  response.end(JSON.stringify(body))
}

function readOf(body: string): DataRead {
  try {
    return readShape.parse(JSON.parse(body))
  } catch {
    throw notValid('no read')
  }
}

async function textOf(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes > bodyBytesMax) throw notValid('too long')
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString()
}

// Whoever has no token learns nothing, not even what a read is.
const notValid = (why: string): AppError =>
  new AppError('UNAUTHENTICATED', 'This token is not valid.', { context: { why } })
