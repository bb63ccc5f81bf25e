import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Clock } from '../../shared/clock.ts'
import type { Db } from '../../shared/db/db.ts'
import { AppError } from '../../shared/errors.ts'
import { describeError, type Log, rarely } from '../../shared/log.ts'
import { deliveryBytesMax, receiveDelivery, type Sender } from '../../shared/qstash/receive-delivery.ts'
import { type WakeMessage, wakeMessage } from '../../shared/waking/wake-message.ts'
import { listen } from '../listen.ts'

/** What is done with wake-ups. */
export type Woken = {
  /** False while nothing new is taken: QStash then tries again later. */
  isTaking(): boolean
  /** Looks for work at once. Resolves when there is none left, or when the signal aborts, since nobody waits for that. */
  wake(message: WakeMessage, signal: AbortSignal): Promise<void>
  /** Has somebody woken again: its work took longer than an answer may wait. */
  again(message: WakeMessage): Promise<void>
}

/** A server of wake-ups. `figures` counts those that were taken and those that were refused. */
export type WakeServer = { url: string; figures(): { taken: number; refused: number }; stop(): Promise<void> }

const path = '/wake'
const bodyMs = 5_000

/**
 * Takes wake-ups that QStash delivers to `/wake`: 202 at once, or with `holdMs` 200 when the work is done and 202 when
 * that takes longer. 401 for whatever is not QStash's own, not made for this address, or was taken before; 489 for a
 * signed body that is no wake-up, and 503 when it should come again. For the public, and so with nothing else on its port.
 */
export async function serveWakes(
  woken: Woken,
  options: {
    host: string
    port: number
    sender: Sender
    holdMs?: number | undefined
    ports: { db: Db; clock: Clock; log: Log }
  },
): Promise<WakeServer> {
  const { ports, sender, holdMs } = options
  const stopping = new AbortController()
  const figures = { taken: 0, refused: 0 }
  const failed = rarely(ports.clock)
  const server = createServer(
    { headersTimeout: bodyMs, requestTimeout: bodyMs, connectionsCheckingInterval: 1_000 },
    (request, response) => {
      answer(request, response).catch((error: unknown) => {
        const status = error instanceof AppError ? error.status : 503
        if (status === 503) failed((times) => ports.log.warn('wake.failed', { times, error: describeError(error) }))
        else figures.refused++
        // Why is nobody's business: whoever guesses learns nothing. What is signed and no wake-up becomes none by trying again.
        if (status === 400) reply(response, 489, { 'upstash-nonretryable-error': 'true' })
        else reply(response, status)
        if (!request.complete) request.destroy()
      })
    },
  )

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (request.url?.split('?')[0] !== path) return reply(response, 404)
    if (request.method !== 'POST') return reply(response, 405)
    if (stopping.signal.aborted || !woken.isTaking()) return reply(response, 503, { 'retry-after': '5' })
    const body = await textOf(request)
    const signature = request.headers['upstash-signature']
    await receiveDelivery(ports, 'worker', sender, {
      signature: typeof signature === 'string' ? signature : undefined,
      body,
    })
    const message = messageOf(body)
    figures.taken++
    const over = new AbortController()
    const gone = AbortSignal.any([over.signal, stopping.signal])
    const work = woken.wake(message, gone)
    if (holdMs === undefined) {
      over.abort()
      await work
      return reply(response, 202)
    }
    const held = await inTime(work, holdMs, gone)
    over.abort()
    if (!held) await woken.again(message)
    return reply(response, held ? 200 : 202)
  }

  // Whether it was done before its time; false when this ends first.
  async function inTime(work: Promise<void>, ms: number, signal: AbortSignal): Promise<boolean> {
    const timer = new AbortController()
    const late = ports.clock.sleep(ms, AbortSignal.any([timer.signal, signal])).then(() => false)
    const done = await Promise.race([work.then(() => true), late])
    timer.abort()
    return done && !signal.aborted
  }

  await listen(server, options.host, options.port).catch((cause: unknown) => {
    throw new AppError('BAD_INPUT', `The address ${options.host}:${options.port} cannot be listened on.`, {
      hint: 'Choose another with WAKE_HOST and WAKE_PORT.',
      cause,
    })
  })
  const { port } = server.address() as AddressInfo // of a server that listens on TCP
  return {
    url: `http://${options.host.includes(':') ? `[${options.host}]` : options.host}:${port}${path}`,
    figures: () => ({ ...figures }),
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

function reply(response: ServerResponse, status: number, headers: Record<string, string> = {}): void {
  if (response.headersSent) return
  response.writeHead(status, { 'content-type': 'text/plain', connection: 'close', ...headers })
  response.end(`${status}\n`)
}

function messageOf(body: string): WakeMessage {
  try {
    return wakeMessage.parse(JSON.parse(body))
  } catch (cause) {
    throw new AppError('BAD_INPUT', 'This is no wake-up.', { cause })
  }
}

async function textOf(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes > deliveryBytesMax) throw new AppError('TOO_LARGE', 'No wake-up is so long.')
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString()
}
