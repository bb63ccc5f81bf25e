import { neon, neonConfig, NeonDbError } from '@neondatabase/serverless'
import { DrizzleQueryError } from 'drizzle-orm'
import { drizzle } from 'drizzle-orm/neon-http'
import type { Clock } from '../clock.ts'
import { isDatabaseAway } from './away.ts'
import { type Begin, type Build, type Db, type Exchange, statementOf } from './db.ts'
import { persistently } from './persistently.ts'

// The database stops a statement of the API by itself after 5 s; this is for one that does not answer at all.
const answerMs = 6_000

/**
 * Single queries over HTTP: `begin` and the query are one request, which is one transaction at Neon, so role and tenant
 * hold for the query and end with it. It holds no connection and may be shared by all requests of an isolate.
 */
export function neonExchange(url: string, clock: Pick<Clock, 'sleep'>): Required<Exchange> {
  neonConfig.fetchFunction = (input: string, init: RequestInit) =>
    fetch(input, { ...init, signal: AbortSignal.timeout(answerMs) })
  const http = drizzle({ client: neon(url) })
  const ask = async <T>(begin: readonly Begin[], build: Build<T>): Promise<T> => {
    // `build` makes one of Drizzle's queries, which is what a batch takes; its types know each kind of them apart.
    const query = build(http as unknown as Db) as unknown as ReturnType<typeof http.execute>
    const before = begin.map((one) => http.execute(statementOf(one)))
    // Its type wants to see that there is one.
    const answers = await http.batch([...before, query] as unknown as [typeof query])
    return (answers as unknown[]).at(-1) as T
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
