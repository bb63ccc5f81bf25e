import { systemClock } from '../shared/clock.ts'
import { neonDatabase } from '../shared/db/neon.ts'
import { readEnv } from '../shared/env.ts'
import { jsonLog } from '../shared/log.ts'
import type { Ports } from '../shared/ports.ts'
import { senderOf } from '../shared/qstash/receive-delivery.ts'
import { liveSecrets } from '../shared/redact.ts'
import { secretBox } from '../shared/secrets/secret-box.ts'
import { redisHub } from '../shared/redis/hub.ts'
import { redisRateLimit } from '../shared/redis/rate-limit.ts'
import { type Redis, restful } from '../shared/redis/redis.ts'
import { upstashRedis } from '../shared/redis/upstash.ts'
import { signingKeys } from '../shared/secrets/signing-keys.ts'
import { inProcessHub } from '../shared/waking/hub.ts'
import { qstashWakers } from '../shared/waking/qstash-waker.ts'
import { inProcessWaker } from '../shared/waking/waker.ts'
import { type App, createApp } from './app.ts'
import { redisKeyCache } from './auth/key-cache.ts'
import { type EdgeEnv, edgeEnv } from './env.ts'
import { keepHouse } from './keep-house.ts'

/** What the platform lends to an invocation. */
type Invocation = { waitUntil?: (work: Promise<unknown>) => void }
type Variables = Record<string, string | undefined>
/** What Deno hands over in their place; it has no `waitUntil` either. */
type Connection = { remoteAddr: { hostname?: string } }
type House = { app: App; open(): { ports: Ports; close(): Promise<void> } }

const connectionsOfRequest = 2
const connectionsOfProcess = 10

let house: House | undefined

/**
 * The control plane on Workers and Deno. The environment is read once per isolate. On Workers a connection lives as long
 * as its request, since they may not share one between requests; on Deno as long as it is used.
 */
export default {
  fetch(request: Request, variables?: Variables | Connection, invocation?: Invocation): Promise<Response> {
    const waitUntil = invocation?.waitUntil?.bind(invocation)
    const address = addressOf(request, variables)
    return houseOf(variables).app.fetch(request, waitUntil ? { waitUntil, address } : { address })
  },

  /** Housekeeping of the run ledger (lost leases, deadlines, missed wake-ups) and what is due to start. Safe at any rate. */
  async scheduled(_event: unknown, variables?: Variables): Promise<void> {
    const { ports, close } = houseOf(variables).open()
    try {
      await keepHouse(ports)
    } finally {
      await close()
    }
  },
}

function houseOf(handed: Variables | Connection | undefined): House {
  house ??= build(isConnection(handed) ? undefined : handed)
  return house
}

function build(variables: Variables | undefined): House {
  const isWorkers = variables?.['DATABASE_URL'] !== undefined
  const env = readEnv(edgeEnv, isWorkers ? variables : denoVariables())
  const shared: Omit<Ports, 'db' | 'hub' | 'waker'> = {
    secrets: secretBox(env.PLATFORM_KEYS),
    signing: signingKeys(env.PLATFORM_KEYS),
    clock: systemClock,
    log: jsonLog(
      (line) => console.log(line),
      () => new Date(),
    ),
  }
  const redis = redisOf(env)
  const neon = neonDatabase(env.DATABASE_URL, { proxy: env.NEON_PROXY, clock: systemClock })
  // Without Redis watchers hear of what happens in this isolate, and find the rest by looking again.
  const local = inProcessHub()
  // Without QStash workers are not reached from here: they find the rows by looking again.
  const remoteWaker = qstashWakers(env, shared)
  const openWith = (connectionsMax: number): ReturnType<House['open']> => {
    const { db, close } = neon(connectionsMax)
    // What waits for an answer is a request's own, and so are those who wake.
    const waker = remoteWaker?.() ?? inProcessWaker()
    if (!redis) return { ports: { ...shared, waker, db, hub: local }, close }
    // A subscription is a connection, too, and lives as long as the request.
    const hub = redisHub(redis, shared)
    return {
      ports: { ...shared, waker, db, hub },
      close: async () => void (await Promise.all([close(), hub.close()])),
    }
  }
  // Deno is one process: its requests share what Workers must keep apart.
  const lasting = isWorkers ? undefined : openWith(connectionsOfProcess).ports
  const open: House['open'] = () =>
    lasting ? { ports: lasting, close: async () => undefined } : openWith(connectionsOfRequest)
  const app = createApp({
    ports: async () => open(),
    development: false,
    allowedOrigins: env.ALLOWED_ORIGINS,
    identity: { accountUrl: env.ACCOUNT_URL },
    ticks: senderOf(env, env.TICK_URL),
    failedWakes: senderOf(env, env.WAKE_FAILED_URL),
    ...(redis ? { rateLimit: redisRateLimit(redis, shared.signing), keyCache: redisKeyCache(redis, shared) } : {}),
  })
  return { app, open }
}

function redisOf({ UPSTASH_REDIS_REST_URL: url, UPSTASH_REDIS_REST_TOKEN: token }: EdgeEnv): Redis | undefined {
  if (url === undefined || token === undefined) return undefined
  liveSecrets.guard(token)
  return restful(upstashRedis({ url, token }), systemClock)
}

// Only Cloudflare writes this header itself; elsewhere any client could.
function addressOf(request: Request, handed: Variables | Connection | undefined): string | undefined {
  if (isConnection(handed)) return handed.remoteAddr.hostname
  return handed?.['DATABASE_URL'] === undefined ? undefined : (request.headers.get('cf-connecting-ip') ?? undefined)
}

const isConnection = (handed: Variables | Connection | undefined): handed is Connection =>
  typeof handed?.remoteAddr === 'object'

// `deno serve` hands over no variables; its types are not ours to depend on.
function denoVariables(): Variables {
  const deno: unknown = Reflect.get(globalThis, 'Deno')
  const env = typeof deno === 'object' && deno !== null ? (deno as { env: { toObject(): Variables } }).env : undefined
  return env?.toObject() ?? {}
}
