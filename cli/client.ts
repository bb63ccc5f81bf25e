import type { Operation, TypedText } from '../schema/operations/index.ts'
import { AppError, isErrorCode } from '../shared/errors.ts'
import { eventsOf } from './events.ts'

/** Where the API is and who asks. */
export type ClientOptions = {
  /** Its address without a path, as `https://tributary.example`. */
  url: string
  /** An API key, or the access token of a session; without one there is only what it takes to sign in. */
  key?: string | undefined
  /** How long an answer may take; streams have no end. Default: 60 s. */
  timeoutMs?: number
  /** Default: that of the runtime. */
  fetch?: typeof fetch
}

/** A published operation, or a document of one's own. */
export type Asked<Data, Variables> = Operation<Data, Variables> | TypedText<Data, Variables>

/** A client of the public API: what any program would write, in two functions. */
export type Client = {
  /**
   * What a query or mutation answers. Expected refusals of a mutation stand in its `errors`; every other error is thrown
   * as an AppError with code, hint and, in its context, the request id. Nothing is tried again: send an idempotency key
   * and do it yourself.
   */
  ask<Data, Variables>(
    asked: Asked<Data, Variables>,
    variables: Variables,
    options?: { idempotencyKey?: string; signal?: AbortSignal },
  ): Promise<Data>
  /**
   * Events of a subscription, each once and in order. A stream that breaks is opened again after its last event. It ends
   * with the event for which `isLast` holds; without `isLast` when the server ends it, which it also does with streams of
   * five minutes. Throws what cannot get better, and the sixth failure in a row.
   */
  watch<Data, Variables>(
    asked: Asked<Data, Variables>,
    variables: Variables,
    options?: { isLast?: (data: Data) => boolean; signal?: AbortSignal },
  ): AsyncGenerator<Data, void>
}

const failuresMax = 5
const firstWaitMs = 250
// A stream that ends at once and empty has nothing to tell any more.
const emptyMs = 1_000

/** A client; it holds no connection and needs no end. */
export function connect({ url, key, timeoutMs = 60_000, fetch: send = fetch }: ClientOptions): Client {
  const endpoint = new URL('/graphql', url)
  const post = (asked: unknown, variables: unknown, headers: Record<string, string>, signal: AbortSignal | undefined) =>
    send(endpoint, {
      method: 'POST',
      headers: {
        ...(key === undefined ? {} : { authorization: `Bearer ${key}` }),
        'content-type': 'application/json',
        ...headers,
      },
      body: JSON.stringify({ query: textOf(asked), variables }),
      signal: signal ?? null,
    }).catch((cause: unknown) => {
      if (signal?.aborted) throw cause
      throw new AppError('UNAVAILABLE', `Nothing answers at ${endpoint.origin}.`, { cause })
    })

  return {
    async ask(asked, variables, { idempotencyKey, signal } = {}) {
      const limit = AbortSignal.timeout(timeoutMs)
      const response = await post(
        asked,
        variables,
        { accept: 'application/json', ...(idempotencyKey === undefined ? {} : { 'idempotency-key': idempotencyKey }) },
        signal ? AbortSignal.any([signal, limit]) : limit,
      )
      return dataOf(await bodyOf(response), response)
    },
    async *watch(asked, variables, { isLast, signal } = {}) {
      let last = ''
      for (let failures = 0; ;) {
        const opened = performance.now()
        let seen = 0
        let isComplete = false
        try {
          const resume: Record<string, string> = last === '' ? {} : { 'last-event-id': last }
          const response = await post(asked, variables, { accept: 'text/event-stream', ...resume }, signal)
          if (!response.headers.get('content-type')?.startsWith('text/event-stream') || !response.body) {
            dataOf(await bodyOf(response), response)
            throw new AppError('INTERNAL', 'The server opened no stream.', { retry: 'never' })
          }
          for await (const { id, event, data } of eventsOf(response.body)) {
            isComplete = event === 'complete'
            if (isComplete) break
            if (event !== 'next' || data === '') continue
            const one = dataOf<DataIn<typeof asked>>(JSON.parse(data), response)
            // Not before it is whole: what comes after `last` comes again.
            last = id || last
            failures = 0
            seen++
            yield one
            if (isLast?.(one)) return
          }
        } catch (error) {
          if (signal?.aborted) throw signal.reason
          if (error instanceof AppError && error.retry === 'never') throw error
          if (++failures > failuresMax) throw error
        }
        if (isComplete && (!isLast || (seen === 0 && performance.now() - opened < emptyMs))) return
        if (!isComplete) await pause(firstWaitMs * 2 ** failures, signal)
      }
    },
  }
}

type DataIn<A> = A extends Asked<infer Data, never> ? Data : never

const textOf = (asked: unknown): string => {
  if (typeof asked === 'string') return asked
  return typeof asked === 'object' && asked !== null && 'text' in asked ? String(asked.text) : ''
}

type Body = {
  data?: unknown
  errors?: { message: string; extensions?: { code?: string; hint?: string; requestId?: string } }[]
}

async function bodyOf(response: Response): Promise<Body> {
  const text = await response.text()
  try {
    return JSON.parse(text) as Body
  } catch (cause) {
    throw new AppError('UNAVAILABLE', `This is no GraphQL API: it answered ${response.status} and no JSON.`, { cause })
  }
}

// The types of data come of the schema that the operation was generated from.
function dataOf<Data>({ data, errors }: Body, response: Response): Data {
  const [first] = errors ?? []
  if (!first) return data as Data
  const { code = 'INTERNAL', hint, requestId = response.headers.get('x-request-id') } = first.extensions ?? {}
  const wait = Number(response.headers.get('retry-after') ?? Number.NaN)
  throw new AppError(isErrorCode(code) ? code : 'INTERNAL', first.message, {
    ...(hint === undefined ? {} : { hint }),
    context: { requestId },
    figures: Number.isFinite(wait) ? { retryAfterSeconds: wait } : {},
  })
}

function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = (): void => {
      clearTimeout(timer)
      reject(signal?.reason instanceof Error ? signal.reason : new Error('aborted'))
    }
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', stop)
      resolve()
    }, ms)
    signal?.addEventListener('abort', stop, { once: true })
  })
}
