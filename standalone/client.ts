import { z } from 'zod'

/** A client of the public API, the same that any program would write. */
export type Client = {
  /** Data of a query or mutation. Throws the first error as `<code>: <message>`. */
  request(query: string, variables?: Record<string, unknown>): Promise<Record<string, unknown>>
  /** Events of a subscription until it ends or `signal` aborts. */
  subscribe(
    query: string,
    variables: Record<string, unknown>,
    signal?: AbortSignal,
  ): AsyncIterable<Record<string, unknown>>
}

const answer = z.object({
  data: z.record(z.string(), z.unknown()).nullish(),
  errors: z
    .array(z.object({ message: z.string(), extensions: z.object({ code: z.string().optional() }).optional() }))
    .optional(),
})

/** Speaks GraphQL over HTTP and server-sent events to `url` with an API key. */
export function graphqlClient(url: string, token: string): Client {
  const post = (
    query: string,
    variables: Record<string, unknown>,
    accept: string,
    signal?: AbortSignal,
  ): Promise<Response> =>
    fetch(`${url}/graphql`, {
      method: 'POST',
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json', accept },
      body: JSON.stringify({ query, variables }),
      signal: signal ?? null,
    })
  return {
    async request(query, variables = {}) {
      const response = await post(query, variables, 'application/json', AbortSignal.timeout(60_000))
      return dataOf(await response.json())
    },
    async *subscribe(query, variables, signal) {
      const response = await post(query, variables, 'text/event-stream', signal)
      if (!response.headers.get('content-type')?.startsWith('text/event-stream') || !response.body) {
        dataOf(await response.json())
        throw new Error('the server opened no stream')
      }
      for await (const { event, data } of eventsOf(response.body)) {
        if (event === 'complete') return
        if (event === 'next' && data !== '') yield dataOf(JSON.parse(data))
      }
    },
  }
}

function dataOf(body: unknown): Record<string, unknown> {
  const { data, errors } = answer.parse(body)
  const [first] = errors ?? []
  if (first) throw new Error(`${first.extensions?.code ?? 'ERROR'}: ${first.message}`)
  return data ?? {}
}

// https://html.spec.whatwg.org/multipage/server-sent-events.html: fields of an event, ended by an empty line.
async function* eventsOf(body: ReadableStream<Uint8Array>): AsyncIterable<{ event: string; data: string }> {
  let event = 'message'
  let data: string[] = []
  let rest = ''
  const decoder = new TextDecoder()
  for await (const chunk of body) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split(/\r?\n/)
    rest = lines.pop() ?? ''
    for (const line of lines) {
      if (line === '') {
        yield { event, data: data.join('\n') }
        event = 'message'
        data = []
      } else if (line.startsWith('event:')) event = line.slice(6).trim()
      else if (line.startsWith('data:')) data.push(line.slice(5).trimStart())
    }
  }
}
