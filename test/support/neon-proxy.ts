import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { connect, type Socket as TcpSocket } from 'node:net'
import type { AddressInfo } from 'node:net'
import { createRequire } from 'node:module'
import pg from 'pg'
import { z } from 'zod'

/** The part of the `ws` package that is used; it lives with the edge's tools and has no types there. */
type Socket = {
  on(event: string, listener: (data: Buffer) => void): Socket
  send(data: Buffer): void
  close(): void
  terminate(): void
}
type Ws = {
  WebSocketServer: new (options: object) => { on(event: 'connection', listener: (socket: Socket) => void): void }
}

/**
 * What goes wrong with requests and connections: `drop` breaks them, `silent` never answers, `fail` is an answer of the
 * proxy that the database cannot be reached.
 */
export type Trouble = 'drop' | 'silent' | 'fail'

/** Stands in for Neon. */
export type NeonProxy = {
  hostPort: string
  /** The queries of each HTTP request, and how many WebSockets were opened. */
  asked: { requests: string[][]; sockets: number }
  /** Milliseconds before each HTTP answer and each opened WebSocket. */
  latencyMs: number
  /** What goes wrong with the next HTTP requests and WebSockets, one each. */
  troubles: Trouble[]
  /** Breaks every WebSocket that is open. */
  dropSockets(): void
  stop(): void
}

const query = z.object({ query: z.string(), params: z.array(z.unknown()).default([]) })
const body = z.union([z.object({ queries: z.array(query) }), query])
const levels: Readonly<Record<string, string>> = {
  ReadUncommitted: 'read uncommitted',
  ReadCommitted: 'read committed',
  RepeatableRead: 'repeatable read',
  Serializable: 'serializable',
}
const fieldsOfError = [
  'severity',
  'code',
  'detail',
  'hint',
  'position',
  'where',
  'schema',
  'table',
  'column',
  'constraint',
]
const asText = { getTypeParser: () => (text: string) => text }

/**
 * The two entries of Neon in front of a PostgreSQL on loopback: WebSockets are piped to it; `POST /sql` takes one query, or
 * several as one transaction, answers in text or in JSON's types, rows as lists or as objects, and errors with status 400. It
 * does not model Neon's pooler, its suspension, its TLS or its authentication by token. `tools` is the folder whose
 * `node_modules` hold `ws`.
 */
export async function startNeonProxy(postgresPort: number, tools: string): Promise<NeonProxy> {
  const { WebSocketServer } = createRequire(tools)('ws') as Ws
  const pools = new Map<string, pg.Pool>()
  const sockets = new Set<Socket>()
  const server = createServer((request, response) => {
    void answer(request, response).catch((error: unknown) => send(response, 400, errorOf(error)))
  })

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const parts: Buffer[] = []
    for await (const part of request) parts.push(part as Buffer)
    if (request.method !== 'POST' || request.url !== '/sql') return send(response, 404, { message: 'not found' })
    const asked = body.parse(JSON.parse(Buffer.concat(parts).toString()))
    proxy.asked.requests.push(('queries' in asked ? asked.queries : [asked]).map((one) => one.query))
    const trouble = proxy.troubles.shift()
    if (trouble === 'drop') return void request.socket.destroy()
    if (trouble === 'silent') return
    if (trouble === 'fail') return send(response, 500, { message: "Couldn't connect to compute node", code: 'XX000' })
    await pause(proxy.latencyMs)
    const url = header(request, 'neon-connection-string')
    const pool = pools.get(url) ?? poolTo(url)
    pools.set(url, pool)
    const client = await pool.connect()
    const run = (one: z.output<typeof query>): Promise<object> => runQuery(client, one, request)
    let isClean = true
    try {
      if (!('queries' in asked)) return send(response, 200, await run(asked))
      isClean = false
      await client.query(`begin ${modeOf(request)}`)
      const results: unknown[] = []
      for (const one of asked.queries) results.push(await run(one))
      await client.query('commit')
      isClean = true
      send(response, 200, { results })
    } catch (error) {
      send(response, 400, errorOf(error))
    } finally {
      client.release(!isClean)
    }
  }

  const poolTo = (url: string): pg.Pool => {
    const { username, password, pathname } = new URL(url)
    return new pg.Pool({
      host: '127.0.0.1',
      port: postgresPort,
      user: decodeURIComponent(username),
      password: decodeURIComponent(password),
      database: pathname.slice(1),
      max: 8,
    }).on('error', () => undefined)
  }

  new WebSocketServer({ server }).on('connection', (socket) => {
    proxy.asked.sockets++
    sockets.add(socket)
    socket.on('error', () => undefined).on('close', () => sockets.delete(socket))
    const trouble = proxy.troubles.shift()
    if (trouble === 'silent') return
    if (trouble) return socket.terminate()
    const early: Buffer[] = []
    let database: TcpSocket | undefined
    socket.on('message', (data) => void (database ? database.write(data) : early.push(data)))
    void pause(proxy.latencyMs).then(() => {
      database = connect(postgresPort, '127.0.0.1').setNoDelay(true)
      for (const data of early) database.write(data)
      database.on('data', (data) => socket.send(data))
      database.on('close', () => socket.close())
      database.on('error', () => socket.close())
      socket.on('close', () => database?.destroy())
      return undefined
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  const proxy: NeonProxy = {
    hostPort: `127.0.0.1:${port}`,
    asked: { requests: [], sockets: 0 },
    latencyMs: 0,
    troubles: [],
    dropSockets() {
      for (const socket of sockets) socket.terminate()
    },
    stop() {
      server.close()
      server.closeAllConnections()
      for (const pool of pools.values()) void pool.end()
    },
  }
  return proxy
}

async function runQuery(
  client: pg.PoolClient,
  { query: text, params }: z.output<typeof query>,
  request: IncomingMessage,
): Promise<object> {
  const isRaw = header(request, 'neon-raw-text-output') === 'true'
  const config = { text, values: params, rowMode: 'array' as const, ...(isRaw ? { types: asText } : {}) }
  const { command, rowCount, rows, fields } = await client.query<unknown[]>(config)
  const isArray = header(request, 'neon-array-mode') === 'true'
  return {
    command,
    rowCount,
    fields: fields.map(({ name, tableID, columnID, dataTypeID, dataTypeSize, dataTypeModifier, format }) => {
      return { name, tableID, columnID, dataTypeID, dataTypeSize, dataTypeModifier, format }
    }),
    rows: isArray ? rows : rows.map((row) => Object.fromEntries(fields.map(({ name }, at) => [name, row[at]]))),
    rowAsArray: isArray,
  }
}

function modeOf(request: IncomingMessage): string {
  const level = header(request, 'neon-batch-isolation-level')
  if (level !== '' && levels[level] === undefined) throw new Error(`no isolation level ${level}`)
  return [
    level === '' ? '' : `isolation level ${levels[level] ?? ''}`,
    header(request, 'neon-batch-read-only') === 'true' ? 'read only' : '',
    header(request, 'neon-batch-deferrable') === 'true' ? 'deferrable' : '',
  ]
    .filter((part) => part !== '')
    .join(', ')
}

const header = (request: IncomingMessage, name: string): string => String(request.headers[name] ?? '')

const errorOf = (error: unknown): object => ({
  message: error instanceof Error ? error.message : String(error),
  ...Object.fromEntries(fieldsOfError.map((name) => [name, error instanceof Error ? Reflect.get(error, name) : null])),
})

function send(response: ServerResponse, status: number, answer: object): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(answer))
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => (ms > 0 ? setTimeout(resolve, ms) : resolve()))
