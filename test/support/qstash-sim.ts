import { createHash, randomBytes } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { SignJWT } from 'jose'
import { z } from 'zod'
import { random } from '../chaos/simulator/random.ts'

/** What goes wrong on the way, as shares of all deliveries and in milliseconds. */
export type Weather = { drop: number; double: number; jitterMs: number }

/** A delivery as it went out. */
export type SimDelivery = {
  messageId: string
  url: string
  headers: Record<string, string>
  body: string
  retried: number
  status: number
}

/** Stands in for QStash. */
export type QStashSim = AsyncDisposable & {
  url: string
  token: string
  keys: { current: string; next: string }
  weather: Weather
  /** Where a delivery goes in place of its address, as a load balancer would have it; its signature is for the address. */
  route: (url: string) => string
  /** What was delivered, dropped deliveries not among them. */
  delivered: SimDelivery[]
  counts: { published: number; dropped: number; doubled: number }
  /** Every call of the API: method and path. */
  asked: string[]
  /** While it is set, each call of the API is answered so: `silent` never. */
  trouble: number | 'silent' | undefined
  /** Fires a schedule, as its minute would. */
  fire(scheduleId: string): Promise<void>
  /** Resolves when nothing is on its way and nothing waits for a next try; what is parked stays. */
  settled(): Promise<void>
  /** The token that a delivery to `url` gets now; `claims` over its claims, undefined to leave one out. */
  sign(url: string, body: string, claims?: Record<string, unknown>, key?: string): Promise<string>
}

type Message = {
  messageId: string
  url: string
  method: string
  headers: Record<string, string>
  body: string
  retries: number
  timeoutMs: number
  delayMs: number
  flowKey: string | undefined
  callback: string | undefined
  failureCallback: string | undefined
  scheduleId: string | undefined
}
type Flow = {
  parallelism: number
  rate: number
  period: number
  running: number
  isPaused: boolean
  pinned: boolean
  waiting: Message[]
}
type Schedule = { scheduleId: string; cron: string; createdAt: number; isPaused: boolean; message: Message }
type Dead = { dlqId: string; message: Message; responseStatus: number; responseBody: string }

const batchShape = z.array(
  z.object({
    destination: z.string(),
    headers: z.record(z.string(), z.string()).default({}),
    body: z.string().default(''),
  }),
)

/**
 * The part of QStash that the product uses, by its own library, in memory: publish, batch, flow control, schedules that
 * are fired by hand, the dead letters and the keys. A try after a failed one comes `retryMs` later, and not after what the
 * message says; `seed` decides what is lost, doubled and late. It does not model queues, rates, limits of plans or url groups.
 */
export async function startQStashSim(options: { seed?: number; retryMs?: number } = {}): Promise<QStashSim> {
  const { seed = 1, retryMs = 20 } = options
  const chances = random(seed)
  const token = `sim-token-${randomBytes(12).toString('hex')}`
  const flows = new Map<string, Flow>()
  const schedules = new Map<string, Schedule>()
  const messages = new Map<string, Message>()
  const deduplicated = new Map<string, string>()
  const dead = new Map<string, Dead>()
  const onTheWay = new Set<Promise<unknown>>()
  const silent = new Set<ServerResponse>()
  const closing = new AbortController()

  const jitter = (): number => chances.whole(0, sim.weather.jitterMs)
  const later = (ms: number): Promise<void> =>
    new Promise((resolve) => {
      const end = (): void => {
        clearTimeout(timer)
        resolve()
      }
      const timer = setTimeout(end, ms)
      closing.signal.addEventListener('abort', end, { once: true })
    })
  const keep = (work: Promise<unknown>): void => {
    const kept = work.catch(() => undefined).finally(() => onTheWay.delete(kept))
    onTheWay.add(kept)
  }

  const server = createServer((request, response) => {
    handle(request, response).catch((error: unknown) =>
      send(response, 400, { error: error instanceof Error ? error.message : 'unknown' }),
    )
  })

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const method = request.method ?? ''
    const [path = '', query = ''] = splitQuery(request.url ?? '')
    sim.asked.push(`${method} ${path}`)
    if (sim.trouble === 'silent') return void silent.add(response)
    if (sim.trouble !== undefined) return send(response, sim.trouble, { error: 'out of order' })
    if (request.headers.authorization !== `Bearer ${token}`) return send(response, 401, { error: 'invalid token' })
    const body = await textOf(request)
    const headers = Object.fromEntries(
      Object.entries(request.headers).map(([name, value]) => [name, [value ?? ''].flat().join(', ')]),
    )
    const publish = /^\/v2\/publish\/(.+)$/.exec(path)?.[1]
    if (method === 'POST' && publish !== undefined) {
      const answer = take(publish, headers, body)
      return send(response, 'deduplicated' in answer ? 202 : 200, answer)
    }
    if (method === 'POST' && path === '/v2/batch')
      return send(
        response,
        200,
        batchShape.parse(JSON.parse(body)).map((one) => {
          try {
            return take(one.destination, lowered(one.headers), one.body)
          } catch (error) {
            return { error: error instanceof Error ? error.message : 'unknown' }
          }
        }),
      )
    if (method === 'GET' && path === '/v2/keys') return send(response, 200, sim.keys)
    if (method === 'POST' && path === '/v2/keys/rotate') {
      sim.keys = { current: sim.keys.next, next: signingKey() }
      return send(response, 200, sim.keys)
    }
    const flow = /^\/v2\/flowControl\/([^/]+)(?:\/(\w+))?$/.exec(path)
    if (flow) return flowControl(response, method, flow[1] ?? '', flow[2], new URLSearchParams(query))
    if (path.startsWith('/v2/schedules')) return scheduling(response, method, path, headers, body)
    if (path.startsWith('/v2/dlq')) return deadLetters(response, method, path, new URLSearchParams(query))
    const one = /^\/v2\/messages\/([^/]+)$/.exec(path)?.[1]
    const known = one === undefined ? undefined : messages.get(one)
    if (known && method === 'GET') return send(response, 200, { messageId: known.messageId, url: known.url })
    if (known && method === 'DELETE') {
      messages.delete(known.messageId)
      return send(response, 200, { cancelled: 1 })
    }
    send(response, 404, { error: `${method} ${path} not found` })
  }

  function take(
    url: string,
    headers: Record<string, string>,
    body: string,
  ): { messageId: string; url?: string; deduplicated?: true } {
    const message = messageOf(url, headers, body)
    const id = headers['upstash-deduplication-id']
    const first = id === undefined ? undefined : deduplicated.get(id)
    if (first !== undefined) return { messageId: first, deduplicated: true }
    if (id !== undefined) deduplicated.set(id, message.messageId)
    sim.counts.published++
    messages.set(message.messageId, message)
    if (message.flowKey !== undefined) limitsFrom(message.flowKey, headers['upstash-flow-control-value'] ?? '')
    keep(later(message.delayMs).then(() => admit(message)))
    return { messageId: message.messageId, url }
  }

  const flowOf = (key: string): Flow => {
    const known = flows.get(key)
    if (known) return known
    const made: Flow = { parallelism: 0, rate: 0, period: 1, running: 0, isPaused: false, pinned: false, waiting: [] }
    flows.set(key, made)
    return made
  }
  function limitsFrom(key: string, value: string): void {
    const flow = flowOf(key)
    if (flow.pinned) return
    const given = Object.fromEntries(value.split(',').map((part) => part.trim().split('=')))
    flow.parallelism = Number(given['parallelism'] ?? 0)
    flow.rate = Number(given['rate'] ?? 0)
    flow.period = Number.parseInt(given['period'] ?? '1', 10)
  }

  // Parks what its key holds back, and sends the rest on its way.
  function admit(message: Message): void {
    if (!messages.has(message.messageId)) return
    const flow = message.flowKey === undefined ? undefined : flowOf(message.flowKey)
    if (flow && (flow.isPaused || (flow.parallelism > 0 && flow.running >= flow.parallelism)))
      return void flow.waiting.push(message)
    if (flow) flow.running++
    keep(
      travel(message).finally(() => {
        messages.delete(message.messageId)
        if (!flow) return
        flow.running--
        release(flow)
      }),
    )
  }
  function release(flow: Flow): void {
    while (!flow.isPaused && flow.waiting.length > 0 && (flow.parallelism === 0 || flow.running < flow.parallelism)) {
      const message = flow.waiting.shift()
      if (message) admit(message)
    }
  }

  async function travel(message: Message): Promise<void> {
    if (chances.chance(sim.weather.drop)) return void sim.counts.dropped++
    if (chances.chance(sim.weather.double)) {
      sim.counts.doubled++
      keep(later(jitter()).then(() => attempt(message, 0)))
    }
    await later(jitter())
    for (let retried = 0; !closing.signal.aborted; retried++) {
      const { status, text, isFinal } = await attempt(message, retried)
      const isGood = status >= 200 && status < 300
      const report = {
        status,
        body: Buffer.from(text).toString('base64'),
        retried,
        maxRetries: message.retries,
        url: message.url,
        method: message.method,
        sourceBody: Buffer.from(message.body).toString('base64'),
      }
      if (message.callback !== undefined) tell(message.callback, { ...report, sourceMessageId: message.messageId })
      if (isGood) return
      if (isFinal || retried >= message.retries) {
        const dlqId = `dlq_${randomBytes(8).toString('hex')}`
        dead.set(dlqId, { dlqId, message, responseStatus: status, responseBody: text })
        if (message.failureCallback !== undefined)
          tell(message.failureCallback, { ...report, sourceMessageId: message.messageId, dlqId })
        return
      }
      await later(retryMs)
    }
  }

  const tell = (url: string, report: object): void =>
    void take(url, { 'content-type': 'application/json' }, JSON.stringify(report))

  async function attempt(
    message: Message,
    retried: number,
  ): Promise<{ status: number; text: string; isFinal: boolean }> {
    const headers = {
      ...message.headers,
      'user-agent': 'Upstash-QStash',
      'upstash-message-id': message.messageId,
      'upstash-retried': String(retried),
      'upstash-region': 'EU-CENTRAL-1',
      ...(message.scheduleId === undefined ? {} : { 'upstash-schedule-id': message.scheduleId }),
      'upstash-signature': await sim.sign(message.url, message.body),
    }
    const answer = await fetch(sim.route(message.url), {
      method: message.method,
      headers,
      body: message.body,
      signal: AbortSignal.any([closing.signal, AbortSignal.timeout(message.timeoutMs)]),
    }).then(
      async (response) => ({
        status: response.status,
        text: await response.text(),
        isFinal: response.status === 489 && response.headers.get('upstash-nonretryable-error') === 'true',
      }),
      () => ({ status: 0, text: '', isFinal: false }),
    )
    const { messageId, url, body } = message
    sim.delivered.push({ messageId, url, headers, body, retried, status: answer.status })
    return answer
  }

  function flowControl(
    response: ServerResponse,
    method: string,
    key: string,
    verb: string | undefined,
    query: URLSearchParams,
  ): void {
    const flow = flows.get(key)
    if (method === 'GET' && verb === undefined) {
      if (!flow) return send(response, 404, { error: 'flow control key not found' })
      return send(response, 200, {
        flowControlKey: key,
        waitListSize: flow.waiting.length,
        parallelismMax: flow.parallelism,
        parallelismCount: flow.running,
        rateMax: flow.rate,
        rateCount: 0,
        ratePeriod: flow.period,
        ratePeriodStart: 0,
        isPaused: flow.isPaused,
        isPinnedParallelism: flow.pinned,
        isPinnedRate: false,
      })
    }
    if (method !== 'POST' || verb === undefined || !['pause', 'resume', 'pin', 'unpin', 'resetRate'].includes(verb))
      return send(response, 404, { error: 'not found' })
    const changed = flowOf(key)
    if (verb === 'pause') changed.isPaused = true
    if (verb === 'resume') changed.isPaused = false
    if (verb === 'pin') {
      changed.pinned = true
      changed.parallelism = Number(query.get('parallelism') ?? changed.parallelism)
    }
    if (verb === 'unpin') changed.pinned = false
    response.writeHead(200).end()
    release(changed)
  }

  function scheduling(
    response: ServerResponse,
    method: string,
    path: string,
    headers: Record<string, string>,
    body: string,
  ): void {
    const rest = path.slice('/v2/schedules'.length).replace(/^\//, '')
    if (method === 'POST') {
      const scheduleId = headers['upstash-schedule-id'] ?? `scd_${randomBytes(8).toString('hex')}`
      const cron = headers['upstash-cron'] ?? ''
      if (!/^(CRON_TZ=\S+ )?(\S+ ){4}\S+$/.test(cron)) return send(response, 400, { error: 'invalid cron' })
      const message = { ...messageOf(rest, headers, body), scheduleId }
      const createdAt = schedules.get(scheduleId)?.createdAt ?? Date.now()
      const isPaused = schedules.get(scheduleId)?.isPaused ?? false
      schedules.set(scheduleId, { scheduleId, cron, createdAt, isPaused, message })
      return send(response, 200, { scheduleId })
    }
    if (method === 'GET' && rest === '') return send(response, 200, [...schedules.values()].map(shown))
    const [id = '', verb] = rest.split('/')
    const known = schedules.get(id)
    if (!known) return send(response, 404, { error: 'schedule not found' })
    if (method === 'GET') return send(response, 200, shown(known))
    if (method === 'DELETE') schedules.delete(id)
    else if (method === 'PATCH') known.isPaused = verb === 'pause'
    response.writeHead(200).end()
  }

  function deadLetters(response: ServerResponse, method: string, path: string, query: URLSearchParams): void {
    const named = [...query.getAll('dlqIds'), ...(/^\/v2\/dlq\/(dlq_\w+)$/.exec(path)?.slice(1) ?? [])]
    const chosen = named.length > 0 ? named.flatMap((id) => dead.get(id) ?? []) : [...dead.values()]
    if (method === 'GET')
      return send(response, 200, {
        messages: chosen.map(({ dlqId, message, responseStatus, responseBody }) => ({
          dlqId,
          messageId: message.messageId,
          url: message.url,
          body: message.body,
          maxRetries: message.retries,
          responseStatus,
          responseBody,
          ...(message.flowKey === undefined ? {} : { flowControlKey: message.flowKey }),
        })),
      })
    for (const { dlqId } of chosen) dead.delete(dlqId)
    if (method === 'DELETE') return send(response, 200, { deleted: chosen.length })
    send(response, 200, {
      responses: chosen.map(({ message }) => {
        const again = { ...message, messageId: messageId() }
        messages.set(again.messageId, again)
        admit(again)
        return { messageId: again.messageId }
      }),
    })
  }

  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo // of a server that listens on TCP
  const sim: QStashSim = {
    url: `http://127.0.0.1:${port}`,
    token,
    keys: { current: signingKey(), next: signingKey() },
    weather: { drop: 0, double: 0, jitterMs: 0 },
    route: (url) => url,
    delivered: [],
    counts: { published: 0, dropped: 0, doubled: 0 },
    asked: [],
    trouble: undefined,
    async fire(scheduleId) {
      const schedule = schedules.get(scheduleId)
      if (!schedule) throw new Error(`there is no schedule ${scheduleId}`)
      if (schedule.isPaused) return
      const message = { ...schedule.message, messageId: messageId() }
      messages.set(message.messageId, message)
      admit(message)
    },
    async settled() {
      while (onTheWay.size > 0) await Promise.all(onTheWay)
    },
    async sign(url, body, claims = {}, key = sim.keys.current) {
      const now = Math.floor(Date.now() / 1000)
      const usual = {
        iss: 'Upstash',
        sub: url,
        iat: now,
        nbf: now,
        exp: now + 300,
        jti: `jwt_${randomBytes(16).toString('hex')}`,
        // The service pads what it hashes.
        body: `${createHash('sha256').update(body).digest('base64url')}=`,
      }
      const payload = Object.fromEntries(
        Object.entries({ ...usual, ...claims }).filter(([, value]) => value !== undefined),
      )
      return new SignJWT(payload).setProtectedHeader({ alg: 'HS256', typ: 'JWT' }).sign(new TextEncoder().encode(key))
    },
    async [Symbol.asyncDispose]() {
      closing.abort()
      await Promise.all(onTheWay)
      for (const response of silent) response.destroy()
      const closed = new Promise((resolve) => server.close(resolve))
      server.closeAllConnections()
      await closed
    },
  }
  return sim
}

const messageId = (): string => `msg_${randomBytes(12).toString('hex')}`
const signingKey = (): string => `sig_${randomBytes(14).toString('hex')}`

function messageOf(url: string, headers: Record<string, string>, body: string): Message {
  if (!/^https?:\/\//.test(url)) throw new Error('invalid destination url: endpoint has invalid scheme')
  const forwarded = Object.entries(headers).flatMap(([name, value]) =>
    name.startsWith('upstash-forward-') ? [[name.slice('upstash-forward-'.length), value] as const] : [],
  )
  const type = headers['content-type']
  return {
    messageId: messageId(),
    url,
    method: headers['upstash-method'] ?? 'POST',
    headers: { ...Object.fromEntries(forwarded), ...(type === undefined ? {} : { 'content-type': type }) },
    body,
    retries: Number(headers['upstash-retries'] ?? 3),
    timeoutMs: Number.parseInt(headers['upstash-timeout'] ?? '900', 10) * 1000,
    delayMs: Number.parseInt(headers['upstash-delay'] ?? '0', 10) * 1000,
    flowKey: headers['upstash-flow-control-key'],
    callback: headers['upstash-callback'],
    failureCallback: headers['upstash-failure-callback'],
    scheduleId: undefined,
  }
}

const shown = ({ message, ...schedule }: Schedule): object => ({
  ...schedule,
  destination: message.url,
  method: message.method,
  body: message.body,
  retries: message.retries,
})

const lowered = (headers: Record<string, string>): Record<string, string> =>
  Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]))

// Of a destination in the path the query is its own.
function splitQuery(url: string): [path: string, query: string] {
  if (/^\/v2\/(publish|schedules)\//.test(url)) return [url, '']
  const at = url.indexOf('?')
  return at < 0 ? [url, ''] : [url.slice(0, at), url.slice(at + 1)]
}

function send(response: ServerResponse, status: number, body: unknown): void {
  if (response.headersSent) return void response.destroy()
  response.writeHead(status, { 'content-type': 'application/json' })
  response.end(JSON.stringify(body))
}

async function textOf(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk)
  return Buffer.concat(chunks).toString()
}
