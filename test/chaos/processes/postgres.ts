import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { sql } from 'drizzle-orm'
import pg from 'pg'
import { result } from '../../../bench/result.ts'
import { systemClock } from '../../../shared/clock.ts'
import { type Db, rowsOf, withTenant } from '../../../shared/db/db.ts'
import { newId } from '../../../shared/ids.ts'
import { startInTransaction } from '../../../shared/runs/start-in-transaction.ts'
import { migrationsFolder } from '../../../standalone/ports.ts'
import { grantSide, migratePg, openPg } from '../../../workers/db/pg.ts'
import { openSignals } from '../../../workers/db/signals.ts'
import { processLog } from '../../../workers/process-log.ts'
import { brokenAtRest, brokenNow } from '../simulator/invariants.ts'
import { random } from '../simulator/random.ts'
import { makeTenant } from '../../support/database.ts'
import { startPostgres } from '../../support/postgres.ts'
import { hostedDatabase } from '../../support/self-host.ts'
import { brokenEnds } from './ends.ts'
import { type Fault, faults } from './faults.ts'
import { type Fleet, startFleet } from './fleet.ts'
import { insist, within } from './insist.ts'
import { brokenLakes, type Landed } from './lakes.ts'
import { allPipelines, pipelinePaths, slowPath } from './pipelines.ts'
import { proveTakeovers } from './takeovers.ts'

const leaseMs = 3_000
const unfinishedMost = 24
const quietMs = 120_000

/** What a proof over processes is told. */
export type ChaosOptions = { runs: number; seed: number; workers: number; tenants: number; takeovers: number }

type Tenant = { tenantId: string }
/** Workers of the product over PostgreSQL, among faults from one seed. True when every promise was kept. */
export async function provePostgres(options: ChaosOptions): Promise<boolean> {
  const server = await startPostgres()
  if ('skipped' in server) throw new Error(`the proof needs a PostgreSQL server: ${server.skipped}`)
  const dataDir = await mkdtemp(join(tmpdir(), 'chaos-'))
  const hosted = await hostedDatabase(server.url)
  await migratePg(hosted.owner, migrationsFolder)
  await grantSide(hosted.owner, 'run', 'worker')
  const { db, close } = openPg(hosted.strong, 12)
  const log = processLog('error')
  const signals = openSignals(hosted.strong, { db, clock: systemClock, log: processLog('silent') })
  const rng = random(options.seed)
  const calm = new AbortController()
  const beganAt = performance.now()
  try {
    const tenants = await Promise.all(Array.from({ length: options.tenants }, () => prepare(db)))
    await using fleet = await startFleet({ url: hosted.run, dataDir, leaseMs, seed: options.seed }, options.workers)
    const faulty = disturb(random(options.seed + 1), { fleet, server, strong: hosted.strong, calm: calm.signal })
    const runs: Landed[] = []
    for (let n = 0; n < options.runs; n++) {
      const tenant = rng.pick(tenants)
      const path = rng.pick(pipelinePaths)
      await insist(async () => (await unfinished(db)) < unfinishedMost)
      const runId = await start(db, tenant, path, `chaos ${options.seed} ${n}`)
      runs.push({ ...tenant, runId, path })
      const queue = path.endsWith('chain') ? 'transform' : 'export'
      await signals.waker.wake({ ...tenant, queue }).catch(() => undefined)
    }
    // What is asked is that all comes to its end, not that it ends among faults.
    calm.abort()
    console.log(`${runs.length} runs asked for in ${((performance.now() - beganAt) / 1000).toFixed(0)} s`)
    const counts = await faulty
    const isOver = await within(quietMs, async () => (await unfinished(db)) === 0)
    const isTakenOver = await proveTakeovers(db, fleet, { leaseMs, count: options.takeovers }, async () => {
      const tenant = rng.pick(tenants)
      const runId = await start(db, tenant, slowPath, `takeover ${options.seed} ${newId('run')}`)
      await signals.waker.wake({ ...tenant, queue: 'transform' }).catch(() => undefined)
      return runId
    })
    await within(quietMs, async () => (await unfinished(db)) === 0)
    await fleet.stop()
    const seconds = (performance.now() - beganAt) / 1000
    const broken = [
      ...(isOver ? [] : [`${await unfinished(db)} runs have not ended`]),
      ...(await brokenNow(db)),
      ...(await brokenAtRest(db)),
      ...(await brokenEnds(db, runs)),
      ...(await brokenLakes(dataDir, runs)),
    ]
    for (const line of broken.slice(0, 40)) console.log(`  ${line}`)
    console.log(
      `faults: ${Object.entries(counts)
        .map(([kind, n]) => `${n} ${kind}`)
        .join(', ')}`,
    )
    console.log(`workers logged: ${[...fleet.logged].map(([event, n]) => `${n} ${event}`).join(', ')}`)
    result('chaos.pg.seconds', seconds, 's')
    result('chaos.pg.runs', runs.length, 'runs', { op: '>=', value: options.runs })
    const isWhole = result('chaos.pg.broken', broken.length, 'promises', { op: '<=', value: 0 })
    return isTakenOver && isWhole
  } finally {
    await signals.close()
    await close()
    await server.stop()
    log.info('chaos.done')
    await rm(dataDir, { recursive: true, force: true })
  }
}

type Scene = {
  fleet: Fleet
  server: { restart(): Promise<void> }
  strong: string
  calm: AbortSignal
}
type Counts = Record<Fault['kind'], number>

async function disturb(rng: ReturnType<typeof random>, { fleet, server, strong, calm }: Scene): Promise<Counts> {
  const counts: Counts = { kill: 0, hold: 0, cut: 0, restart: 0 }
  for (const fault of faults(rng, 1.5 * leaseMs)) {
    await systemClock.sleep(fault.afterMs, calm)
    if (calm.aborted) return counts
    const able = fleet.running().filter((one) => !one.isStopped)
    const victim = able[Math.floor(fault.whom * able.length)]
    // One is left alone, or nobody would be there to take over.
    if (fault.kind === 'kill' && victim && able.length > 1) await fleet.kill(victim, fault.ms / 4)
    else if (fault.kind === 'hold' && victim && able.length > 2) fleet.hold(victim, fault.ms, fault.withTenants)
    else if (fault.kind === 'cut') await insist(() => cut(strong, fault.whom))
    else if (fault.kind === 'restart') await server.restart()
    else continue
    counts[fault.kind]++
  }
  return counts
}

async function cut(url: string, share: number): Promise<void> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 5_000, query_timeout: 10_000 })
  client.on('error', () => undefined)
  await client.connect()
  try {
    await client.query(
      `select pg_terminate_backend(pid) from pg_stat_activity where usename = 'run' and abs(hashint4(pid)) % 100 < $1`,
      [Math.round(20 + share * 80)],
    )
  } finally {
    await client.end()
  }
}

async function unfinished(db: Db): Promise<number> {
  const [row] = await rowsOf<{ n: number }>(
    db,
    sql`select count(*)::int as n from app.pipeline_run where state in ('queued', 'running', 'cancelling')`,
  )
  return row?.n ?? 0
}

async function prepare(db: Db): Promise<Tenant> {
  const { tenantId } = await makeTenant(db)
  await withTenant(db, { tenantId, side: 'api' }, async (tx) => {
    for (const [path, yaml] of Object.entries(allPipelines)) {
      const id = newId('pipeline')
      await tx.execute(sql`insert into app.pipeline (tenant_id, id, path, origin, current_version)
        values (${tenantId}, ${id}, ${path}, 'tenant', 1)`)
      await tx.execute(sql`insert into app.pipeline_version (tenant_id, pipeline_id, version, yaml, sha256, created_by)
        values (${tenantId}, ${id}, 1, ${yaml}, 'none', 'chaos')`)
    }
  })
  return { tenantId }
}

// As a client does: with a key, until it is told.
const start = (db: Db, { tenantId }: Tenant, path: string, key: string): Promise<string> =>
  insist(async () => {
    const started = await withTenant(db, { tenantId, side: 'api' }, (tx) =>
      startInTransaction(tx, {
        tenantId,
        actor: 'key:chaos',
        requestId: null,
        path,
        trigger: 'manual',
        parameters: {},
        idempotencyKey: `once:${key}`,
        inputHash: path,
      }),
    )
    if ('problems' in started) throw new Error(JSON.stringify(started.problems))
    return started.runId
  })
