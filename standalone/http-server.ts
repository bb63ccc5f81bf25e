import { setMaxListeners } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Readable } from 'node:stream'
import type { Log } from '../shared/log.ts'
import { describeError } from '../shared/log.ts'

/** What answers requests; background work after the answer goes through `waitUntil`, `address` is the other end of the socket. */
export type FetchHandler = {
  fetch(
    request: Request,
    context: { waitUntil(work: Promise<unknown>): void; address: string | undefined },
  ): Promise<Response>
}

/** A listening server. */
export type HttpServer = {
  url: string
  /** How many event streams are open. */
  streams(): number
  /**
   * Takes no more requests, ends event streams (their clients resume elsewhere), lets other requests end for `graceMs`,
   * default a second, and cuts what is left.
   */
  stop(graceMs?: number): Promise<void>
}

// A client that takes nothing for so long is gone, or too slow to follow; it resumes after its last event.
const streamStallMs = 30_000

/**
 * Serves a fetch handler over HTTP/1.1. Slow headers and bodies are cut by Node's own limits (60 s and 300 s). Of an event
 * stream nothing is read ahead of its client, and one that takes nothing for 30 s is cut.
 */
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
  const leaving = new AbortController()
  // Each open stream listens for the end.
  setMaxListeners(0, leaving.signal)
  let streams = 0
  const onStream = (ended: Promise<void>): void => {
    streams++
    void ended.finally(() => streams--)
  }
  const server = createServer((request, response) => {
    answer(handler, request, response, { waitUntil, leaving: leaving.signal, onStream }).catch((error: unknown) => {
      options.log.error('http.request', { error: describeError(error) })
      if (!response.headersSent) response.writeHead(500)
      response.destroy()
    })
  })
  await listen(server, options.host, options.port)
  const { port } = server.address() as AddressInfo
  return {
    url: `http://${options.host.includes(':') ? `[${options.host}]` : options.host}:${port}`,
    streams: () => streams,
    async stop(graceMs = 1_000) {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()))
      leaving.abort()
      // A connection that is kept alive after its last answer would hold the end up.
      const idle = setInterval(() => server.closeIdleConnections(), 50)
      const timer = setTimeout(() => server.closeAllConnections(), graceMs)
      await closed
      clearInterval(idle)
      clearTimeout(timer)
      await Promise.all(background)
    },
  }
}

type Lent = {
  waitUntil(work: Promise<unknown>): void
  leaving: AbortSignal
  onStream(ended: Promise<void>): void
}

async function answer(
  handler: FetchHandler,
  request: IncomingMessage,
  response: ServerResponse,
  { waitUntil, leaving, onStream }: Lent,
): Promise<void> {
  const gone = new AbortController()
  response.once('close', () => {
    // With a reason: without one an exception is made, with its stack, for nobody.
    if (!response.writableFinished) gone.abort('gone')
  })
  // It has what is used of a request.
  const asked = new Incoming(request, gone.signal) as unknown as Request
  const reply = await handler.fetch(asked, { waitUntil, address: request.socket.remoteAddress })
  const type = reply.headers.get('content-type') ?? ''
  const isStream = type.startsWith('text/event-stream')
  // An answer in JSON is whole already.
  const text = /^application\/(graphql-response\+)?json\b/.test(type) ? await reply.text() : undefined
  const length = text === undefined ? {} : { 'content-length': Buffer.byteLength(text) }
  response.writeHead(reply.status, { ...Object.fromEntries(reply.headers), ...length })
  if (text !== undefined || !reply.body) return void response.end(text)
  if (isStream) {
    // Subscriptions must show their headers before their first event; other headers leave with what follows them.
    response.flushHeaders()
    response.setTimeout(streamStallMs, () => response.destroy())
    onStream(new Promise((resolve) => response.once('close', resolve)))
  }
  await send(reply.body, response, gone.signal, isStream ? leaving : undefined)
}

// What the API uses of a request. The class of the runtime checks and copies all of it, and reads a body that nobody asks for.
class Incoming {
  readonly url: string
  readonly method: string
  readonly headers = new Headers()
  readonly signal: AbortSignal
  readonly #message: IncomingMessage
  #body: ReadableStream<Uint8Array> | undefined

  constructor(message: IncomingMessage, signal: AbortSignal) {
    this.url = new URL(message.url ?? '/', `http://${message.headers.host ?? 'localhost'}`).href
    this.method = message.method ?? 'GET'
    this.signal = signal
    this.#message = message
    for (const [name, value = ''] of Object.entries(message.headers)) {
      if (typeof value === 'string') this.headers.append(name, value)
      else for (const one of value) this.headers.append(name, one)
    }
  }

  get body(): ReadableStream<Uint8Array> | null {
    if (this.method === 'GET' || this.method === 'HEAD') return null
    // Node's types of web streams are their own.
    return (this.#body ??= Readable.toWeb(this.#message) as ReadableStream<Uint8Array>)
  }
}

// By its reader: the GraphQL server makes streams of a class of its own, which Node's own adapters refuse. Nothing is read
// before the client took what there was.
async function send(
  body: ReadableStream<Uint8Array>,
  response: ServerResponse,
  gone: AbortSignal,
  leaving: AbortSignal | undefined,
): Promise<void> {
  const reader = body.getReader()
  const leave = (): void => void reader.cancel().catch(() => undefined)
  const ends = [gone, leaving].filter((signal) => signal !== undefined)
  for (const signal of ends) {
    if (signal.aborted) leave()
    signal.addEventListener('abort', leave, { once: true })
  }
  try {
    for (;;) {
      const { done, value } = await reader.read()
      if (done || gone.aborted) break
      if (!response.write(value)) await drained(response, gone)
    }
    response.end()
  } catch (error) {
    if (!gone.aborted) throw error
  } finally {
    for (const signal of ends) signal.removeEventListener('abort', leave)
    leave()
  }
}

function drained(response: ServerResponse, gone: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = (): void => {
      response.off('drain', end)
      gone.removeEventListener('abort', end)
      resolve()
    }
    if (gone.aborted) return resolve()
    response.once('drain', end)
    gone.addEventListener('abort', end, { once: true })
  })
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
