import { createRequire } from 'node:module'
import { sql } from 'drizzle-orm'
import { queueTypes } from '../../schema/states.ts'
import { systemClock } from '../../shared/clock.ts'
import { type Db, withTenant } from '../../shared/db/db.ts'
import { newId } from '../../shared/ids.ts'
import { type Claim, claimSteps, completeAndClaim, type NewRun, startRun } from '../../shared/runs/ledger.ts'
import { makeTenant } from '../../test/support/database.ts'
import { openPg } from '../../workers/db/pg.ts'
import { openSignals } from '../../workers/db/signals.ts'
import { processLog } from '../../workers/process-log.ts'
import { plannedRun, plannedStep } from '../../test/support/runs.ts'

/** The queues that are measured. */
export const queueNames = ['ledger', 'pg-boss', 'graphile-worker'] as const
/** A queue's name. */
export type QueueName = (typeof queueNames)[number]

/** How many steps a run of the ledger has, each after the one before. */
export const stepsPerRun = 3
const tenants = 20

/** One queue, as one process sees it. */
export type Queue = {
  /** Makes its tables; once, before any other process opens it. */
  prepare(): Promise<void>
  /** Puts in `units` of work that does nothing: steps for the ledger, jobs for the others. */
  fill(units: number): Promise<void>
  /** Puts in one: a run of `steps` steps, or a job. Answers its id. */
  send(steps: number): Promise<string>
  /** Does what there is, `slots` at a time, and goes on when there is more; `each` is called for each unit. */
  work(slots: number, each: (id: string) => void): Promise<void>
  close(): Promise<void>
}

// What the bench uses of them; they live beside this file and not with the product.
type Boss = {
  start(): Promise<unknown>
  stop(options: object): Promise<void>
  on(event: 'error', listener: (error: Error) => void): void
  createQueue(name: string, options: object): Promise<void>
  insert(name: string, jobs: object[]): Promise<unknown>
  send(name: string, data: object): Promise<string>
  fetch(name: string, options: object): Promise<{ id: string }[]>
  complete(name: string, ids: string[]): Promise<unknown>
  work(name: string, options: object, handler: (jobs: { id: string }[]) => Promise<void>): Promise<string>
}
type PgBoss = { PgBoss: new (options: object) => Boss; fromPglite(client: unknown): object }
type Graphile = {
  run(options: object): Promise<{ stop(): Promise<void> }>
  makeWorkerUtils(options: object): Promise<{
    migrate(): Promise<void>
    addJob(name: string, payload: object): Promise<{ id: string }>
    addJobs(jobs: object[]): Promise<unknown>
    release(): Promise<void>
  }>
  Logger: new (factory: () => () => void) => object
}
const load = createRequire(import.meta.filename)

/** Opens one over a PostgreSQL server. */
export function openQueue(name: QueueName, url: string): Queue {
  if (name === 'ledger') return ledgerOverPg(url)
  return name === 'pg-boss' ? boss({ connectionString: url, max: 8 }) : graphile(url)
}

function ledgerOverPg(url: string): Queue {
  const { db, close } = openPg(url)
  const signals = openSignals(url, { db, clock: systemClock, log: processLog('silent') })
  return ledger(db, signals.waker, async () => {
    await signals.close()
    await close()
  })
}

/** The ledger as a worker of the product uses it: claims what it has slots for, ends each by itself, with the next for its slot. */
export function ledger(db: Db, waker: ReturnType<typeof openSignals>['waker'], close: () => Promise<void>): Queue {
  const made: Awaited<ReturnType<typeof makeTenant>>[] = []
  const start = async (at: number, steps: number): Promise<string> => {
    const tenant = made[at % made.length]
    if (!tenant) throw new Error('no tenant')
    const { tenantId } = tenant
    const run = chain(tenant.pipelineId, steps)
    const answer = await withTenant(db, { tenantId, side: 'api' }, (tx) => startRun(tx, run))
    if (!('runId' in answer)) throw new Error(`refused: ${answer.refused}`)
    return `${tenantId} ${answer.runId}`
  }
  const stopping = new AbortController()
  let nudge = (): void => undefined
  let started = 0
  return {
    async prepare() {
      for (let i = 0; i < tenants; i++) made.push(await makeTenant(db, { maxQueuedRuns: 1e6, maxRunningTotal: 16 }))
    },
    async fill(units) {
      for (let left = Math.ceil(units / stepsPerRun); left > 0; left -= 8)
        await Promise.all(Array.from({ length: Math.min(8, left) }, (_, i) => start(left + i, stepsPerRun)))
    },
    async send(steps) {
      const [tenantId = '', runId = ''] = (await start(started++, steps)).split(' ')
      await waker.wake({ tenantId, queue: 'transform' })
      return runId
    },
    async work(slots, each) {
      const wanted = { worker: newId('worker'), queues: queueTypes, leaseMs: 30_000, tenants: null }
      const running = new Map<Claim, Promise<void>>()
      const take = (claim: Claim): void => void running.set(claim, end(claim))
      const end = async (claim: Claim): Promise<void> => {
        const { isDone, next } = await completeAndClaim(db, claim, { ok: true }, [], wanted)
        running.delete(claim)
        if (!isDone) throw new Error('a step was lost')
        each(claim.runId)
        if (next) take(next)
        nudge()
      }
      const listening = waker.listen(() => nudge())
      while (!stopping.signal.aborted) {
        const { promise, resolve } = Promise.withResolvers<void>()
        nudge = resolve
        while (running.size < slots) {
          const claims = await claimSteps(db, { ...wanted, limit: slots - running.size })
          if (claims.length === 0) break
          for (const claim of claims) take(claim)
          if (running.size >= slots) await Promise.race(running.values())
        }
        await Promise.race([promise, systemClock.sleep(250)])
      }
      await Promise.all(running.values())
      listening[Symbol.dispose]()
    },
    async close() {
      stopping.abort()
      nudge()
      await close()
    },
  }
}

const chain = (pipelineId: string, length: number): NewRun =>
  plannedRun(
    pipelineId,
    Array.from({ length }, (_, position) =>
      plannedStep(`step_${position}`, {
        position,
        queue: 'transform',
        needs: position === 0 ? [] : [`step_${position - 1}`],
        max_attempts: 3,
      }),
    ),
    { timeoutMs: 3_600_000 },
  )

/** pg-boss by fetch and complete for a backlog, by its own NOTIFY for single jobs. */
export function boss(options: object): Queue {
  const { PgBoss }: PgBoss = load('pg-boss')
  const client = new PgBoss({ ...options, supervise: false, schedule: false, useListenNotify: true })
  client.on('error', () => undefined)
  const name = 'bench'
  const starting = client.start()
  const stopping = new AbortController()
  return {
    async prepare() {
      await starting
      await client.createQueue(name, { notify: true })
    },
    async fill(units) {
      const jobs = Array.from({ length: units }, (_, n) => ({ data: { n } }))
      await client.insert(name, jobs)
    },
    send: () => client.send(name, {}),
    async work(slots, each) {
      await starting
      while (!stopping.signal.aborted) {
        const jobs = await client.fetch(name, { batchSize: slots })
        if (jobs.length === 0) {
          await systemClock.sleep(20)
          continue
        }
        await client.complete(
          name,
          jobs.map((job) => job.id),
        )
        for (const job of jobs) each(job.id)
      }
    },
    async close() {
      stopping.abort()
      await client.stop({ graceful: false, close: true })
    },
  }
}

/** pg-boss's own worker, which NOTIFY wakes: for jobs that come one by one. */
export function bossWorker(
  url: string,
  each: (id: string) => void,
): { ready: Promise<unknown>; close(): Promise<void> } {
  const { PgBoss }: PgBoss = load('pg-boss')
  const client = new PgBoss({ connectionString: url, max: 8, supervise: false, schedule: false, useListenNotify: true })
  client.on('error', () => undefined)
  const ready = client.start().then(() =>
    client.work('bench', { pollingIntervalSeconds: 0.5, notifyPollingIntervalSeconds: 0.5 }, async (jobs) => {
      for (const job of jobs) each(job.id)
    }),
  )
  return { ready, close: () => client.stop({ graceful: false, close: true }) }
}

function graphile(url: string): Queue {
  const { run, makeWorkerUtils, Logger }: Graphile = load('graphile-worker')
  const logger = new Logger(() => () => undefined)
  const utils = makeWorkerUtils({ connectionString: url, logger })
  let runner: { stop(): Promise<void> } | undefined
  return {
    prepare: async () => (await utils).migrate(),
    async fill(units) {
      await (await utils).addJobs(Array.from({ length: units }, (_, n) => ({ identifier: 'noop', payload: { n } })))
    },
    send: async () => (await (await utils).addJob('noop', {})).id,
    async work(slots, each) {
      runner = await run({
        connectionString: url,
        logger,
        concurrency: slots,
        noHandleSignals: true,
        pollInterval: 500,
        maxPoolSize: slots + 2,
        taskList: { noop: async (_: unknown, helpers: { job: { id: string } }) => each(String(helpers.job.id)) },
      })
    },
    async close() {
      await runner?.stop()
      await (await utils).release()
    },
  }
}

/** Forgets every unit of every queue, so that a round starts as the one before it. */
export async function clearQueues(db: Db): Promise<void> {
  await db.transaction(async (tx) => {
    await tx.execute(sql`set local session_replication_role = replica`)
    await tx.execute(
      sql`truncate app.pipeline_run, app.run_step, app.run_event, app.effect, app.audit_event, app.run_errand, app.run_follow_up, app.tenant_turn`,
    )
    await tx.execute(
      sql`update app.tenant_queue set running = 0, next_ready_at = 'infinity', turn_ms = 0, charged_ms = 0`,
    )
  })
}
