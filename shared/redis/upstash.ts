import { Redis as Client } from '@upstash/redis/cloudflare'
import { commandMs, type Heard, type Redis, RedisRefusal } from './redis.ts'
import { within } from '../within.ts'

const openMs = 5_000
// Texts on our channels are shorter than this by far.
const charsMax = 65_536

/**
 * Redis over the REST protocol of Upstash, by fetch alone: nothing is kept between two calls, so all requests of an
 * isolate may use it. A subscription is a stream of its own and belongs to the request that opened it. One that has said
 * nothing for `quietMs` may be dead without a word, and is over; a new one costs one request.
 */
export function upstashRedis({ url, token }: { url: string; token: string }, quietMs = 60_000): Redis {
  const clients = new Map<number, Client>()
  const clientFor = (ms: number): Client => {
    const known = clients.get(ms)
    if (known) return known
    const made = new Client({
      url,
      token,
      // A repeat of what may have been done would take points twice, and nobody waits so long.
      retry: { retries: 0 },
      // A function: a client that is given a signal itself answers with its reason as if Redis had said it.
      signal: () => AbortSignal.timeout(ms),
      automaticDeserialization: false,
      enableTelemetry: false,
      enableAutoPipelining: false,
      readYourWrites: false,
    })
    clients.set(ms, made)
    return made
  }
  return {
    async command([name, ...values], { timeoutMs = commandMs, signal } = {}) {
      try {
        return await within(clientFor(timeoutMs).exec<unknown>([name, ...values]), timeoutMs, 'Redis', signal)
      } catch (error) {
        throw refusalOf(error)
      }
    },
    async subscribe(channel, heard, signal) {
      const stream = new AbortController()
      const stop = (): void => stream.abort()
      let timer = setTimeout(stop, openMs)
      signal.addEventListener('abort', stop, { once: true })
      try {
        if (signal.aborted) return
        const response = await fetch(`${url.replace(/\/$/, '')}/subscribe/${encodeURIComponent(channel)}`, {
          method: 'POST',
          headers: { authorization: `Bearer ${token}`, accept: 'text/event-stream' },
          signal: stream.signal,
        })
        if (!response.ok || !response.body) {
          await response.body?.cancel()
          throw new Error(`Redis refuses a subscription with status ${response.status}`)
        }
        await read(response.body, channel, heard, () => {
          clearTimeout(timer)
          timer = setTimeout(stop, quietMs)
        })
        throw new Error('the stream of Redis has ended')
      } catch (error) {
        if (!signal.aborted) throw error
      } finally {
        clearTimeout(timer)
        signal.removeEventListener('abort', stop)
        // Some runtimes leave the connection open until it is told.
        stream.abort()
      }
    },
  }
}

// Frames are `data: subscribe,<channel>,1` and then `data: message,<channel>,<text>`.
async function read(
  body: ReadableStream<Uint8Array<ArrayBuffer>>,
  channel: string,
  heard: Heard,
  alive: () => void,
): Promise<void> {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader()
  let rest = ''
  try {
    for (;;) {
      const { value, done } = await reader.read()
      if (done) return
      alive()
      const lines = (rest + value).split('\n')
      rest = lines.pop() ?? ''
      if (rest.length > charsMax) throw new Error('a line of the stream of Redis is too long')
      for (const line of lines) {
        const said = line.startsWith('data: ') ? line.slice('data: '.length).trimEnd() : ''
        if (said.startsWith(`subscribe,${channel},`)) heard.ready()
        else if (said.startsWith(`message,${channel},`)) heard.message(said.slice(`message,${channel},`.length))
      }
    }
  } finally {
    await reader.cancel().catch(() => undefined)
  }
}

// The library's message ends in the whole command, which belongs into no log.
function refusalOf(error: unknown): unknown {
  if (!(error instanceof Error) || error.name !== 'UpstashError') return error
  return new RedisRefusal(error.message.split(', command was: ')[0])
}
