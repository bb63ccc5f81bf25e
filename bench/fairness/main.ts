import { type ChildProcess, fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { sql } from 'drizzle-orm'
import { type Db, rowsOf, withTenant } from '../../shared/db/db.ts'
import { systemClock } from '../../shared/clock.ts'
import { newId } from '../../shared/ids.ts'
import { startRun } from '../../shared/runs/ledger.ts'
import { migrationsFolder } from '../../standalone/ports.ts'
import { random } from '../../test/chaos/simulator/random.ts'
import { makeTenant } from '../../test/support/database.ts'
import { startPostgres } from '../../test/support/postgres.ts'
import { migratePg, openPg } from '../../workers/db/pg.ts'
import { openSignals } from '../../workers/db/signals.ts'
import { processLog } from '../../workers/process-log.ts'
import { now } from '../dispatch/crew.ts'
import { quantile } from '../dispatch/quantile.ts'
import { result } from '../result.ts'
import { plannedRun, plannedStep } from '../../test/support/runs.ts'

const help = `Proves on PostgreSQL that a tenant with a long backlog holds up no other, and that weights share the workers' time.

  --seconds <n>  how long each of the two scenes takes (default 60; 20 is enough for a quick look)
  --tenants <n>  tenants that come with one run each (default 1000)
  --backlog <n>  ready steps of the one that is in nobody's favour (default 20000)
  --seed <n>     when who comes (default 1)
  --help`

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '60' },
    tenants: { type: 'string', default: '1000' },
    backlog: { type: 'string', default: '20000' },
    seed: { type: 'string', default: '1' },
    help: { type: 'boolean', default: false },
  },
})
const seconds = Number(values.seconds)
const processes = 2
const slotsEach = 4
const slots = processes * slotsEach
const stepMs = 10
const longStepMs = 30 * stepMs
// Without it, and without interrupting anybody's step, a pool that one tenant fills is free when its next step ends.
const noisyLimit = slots / 2

type Tenant = { tenantId: string; pipelineId: string }
/** A step as its worker tells of it. */
type Done = { tenantId: string; runId: string; pickedAt: number; endedAt: number }

async function prove(): Promise<boolean> {
  const postgres = await startPostgres(['fsync=on'])
  if ('skipped' in postgres) throw new Error(`the proof needs a PostgreSQL server: ${postgres.skipped}`)
  try {
    await migratePg(postgres.url, migrationsFolder)
    const { db, close } = openPg(postgres.url)
    const isHeldUp = await oneAgainstMany(postgres.url, db)
    const isShared = await byWeight(postgres.url, db)
    await close()
    return isHeldUp && isShared
  } finally {
    await postgres.stop()
  }
}

async function oneAgainstMany(url: string, db: Db): Promise<boolean> {
  const backlog = Number(values.backlog)
  const noisy = await makeTenant(db, { maxRunningTotal: noisyLimit, maxQueuedRuns: 10_000 })
  await allow(db, noisy, noisyLimit)
  await fill(db, noisy, { pipelines: 50, steps: backlog, ms: longStepMs })
  const others = await inLanes(8, Number(values.tenants), () => makeTenant(db))
  console.log(
    `${slots} slots; one tenant with ${backlog} ready steps of ${longStepMs} ms in 50 pipelines, whose plan gives it ${noisyLimit} slots; ` +
      `${others.length} tenants with one step of ${stepMs} ms each over ${seconds} s`,
  )
  const signals = openSignals(url, { db, clock: systemClock, log: processLog('error') })
  const pool = await startPool(url)
  const rng = random(Number(values.seed))
  const asked = new Map<string, number>()
  const sampling = sampleIdle(db)
  const beganAt = now()
  await Promise.all(
    others.map(async (tenant) => {
      await systemClock.sleep(rng.next() * seconds * 1000)
      const runId = await start(db, tenant, [`wait_${stepMs}_0`])
      asked.set(runId, now())
      await signals.waker.wake({ tenantId: tenant.tenantId, queue: 'transform' })
    }),
  )
  while (pool.done.filter(({ runId }) => asked.has(runId)).length < others.length) await systemClock.sleep(20)
  const tookMs = now() - beganAt
  const idle = await sampling.stop()
  const waits = pool.done.flatMap(({ runId, pickedAt }) => {
    const at = asked.get(runId)
    return at === undefined ? [] : [pickedAt - at]
  })
  const spentMs = spent(pool.done, noisy, beganAt, beganAt + tookMs)
  await signals.close()
  await pool[Symbol.asyncDispose]()
  await empty(db)
  result('fairness.pick-up.p50', quantile(waits, 0.5), 'ms')
  result('fairness.pick-up.max', Math.max(...waits), 'ms')
  const isPrompt = result('fairness.pick-up.p95', quantile(waits, 0.95), 'ms', { op: '<=', value: 50 })
  const isUsed = result('fairness.noisy.of-its-slots', spentMs / (tookMs * noisyLimit), 'share', {
    op: '>=',
    value: 0.9,
  })
  return result('fairness.idle-while-work-waits', idle, 'samples', { op: '<=', value: 0 }) && isPrompt && isUsed
}

async function byWeight(url: string, db: Db): Promise<boolean> {
  const tenants: { tenant: Tenant; weight: number; ms: number }[] = []
  for (const { weight, ms } of [
    { weight: 1, ms: 600 },
    { weight: 3, ms: 200 },
  ]) {
    const tenant = await makeTenant(db, { maxRunningTotal: slots, maxQueuedRuns: 10_000, weight })
    await allow(db, tenant, slots)
    await fill(db, tenant, { pipelines: 1, steps: Math.ceil((seconds * 1000 * slots * 1.5) / ms), ms })
    tenants.push({ tenant, weight, ms })
  }
  console.log(`${slots} slots; two tenants with a backlog, weights 1 and 3, steps of 600 and 200 ms, for ${seconds} s`)
  await using pool = await startPool(url)
  const sampling = sampleIdle(db)
  // The first steps are charged by a guess at their length.
  await systemClock.sleep(2_000)
  const from = now()
  await systemClock.sleep(seconds * 1000)
  const to = now()
  const idle = await sampling.stop()
  const [one = 0, three = 0] = tenants.map(({ tenant }) => spent(pool.done, tenant, from, to))
  result('fairness.weight-1', one / 1000, 'worker-s')
  result('fairness.weight-3', three / 1000, 'worker-s')
  const off = Math.abs(three / (one + three) / 0.75 - 1) * 100
  const offOne = Math.abs(one / (one + three) / 0.25 - 1) * 100
  const isShared = result('fairness.off-the-weights', Math.max(off, offOne), '%', { op: '<=', value: 10 })
  const isUsed = result('fairness.weights.of-all-slots', (one + three) / ((to - from) * slots), 'share', {
    op: '>=',
    value: 0.9,
  })
  return result('fairness.weights.idle-while-work-waits', idle, 'samples', { op: '<=', value: 0 }) && isShared && isUsed
}

// Worker time within a window: steps that reach beyond it count with what lies in it.
const spent = (done: readonly Done[], { tenantId }: Tenant, from: number, to: number): number =>
  done
    .filter((one) => one.tenantId === tenantId)
    .reduce((sum, one) => sum + Math.max(0, Math.min(one.endedAt, to) - Math.max(one.pickedAt, from)), 0)

// Looks at which the whole pool does nothing although something could be claimed for longer than a claim takes, from the
// first claim on: before it the processes are still connecting.
function sampleIdle(db: Db): { stop(): Promise<number> } {
  const stopping = new AbortController()
  const sampled = (async () => {
    let idle = 0
    let isUp = false
    for (; !stopping.signal.aborted; await systemClock.sleep(50, stopping.signal)) {
      const [row] = await rowsOf<{ works: boolean; waits: boolean }>(
        db,
        sql`select (select sum(running) from app.tenant_queue) > 0 as works, exists (
            select from app.tenant_queue where next_ready_at < clock_timestamp() - interval '100 ms') as waits`,
      )
      isUp ||= row?.works === true
      if (isUp && row?.waits && !row.works) idle++
    }
    return idle
  })()
  return {
    stop() {
      stopping.abort()
      return sampled
    },
  }
}

async function startPool(url: string): Promise<AsyncDisposable & { done: Done[] }> {
  const file = fileURLToPath(new URL('claimer.ts', import.meta.url))
  const done: Done[] = []
  const children = await Promise.all(
    Array.from({ length: processes }, async () => {
      const child = fork(file, [url, String(slotsEach)])
      await new Promise((resolve) => child.once('message', resolve))
      child.on('message', (told: Done) => done.push(told))
      return child
    }),
  )
  return {
    done,
    [Symbol.asyncDispose]: async () => {
      await Promise.all(children.map(end))
    },
  }
}

function end(child: ChildProcess): Promise<unknown> {
  const ended = new Promise((resolve) => child.once('exit', resolve))
  child.kill('SIGKILL')
  return ended
}

const allow = async (db: Db, { tenantId }: Tenant, maxRunning: number): Promise<void> => {
  await withTenant(db, { tenantId, side: 'api' }, (tx) =>
    tx.execute(sql`update app.tenant_queue set max_running = ${maxRunning}`),
  )
}

// Runs of forty steps that wait for nothing, over so many pipelines.
async function fill(db: Db, tenant: Tenant, wanted: { pipelines: number; steps: number; ms: number }): Promise<void> {
  const ids = [tenant.pipelineId]
  await withTenant(db, { tenantId: tenant.tenantId, side: 'api' }, async (tx) => {
    for (let i = 1; i < wanted.pipelines; i++) {
      const id = newId('pipeline')
      ids.push(id)
      await tx.execute(sql`insert into app.pipeline (tenant_id, id, path, origin, current_version)
        values (${tenant.tenantId}, ${id}, ${`test/unit/p${i}`}, 'tenant', 1)`)
      await tx.execute(sql`insert into app.pipeline_version (tenant_id, pipeline_id, version, yaml, sha256, created_by)
        values (${tenant.tenantId}, ${id}, 1, 'steps: []', 'none', 'bench')`)
    }
  })
  const perRun = 40
  await inLanes(4, Math.ceil(wanted.steps / perRun), (run) =>
    start(
      db,
      { ...tenant, pipelineId: ids[run % ids.length] ?? tenant.pipelineId },
      Array.from({ length: perRun }, (_, step) => `wait_${wanted.ms}_${step}`),
    ),
  )
}

async function start(db: Db, { tenantId, pipelineId }: Tenant, keys: readonly string[]): Promise<string> {
  const answer = await withTenant(db, { tenantId, side: 'api' }, (tx) =>
    startRun(
      tx,
      plannedRun(
        pipelineId,
        keys.map((key, position) => plannedStep(key, { position, queue: 'transform' })),
      ),
    ),
  )
  if (!('runId' in answer)) throw new Error(`refused: ${answer.refused}`)
  return answer.runId
}

// The next scene begins with an empty house.
const empty = (db: Db): Promise<void> =>
  db.transaction(async (tx) => {
    await tx.execute(sql`set local session_replication_role = replica`)
    await tx.execute(sql`truncate app.tenant cascade`)
    await tx.execute(sql`update app.turn_clock set virtual_ms = 0`)
  })

async function inLanes<T>(lanes: number, count: number, make: (index: number) => Promise<T>): Promise<T[]> {
  const made: T[] = []
  let next = 0
  await Promise.all(
    Array.from({ length: lanes }, async () => {
      for (let index = next++; index < count; index = next++) made[index] = await make(index)
    }),
  )
  return made
}

if (values.help) console.log(help)
else process.exitCode = (await prove()) ? 0 : 1
