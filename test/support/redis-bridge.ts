import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Redis } from 'ioredis'
import { z } from 'zod'

/** What goes wrong with the next requests: `drop` breaks the connection, `silent` never answers, `fail` is status 500. */
export type Trouble = 'drop' | 'silent' | 'fail'

/** Stands in for the REST service of Upstash. */
export type RedisBridge = AsyncDisposable & {
  url: string
  token: string
  /** Every command that was asked for, in capitals. */
  asked: string[]
  /** Milliseconds before each answer. */
  latencyMs: number
  trouble: Trouble | undefined
  /** Changes the result of a command before it is told: a server that lies. */
  lie: ((words: readonly string[], result: unknown) => unknown) | undefined
  /** Streams of subscriptions that are open. */
  streams(): number
  /** Breaks all of them. */
  dropStreams(): void
}

const commandShape = z.array(z.union([z.string(), z.number(), z.boolean()]).transform(String)).min(1)

/**
 * The REST protocol of Upstash in front of a real Redis: commands as an array or in the path, `/pipeline`, `/multi-exec`,
 * subscriptions as server-sent events, results in base64 for who wants them. It does not model replicas, limits of a
 * plan or the sync token.
 */
export async function startRedisBridge(redisUrl: string, token = 'bridge-token'): Promise<RedisBridge> {
  const options = { protocol: 2, disableClientInfo: true, maxRetriesPerRequest: 0, enableOfflineQueue: true } as const
  const open = (): Redis => new Redis(redisUrl, options).on('error', () => undefined)
  const redis = open()
  const streams = new Set<ServerResponse>()
  const silent = new Set<ServerResponse>()

  const server = createServer((request, response) => {
    void handle(request, response).catch((error: unknown) => {
      if (!response.headersSent) send(response, 400, { error: error instanceof Error ? error.message : 'unknown' })
      else response.destroy()
    })
  })

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (bridge.trouble === 'drop') return void request.socket.destroy()
    if (bridge.trouble === 'silent') return void silent.add(response)
    if (bridge.trouble === 'fail') return send(response, 500, { error: 'ERR internal' })
    if (request.headers.authorization !== `Bearer ${token}`) return send(response, 401, { error: 'WRONGPASS' })
    const [first = '', ...others] = (request.url ?? '').split('?')[0]?.split('/').filter(Boolean) ?? []
    const path = [first, ...others].filter((part) => part !== '').map(decodeURIComponent)
    if (first === 'subscribe' || first === 'psubscribe') return listen(response, first, path.slice(1))
    const body = await textOf(request)
    const given: unknown = body === '' ? [] : JSON.parse(body)
    const isBase64 = request.headers['upstash-encoding'] === 'base64'
    if (bridge.latencyMs > 0) await new Promise((resolve) => setTimeout(resolve, bridge.latencyMs))
    if (first === 'pipeline' || first === 'multi-exec') {
      const commands = z.array(commandShape).parse(given)
      const answers = first === 'pipeline' ? await inOrder(commands) : await atOnce(commands)
      return Array.isArray(answers)
        ? send(
            response,
            200,
            answers.map((answer) => toldAs(answer, isBase64)),
          )
        : send(response, 400, answers)
    }
    const answer = await run(redis, commandShape.parse(path.length > 0 ? [...path, ...asList(given)] : given))
    send(response, 'error' in answer ? 400 : 200, toldAs(answer, isBase64))
  }

  type Result = { result: unknown } | { error: string }

  async function run(client: Redis, words: readonly string[]): Promise<Result> {
    const [name = '', ...values] = words
    bridge.asked.push(name.toUpperCase())
    try {
      const result = await client.callBuffer(name, ...values)
      return { result: bridge.lie ? bridge.lie(words, plain(result)) : result }
    } catch (error) {
      return { error: error instanceof Error ? error.message : 'unknown' }
    }
  }

  async function inOrder(commands: string[][]): Promise<Result[]> {
    const answers: Result[] = []
    for (const words of commands) answers.push(await run(redis, words))
    return answers
  }

  async function atOnce(commands: string[][]): Promise<Result[] | { error: string }> {
    const own = open()
    try {
      await run(own, ['MULTI'])
      for (const words of commands) await run(own, words)
      const done = await run(own, ['EXEC'])
      if ('error' in done) return done
      return Array.isArray(done.result) ? done.result.map((result: unknown) => ({ result })) : { error: 'EXECABORT' }
    } finally {
      own.disconnect()
    }
  }

  function listen(response: ServerResponse, kind: 'subscribe' | 'psubscribe', channels: string[]): void {
    response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-cache' })
    response.flushHeaders()
    streams.add(response)
    const own = open()
    const tell = (...parts: (string | number)[]): void => void response.write(`data: ${parts.join(',')}\n\n`)
    own.on('message', (channel: string, text: string) => tell('message', channel, text))
    own.on('pmessage', (pattern: string, channel: string, text: string) => tell('pmessage', pattern, channel, text))
    own.once('close', () => response.destroy())
    response.on('close', () => {
      streams.delete(response)
      own.disconnect()
    })
    void own[kind](...channels).then(
      () => channels.forEach((channel, i) => tell(kind, channel, i + 1)),
      () => response.destroy(),
    )
  }

  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  // A server that listens on TCP has an address of this form.
  const { port } = server.address() as AddressInfo
  const bridge: RedisBridge = {
    url: `http://127.0.0.1:${port}`,
    token,
    asked: [],
    latencyMs: 0,
    trouble: undefined,
    lie: undefined,
    streams: () => streams.size,
    dropStreams() {
      for (const one of streams) one.destroy()
    },
    async [Symbol.asyncDispose]() {
      redis.disconnect()
      const closed = new Promise((resolve) => server.close(resolve))
      server.closeAllConnections()
      await closed
    },
  }
  return bridge
}

function send(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' })
  response.end(JSON.stringify(body))
}

async function textOf(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk)
  return Buffer.concat(chunks).toString()
}

const asList = (given: unknown): unknown[] => (Array.isArray(given) ? given : [given])

const toldAs = <R extends object>(answer: R, isBase64: boolean): R =>
  'result' in answer ? { ...answer, result: isBase64 ? encoded(answer.result) : plain(answer.result) } : answer

// The service leaves OK as it is and encodes every other text.
function encoded(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(encoded)
  const text = typeof value === 'string' ? Buffer.from(value) : value
  if (!Buffer.isBuffer(text)) return value
  return text.toString() === 'OK' ? 'OK' : text.toString('base64')
}

function plain(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(plain)
  return Buffer.isBuffer(value) ? value.toString() : value
}
