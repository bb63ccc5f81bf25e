import { z } from 'zod'
import { commandMs, type Heard, type Redis, RedisRefusal } from './redis.ts'
import { within } from '../within.ts'

const openMs = 5_000
// Texts on our channels are shorter than this by far.
const charsMax = 65_536

const answerShape = z.union([z.object({ error: z.string() }), z.object({ result: z.unknown() })])

/**
 * Redis over the REST protocol of Upstash, by fetch alone: nothing is kept between two calls, so all requests of an
 * isolate may use it. A subscription is a stream of its own and belongs to the request that opened it. One that has said
 * nothing for `quietMs` may be dead without a word, and is over; a new one costs one request.
 */
export function upstashRedis({ url, token }: { url: string; token: string }, quietMs = 60_000): Redis {
  const base = url.replace(/\/$/, '')
  const authorization = `Bearer ${token}`

  async function ask(words: readonly (string | number)[], signal: AbortSignal): Promise<unknown> {
    const response = await fetch(base, {
      method: 'POST',
      headers: { authorization, 'content-type': 'application/json' },
      body: JSON.stringify(words),
      signal,
    })
    const answer = answerShape.safeParse(await response.json().catch(() => undefined))
    if (!answer.success) throw new Error(`Redis answers with status ${response.status} and no result`)
    if ('error' in answer.data) throw new RedisRefusal(answer.data.error)
    return answer.data.result
  }

  return {
    command: (words, { timeoutMs = commandMs, signal } = {}) =>
      within(ask(words, AbortSignal.timeout(timeoutMs)), timeoutMs, 'Redis', signal),
    async subscribe(channel, heard, signal) {
      const stream = new AbortController()
      const stop = (): void => stream.abort()
      let timer = setTimeout(stop, openMs)
      signal.addEventListener('abort', stop, { once: true })
      try {
        if (signal.aborted) return
        const response = await fetch(`${base}/subscribe/${encodeURIComponent(channel)}`, {
          method: 'POST',
          headers: { authorization, accept: 'text/event-stream' },
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
