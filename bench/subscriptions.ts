import { randomBytes } from 'node:crypto'
import { request } from 'node:http'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { createApp } from '../control-plane/app.ts'
import { apiKey } from '../schema/tables/index.ts'
import { systemClock } from '../shared/clock.ts'
import { type Db, withTenant } from '../shared/db/db.ts'
import type { Ports } from '../shared/ports.ts'
import { type Claim, claimSteps, reportStep, startRun } from '../shared/runs/ledger.ts'
import { makeApiKey } from '../shared/secrets/api-key.ts'
import { secretBox } from '../shared/secrets/secret-box.ts'
import { signingKeys } from '../shared/secrets/signing-keys.ts'
import { type Hub, inProcessHub } from '../shared/waking/hub.ts'
import { inProcessWaker } from '../shared/waking/waker.ts'
import { serveHttp } from '../standalone/http-server.ts'
import { makeTenant, memoryDatabase } from '../test/support/database.ts'
import { startPostgres } from '../test/support/postgres.ts'
import { hostedDatabase, runScript, startProcess } from '../test/support/self-host.ts'
import { openPg } from '../workers/db/pg.ts'
import { openSignals } from '../workers/db/signals.ts'
import { result } from './result.ts'
import { plannedRun, plannedStep } from '../test/support/runs.ts'

// How late an event reaches those who watch, and whether any misses one: many subscribers over HTTP, each on one of 50
// runs, while some of them break off and come back all the time. The control plane is a process of its own on PostgreSQL
// and hears of the changes by its notifications; without a server it shares this process with the embedded database.
const { values } = parseArgs({
  options: {
    subscribers: { type: 'string', default: '1000' },
    rate: { type: 'string', default: '100' },
    seconds: { type: 'string', default: '20' },
  },
})
const subscribers = Number(values.subscribers)
const eventsPerSecond = Number(values.rate)
const seconds = Number(values.seconds)
const runs = 50
const breakEveryMs = 50
const settleMs = 3_000
const goal = { p95Ms: 50 }

const quiet = { info: () => undefined, warn: () => undefined, error: () => undefined }
const keys = { current: 'k1', keys: { k1: randomBytes(32).toString('base64') } }

type House = { engine: string; url: string; db: Db; hub: Hub; residentMiB(): Promise<number>; close(): Promise<void> }
type Watched = { claim: Claim; token: string }

const house = (await onServer()) ?? (await embedded())
try {
  process.exitCode = (await measure(house)) ? 0 : 1
} finally {
  await house.close()
}

async function measure({ engine, url, db, hub, residentMiB }: House): Promise<boolean> {
  const watched = await startRuns(db)
  // When each event was acknowledged to its writer, by run and by the number that the event carries.
  const committed = new Map(watched.map(({ claim }) => [claim.runId, [] as number[]]))
  const latencies: number[] = []
  const connecting = performance.now()
  const watchers = Array.from({ length: subscribers }, (_, index) => {
    const { claim, token } = watched[index % watched.length] as Watched // the list is not empty
    return watch(url, token, claim.runId, (done, openedAt) => {
      const at = committed.get(claim.runId)?.[done]
      const now = performance.now()
      // An event may reach its watcher before its writer hears of its commit; one from before a break says nothing.
      if (at === undefined || at >= openedAt) latencies.push(at === undefined ? 0 : now - at)
    })
  })
  await until('all watch', () => watchers.every(({ seq }) => seq() >= 2))
  const connected = performance.now() - connecting
  console.log(`${subscribers} subscribers of ${runs} runs, ${engine}`)
  // Their arrival all at once is a load of its own, measured by itself.
  await sleep(settleMs)
  // How late a timer of a process that does little else fires: what the machine, and who else is on it, adds.
  const delay = monitorEventLoopDelay({ resolution: 5 })
  delay.enable()

  const breaking = new AbortController()
  let breaks = 0
  const breaker = (async () => {
    while (!breaking.signal.aborted) {
      watchers[Math.floor(Math.random() * watchers.length)]?.breakOff()
      breaks++
      await sleep(breakEveryMs)
    }
  })()
  const began = performance.now()
  const writes: Promise<void>[] = []
  let late = 0
  for (let n = 0; n < eventsPerSecond * seconds; n++) {
    const dueIn = began + (n * 1000) / eventsPerSecond - performance.now()
    if (dueIn > 0) await sleep(dueIn)
    else if (dueIn < -1000) late++
    const { claim } = watched[n % watched.length] as Watched // the list is not empty
    const done = Math.floor(n / watched.length)
    const progress = { done, total: null, unit: 'rows' }
    writes.push(
      reportStep(db, claim, { progress, logs: [] }).then(() => {
        const times = committed.get(claim.runId)
        if (times) times[done] = performance.now()
        hub.notify(claim)
      }),
    )
  }
  await Promise.all(writes)
  breaking.abort()
  await breaker
  const last = 2 + (eventsPerSecond * seconds) / runs
  const missing = (): number => watchers.reduce((sum, { seq }) => sum + Math.max(0, last - seq()), 0)
  await until('all events came', () => missing() === 0).catch(() => undefined)
  const mebibytes = await residentMiB()
  const gaps = watchers.reduce((sum, watcher) => sum + watcher.gaps(), 0)
  for (const watcher of watchers) watcher.leave()

  const name = (figure: string): string => `subscriptions.${engine}.${figure}`
  const sorted = latencies.toSorted((a, b) => a - b)
  const quantile = (q: number): number => sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? 0
  result(name('connected'), connected / 1000, 's')
  result(name('machine-delay.p95'), delay.percentile(95) / 1e6 - 5, 'ms')
  result(name('events'), eventsPerSecond, 'per second')
  result(name('late-writes'), late, 'events a second late')
  result(name('deliveries'), latencies.length / seconds, 'per second')
  result(name('reconnects'), breaks, 'times')
  result(name('resident'), mebibytes, 'MiB')
  result(name('commit-to-client.p50'), quantile(0.5), 'ms')
  result(name('commit-to-client.p99'), quantile(0.99), 'ms')
  const met = [
    result(name('commit-to-client.p95'), quantile(0.95), 'ms', { op: '<=', value: goal.p95Ms }),
    result(name('gaps'), gaps, 'events', { op: '<=', value: 0 }),
    result(name('missing'), missing(), 'events', { op: '<=', value: 0 }),
  ]
  return met.every(Boolean)
}

/** A subscriber that goes on after its last event whenever it is cut off. */
function watch(url: string, token: string, runId: string, onEvent: (done: number, openedAt: number) => void) {
  const query = 'subscription ($id: ID!) { runEvents(runId: $id) { seq type data } }'
  const body = JSON.stringify({ query, variables: { id: runId } })
  let seq = 0
  let gaps = 0
  let left = false
  let cut: () => void = () => undefined
  const open = (): void => {
    const openedAt = performance.now()
    let rest = ''
    const asked = request(`${url}/graphql`, {
      method: 'POST',
      agent: false,
      headers: {
        authorization: `Bearer ${token}`,
        'content-type': 'application/json',
        accept: 'text/event-stream',
        ...(seq > 0 ? { 'last-event-id': String(seq) } : {}),
      },
    })
    let again = (): void => {
      again = () => undefined
      if (!left) setTimeout(open, 1)
    }
    asked.on('response', (response) => {
      if (response.statusCode !== 200) throw new Error(`a subscription was answered ${response.statusCode}`)
      response.setEncoding('utf8')
      response.on('data', (chunk: string) => {
        const frames = (rest + chunk).split('\n\n')
        rest = frames.pop() ?? ''
        for (const frame of frames) {
          const id = Number(/^id: (\d+)$/m.exec(frame)?.[1] ?? 0)
          if (id === 0) continue
          if (id !== seq + 1) gaps++
          seq = id
          const done = /"done":(\d+)/.exec(frame)?.[1]
          if (done !== undefined) onEvent(Number(done), openedAt)
        }
      })
      response.on('close', () => again())
      response.on('error', () => again())
    })
    asked.on('error', () => again())
    asked.end(body)
    cut = () => asked.destroy()
  }
  open()
  return {
    seq: () => seq,
    gaps: () => gaps,
    breakOff: () => cut(),
    leave() {
      left = true
      cut()
    },
  }
}

async function startRuns(db: Db): Promise<Watched[]> {
  const tokens = new Map<string, string>()
  for (let n = 0; n < runs; n++) {
    const { tenantId, pipelineId } = await makeTenant(db)
    const { id, token, secretHash } = await makeApiKey()
    await withTenant(db, { tenantId, side: 'api' }, async (tx) => {
      await tx.insert(apiKey).values({ tenantId, id, name: 'x', secretHash, scopes: ['runs:read'], createdBy: 'bench' })
      const step = plannedStep('only', { timeout_ms: 3_600_000 })
      await startRun(tx, plannedRun(pipelineId, [step]))
    })
    tokens.set(tenantId, token)
  }
  const watched: Watched[] = []
  while (watched.length < runs) {
    const wanted = { worker: 'wrk_bench', queues: ['ingest'] as const, limit: runs, leaseMs: 3_600_000, tenants: null }
    for (const claim of await claimSteps(db, wanted)) watched.push({ claim, token: tokens.get(claim.tenantId) ?? '' })
  }
  return watched
}

async function onServer(): Promise<House | undefined> {
  const postgres = await startPostgres()
  if ('skipped' in postgres) {
    console.log(`without a server: ${postgres.skipped}`)
    return undefined
  }
  const database = await hostedDatabase(postgres.url)
  const migrated = await runScript('standalone/migrate.ts', ['--api-login', 'web'], { DATABASE_URL: database.owner })
  if (migrated.code !== 0) throw new Error(migrated.stderr)
  const env = { DATABASE_URL: database.web, PLATFORM_KEYS: JSON.stringify(keys), PORT: '0', LOG_LEVEL: 'info' }
  const plane = startProcess('standalone/control-plane.ts', [], env)
  const { url } = await plane.line('control_plane.up')
  // As the owner, who may become both sides.
  const { db, close } = openPg(database.owner)
  const signals = openSignals(database.owner, { db, clock: systemClock, log: quiet })
  return {
    engine: 'postgresql',
    url: String(url),
    db,
    hub: signals.hub,
    async residentMiB() {
      const { text } = await plane.ask('/metrics')
      return Number(/^tributary_process_resident_bytes (\d+)$/m.exec(text)?.[1]) / 2 ** 20
    },
    async close() {
      plane.process.kill('SIGTERM')
      await plane.ended
      await signals.close()
      await close()
      await postgres.stop()
    },
  }
}

async function embedded(): Promise<House> {
  const { db, close } = await memoryDatabase()
  const hub = inProcessHub()
  const ports: Ports = {
    db,
    hub,
    waker: inProcessWaker(),
    clock: systemClock,
    log: quiet,
    secrets: secretBox(keys),
    signing: signingKeys(keys),
  }
  const app = createApp({ ports: async () => ({ ports }), development: false, allowedOrigins: [] })
  const server = await serveHttp(app, { host: '127.0.0.1', port: 0, log: quiet })
  return {
    engine: 'embedded',
    url: server.url,
    db,
    hub,
    residentMiB: async () => process.memoryUsage.rss() / 2 ** 20,
    async close() {
      await server.stop(0)
      await close()
    },
  }
}

async function until(what: string, holds: () => boolean): Promise<void> {
  for (const end = performance.now() + 60_000; !holds(); await sleep(20))
    if (performance.now() > end) throw new Error(`still waiting: ${what}`)
}
