import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { Log } from '../shared/log.ts'
import { describeError } from '../shared/log.ts'

/** What answers requests; background work after the answer goes through `waitUntil`, `address` is the other end of the socket. */
export type FetchHandler = {
  fetch(
    request: Request,
    context: { waitUntil(work: Promise<unknown>): void; address: string | undefined },
  ): Promise<Response>
}

/** A listening server. `stop` lets requests end for a second, then cuts what is left (subscriptions resume elsewhere). */
export type HttpServer = { url: string; stop(): Promise<void> }

/** Serves a fetch handler over HTTP/1.1. Slow headers and bodies are cut by Node's own limits (60 s and 300 s). */
export async function serveHttp(
  handler: FetchHandler,
  options: { host: string; port: number; log: Log },
): Promise<HttpServer> {
  const background = new Set<Promise<unknown>>()
  const waitUntil = (work: Promise<unknown>): void => {
    const kept = work
      .catch((error: unknown) => options.log.error('http.background', { error: describeError(error) }))
      .finally(() => background.delete(kept))
    background.add(kept)
  }
  const server = createServer((request, response) => {
    answer(handler, request, response, waitUntil).catch((error: unknown) => {
      options.log.error('http.request', { error: describeError(error) })
      if (!response.headersSent) response.writeHead(500)
      response.destroy()
    })
  })
  await listen(server, options.host, options.port)
  const { port } = server.address() as AddressInfo
  return {
    url: `http://${options.host.includes(':') ? `[${options.host}]` : options.host}:${port}`,
    async stop() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()))
      server.closeIdleConnections()
      const timer = setTimeout(() => server.closeAllConnections(), 1_000)
      await closed
      clearTimeout(timer)
      await Promise.all(background)
    },
  }
}

async function answer(
  handler: FetchHandler,
  request: IncomingMessage,
  response: ServerResponse,
  waitUntil: (work: Promise<unknown>) => void,
): Promise<void> {
  const gone = new AbortController()
  response.once('close', () => gone.abort())
  const hasBody = request.method !== 'GET' && request.method !== 'HEAD'
  const headers = new Headers()
  for (const [name, value] of Object.entries(request.headers)) {
    for (const one of [value ?? []].flat()) headers.append(name, one)
  }
  const reply = await handler.fetch(
    new Request(new URL(request.url ?? '/', `http://${request.headers.host ?? 'localhost'}`), {
      method: request.method ?? 'GET',
      headers,
      signal: gone.signal,
      ...(hasBody ? { body: Readable.toWeb(request) as ReadableStream<Uint8Array>, duplex: 'half' as const } : {}),
    }),
    { waitUntil, address: request.socket.remoteAddress },
  )
  response.writeHead(reply.status, Object.fromEntries(reply.headers))
  // Subscriptions must show their headers before their first event.
  response.flushHeaders()
  if (!reply.body) return void response.end()
  await pipeline(Readable.from(chunksOf(reply.body)), response, { signal: gone.signal }).catch((error: unknown) => {
    if (!gone.signal.aborted) throw error
  })
}

// By its reader: the GraphQL server makes streams of a class of its own, which Readable.fromWeb refuses.
async function* chunksOf(body: ReadableStream<Uint8Array>): AsyncIterable<Uint8Array> {
  const reader = body.getReader()
  try {
    for (;;) {
      const { done, value } = await reader.read()
      if (done) return
      yield value
    }
  } finally {
    await reader.cancel().catch(() => undefined)
  }
}

function listen(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, host, () => {
      server.off('error', reject)
      resolve()
    })
  })
}
