import { neonConfig, Pool, type PoolClient } from '@neondatabase/serverless'
import { drizzle } from 'drizzle-orm/neon-serverless'
import type { Clock } from '../clock.ts'
import { isDatabaseAway } from './away.ts'
import { type Db, offerExchange } from './db.ts'
import { neonExchange } from './neon-http.ts'
import { persistently } from './persistently.ts'

/** Neon as one isolate or process uses it. `proxy` stands in for Neon itself, as `host:port`: development and tests. */
export type NeonOptions = { proxy?: string | undefined; clock: Pick<Clock, 'sleep'> }

/** Opens connections when they are needed, at most `max` at once. */
export type Neon = (max: number) => { db: Db; close(): Promise<void> }

const connectMs = 5_000
// More than any statement of the API may take in the database: whatever is silent for so long is gone.
const silentMs = 8_000
// Neon's own pooler and its suspension close what is idle longer; a request must not find such a connection.
const idleMs = 20_000

/**
 * Neon: transactions over WebSocket, single queries over HTTP, on every edge runtime; direct and pooled URLs. On Workers a
 * connection must not outlive its request, so open one handle per request and close it when the answer is out.
 *
 * A transaction that could not begin is begun again, one that has begun never is: it may have committed. What cannot be
 * asked fails as `isDatabaseAway` tells: after 5 s without a connection, and after 8 s of silence, which ends that connection.
 */
export function neonDatabase(url: string, { proxy, clock }: NeonOptions): Neon {
  if (proxy) standIn(proxy)
  const exchange = neonExchange(url, clock)
  return (max) => {
    let opened: Pool | undefined
    // Most requests read over HTTP alone and need none.
    const pool = (): Pool => (opened ??= poolOf(url, max))
    const client = { query: (...query: Parameters<Pool['query']>) => pool().query(...query) }
    // What knows the tables is only what nobody here uses: relational queries. Each of these is made for one request.
    const db = drizzle({ client: client as Pool }) as unknown as Db
    db.transaction = (work, config) => {
      let hasBegun = false
      // Drizzle would keep a connection for good on which no transaction can begin, so connections are lent here.
      const transact = async (): ReturnType<typeof work> => {
        const client = await pool().connect()
        try {
          const own = drizzle({ client }) as unknown as Db
          return await own.transaction((tx) => {
            hasBegun = true
            return work(tx)
          }, config)
        } finally {
          // One that still waits for an answer would hand that answer to the next who gets it.
          client.release(Boolean(Reflect.get(client, 'activeQuery')))
        }
      }
      return persistently(transact, (error) => !hasBegun && isDatabaseAway(error), clock)
    }
    offerExchange(db, exchange)
    return { db, close: async () => opened?.end() }
  }
}

function poolOf(connectionString: string, max: number): Pool {
  const pool = new Pool({
    connectionString,
    max,
    connectionTimeoutMillis: connectMs,
    query_timeout: silentMs,
    idleTimeoutMillis: idleMs,
  })
  // A connection that breaks ends no isolate: the next query gets a new one, or an error of its own.
  pool.on('error', () => undefined)
  pool.on('connect', (client: PoolClient) => client.on('error', () => undefined))
  return pool
}

function standIn(proxy: string): void {
  neonConfig.wsProxy = () => `${proxy}/v2`
  neonConfig.fetchEndpoint = `http://${proxy}/sql`
  neonConfig.useSecureWebSocket = false
  neonConfig.pipelineTLS = false
  neonConfig.pipelineConnect = false
}
