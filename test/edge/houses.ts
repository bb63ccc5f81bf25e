import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createPlatform } from '../../control-plane/tenants/bootstrap.ts'
import { systemClock } from '../../shared/clock.ts'
import { makeApiKey } from '../../shared/secrets/api-key.ts'
import { secretBox } from '../../shared/secrets/secret-box.ts'
import { migrationsFolder } from '../../standalone/ports.ts'
import { grantSide, migratePg, openPg } from '../../workers/db/pg.ts'
import { startNeonProxy } from '../support/neon-proxy.ts'
import { freePort, startPostgres } from '../support/postgres.ts'
import { startQStashSim } from '../support/qstash-sim.ts'
import { startRedis } from '../support/redis.ts'
import { startRedisBridge } from '../support/redis-bridge.ts'
import { hostedDatabase, type HostedProcess, startProcess } from '../support/self-host.ts'
import { type House, world } from '../support/world.ts'
import { onDeno, onWorkerd, type Runtime } from './runtimes.ts'

/** A house that runs, its control plane on one runtime. */
export type RunningHouse = AsyncDisposable & House
/** A house to be. `open` answers why the machine cannot have it. */
export type HouseKind = { name: string; open(): Promise<RunningHouse | { skipped: string }> }

/**
 * A service beside the database, or what stands in for it: what the control plane and the workers are told of it by their
 * environment is all that connects them to it.
 */
export type Service = () => Promise<StartedService | { skipped: string }>
export type StartedService = AsyncDisposable & {
  edge: Record<string, string>
  worker: Record<string, string>
  /** Where it finds the house, once that runs. */
  find?(house: { url: string; wakes: string[] }): void
}

/** Every kind of house in which the stories are told. */
export const houseKinds = {
  node: { name: 'Node and embedded PostgreSQL', open: embedded },
  deno: edgeHouse({ name: 'Deno and PostgreSQL through the driver of Neon', runtime: onDeno }),
  workerd: edgeHouse({ name: 'workerd and PostgreSQL through the driver of Neon', runtime: onWorkerd }),
  services: edgeHouse({
    name: 'workerd with Redis and a QStash that loses and doubles, and two workers',
    runtime: onWorkerd,
    workers: 2,
    services: [redisService, stormyQStash],
  }),
} satisfies Record<string, HouseKind>

async function embedded(): Promise<RunningHouse> {
  const { house, ...rest } = await world()
  const { url, platformKey, dataDir } = house
  return { url, platformKey, dataDir, [Symbol.asyncDispose]: () => rest[Symbol.asyncDispose]() }
}

/** The control plane on an edge runtime as a login with no power of its own, and worker processes as another. */
function edgeHouse(kind: {
  name: string
  runtime: (variables: Record<string, string>) => Promise<Runtime>
  workers?: number
  services?: readonly Service[]
}): HouseKind {
  const { name, runtime, workers = 1, services = [] } = kind
  return {
    name,
    async open() {
      await using undo = new AsyncDisposableStack()
      const postgres = await startPostgres()
      if ('skipped' in postgres) return postgres
      undo.defer(() => postgres.stop())
      const told: StartedService[] = []
      for (const start of services) {
        const service = await start()
        if ('skipped' in service) return service
        told.push(undo.use(service))
      }
      const dataDir = await mkdtemp(join(tmpdir(), 'edge-house-'))
      undo.defer(() => rm(dataDir, { recursive: true, force: true }))
      const { owner, web, run } = await hostedDatabase(postgres.url)
      await migratePg(owner, migrationsFolder)
      await grantSide(owner, 'web', 'api')
      await grantSide(owner, 'run', 'worker')
      const keys = { current: 'k1', keys: { k1: randomBytes(32).toString('base64') } }
      const PLATFORM_KEYS = JSON.stringify(keys)
      const platform = await makeApiKey()
      const { db, close } = openPg(web, 1)
      await createPlatform({ db, clock: systemClock, secrets: secretBox(keys) }, platform.token)
      await close()

      const proxy = await startNeonProxy(postgres.port, import.meta.filename)
      undo.defer(() => proxy.stop())
      const edge = Object.assign({}, ...told.map((service) => service.edge))
      const { url } = undo.use(await runtime({ DATABASE_URL: web, NEON_PROXY: proxy.hostPort, PLATFORM_KEYS, ...edge }))
      const forWorkers = {
        DATABASE_URL: run,
        PLATFORM_KEYS,
        TRIBUTARY_DATA_DIR: dataDir,
        ALLOW_PRIVATE_NETWORK: 'true',
        STOP_GRACE: '1s',
        ...Object.assign({}, ...told.map((service) => service.worker)),
      }
      const wakes: string[] = []
      for (let n = 0; n < workers; n++) {
        const READER_PORT = String(await freePort())
        const READER_URL = `http://127.0.0.1:${READER_PORT}`
        const worker = startProcess('workers/main.ts', [], { ...forWorkers, READER_PORT, READER_URL })
        undo.defer(() => endOf(worker))
        await worker.line('worker.up')
        wakes.push(String((await worker.line('worker.starting'))['wakes']))
      }
      for (const service of told) service.find?.({ url, wakes })
      const stack = undo.move()
      return { url, platformKey: platform.token, dataDir, [Symbol.asyncDispose]: () => stack.disposeAsync() }
    },
  }
}

async function redisService(): Promise<StartedService | { skipped: string }> {
  const redis = await startRedis()
  if ('skipped' in redis) return redis
  const bridge = await startRedisBridge(redis.url)
  return {
    edge: { UPSTASH_REDIS_REST_URL: bridge.url, UPSTASH_REDIS_REST_TOKEN: bridge.token },
    worker: { REDIS_URL: redis.url },
    async [Symbol.asyncDispose]() {
      await bridge[Symbol.asyncDispose]()
      await redis.stop()
    },
  }
}

// As its dispatch was tried in the design: 26 % of the wake-ups are lost, 27 % come twice.
async function stormyQStash(): Promise<StartedService> {
  const sim = await startQStashSim({ seed: 11 })
  sim.weather = { drop: 0.26, double: 0.27, jitterMs: 300 }
  // A balancer stands behind each address.
  const [wakeUrl, tickUrl] = ['http://localhost:9/wake', 'http://localhost:9/tick']
  const common = {
    QSTASH_URL: sim.url,
    QSTASH_TOKEN: sim.token,
    QSTASH_CURRENT_SIGNING_KEY: sim.keys.current,
    QSTASH_NEXT_SIGNING_KEY: sim.keys.next,
    WAKE_URL: wakeUrl,
  }
  return {
    edge: { ...common, TICK_URL: tickUrl },
    worker: { ...common, WAKE_PORT: '0' },
    find({ url, wakes }) {
      let turn = 0
      sim.route = (to) => (to === tickUrl ? `${url}/tick` : (wakes[turn++ % wakes.length] ?? to))
    },
    [Symbol.asyncDispose]: () => sim[Symbol.asyncDispose](),
  }
}

async function endOf({ process: child, ended }: HostedProcess): Promise<void> {
  child.kill('SIGKILL')
  await ended
}
