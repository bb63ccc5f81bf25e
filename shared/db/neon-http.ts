import { neon, neonConfig, NeonDbError, types } from '@neondatabase/serverless'
import { DrizzleQueryError } from 'drizzle-orm'
import type { Clock } from '../clock.ts'
import { isDatabaseAway } from './away.ts'
import type { Begin, Build, Exchange } from './db.ts'
import { persistently } from './persistently.ts'
import { plainQuery, typesAsText } from './plain-query.ts'

// The database stops a statement of the API by itself after 5 s; this is for one that does not answer at all.
const answerMs = 6_000

/**
 * Single queries over HTTP: `begin` and the query are one request, which is one transaction at Neon, so role and tenant
 * hold for the query and end with it. It holds no connection and may be shared by all requests of an isolate.
 */
export function neonExchange(url: string, clock: Pick<Clock, 'sleep'>): Required<Exchange> {
  neonConfig.fetchFunction = (input: string, init: RequestInit) =>
    fetch(input, { ...init, signal: AbortSignal.timeout(answerMs) })
  for (const type of typesAsText) types.setTypeParser(type, (text: string) => text)
  const client = neon(url)
  const ask = async <T>(begin: readonly Begin[], build: Build<T>): Promise<T> => {
    const { text, values, read } = plainQuery(build)
    const queries = [...begin, { text, values }].map((one) => client.query(one.text, one.values))
    const answers = await client.transaction(queries, { fullResults: true, arrayMode: read !== undefined })
    const answer = answers.at(-1)
    // What is built knows its type.
    return (read ? read(answer?.rows as unknown[][]) : answer) as T
  }
  return {
    call: (begin, build) => ask(begin, build).catch(failed),
    read: (begin, build) =>
      persistently(
        () => ask(begin, build),
        (error) => isDatabaseAway(error) && !isSilence(error),
        clock,
      ).catch(failed),
  }
}

// Whoever asked has waited long enough.
const isSilence = (error: unknown): boolean =>
  error instanceof NeonDbError && error.sourceError?.name === 'TimeoutError'

// As Drizzle wraps what fails on every other way.
function failed(error: unknown): never {
  throw new DrizzleQueryError('over HTTP', [], error instanceof Error ? error : new Error(String(error)))
}
