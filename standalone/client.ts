import { connect } from '../cli/client.ts'
import { AppError } from '../shared/errors.ts'

/** A client for documents of one's own, whose answers are looked into and not typed. */
export type Client = {
  /** Data of a query or mutation. Throws the first error as `<code>: <message>`. */
  request(query: string, variables?: Record<string, unknown>): Promise<Record<string, unknown>>
  /** Events of a subscription until the server ends it or `signal` aborts. A stream that breaks goes on after its last event. */
  subscribe(
    query: string,
    variables: Record<string, unknown>,
    signal?: AbortSignal,
  ): AsyncIterable<Record<string, unknown>>
}

/** Speaks to `url` with an API key, by the client that everybody gets. */
export function graphqlClient(url: string, key: string): Client {
  const client = connect({ url, key })
  return {
    async request(query, variables = {}) {
      const data = await client.ask<Record<string, unknown> | null, object>(query, variables).catch(named)
      return data ?? {}
    },
    async *subscribe(query, variables, signal) {
      const events = client.watch<Record<string, unknown>, object>(query, variables, signal ? { signal } : {})
      try {
        yield* events
      } catch (error) {
        named(error)
      }
    },
  }
}

function named(error: unknown): never {
  throw error instanceof AppError ? new Error(`${error.code}: ${error.message}`, { cause: error }) : error
}
