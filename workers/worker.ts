import { hostname } from 'node:os'
import { type QueueType, queueTypes } from '../schema/states.ts'
import { newId } from '../shared/ids.ts'
import { describeError } from '../shared/log.ts'
import type { Ports } from '../shared/ports.ts'
import { liveSecrets } from '../shared/redact.ts'
import { leaveWorker, seeWorker } from '../shared/runs/fleet.ts'
import { claimSteps, tick } from '../shared/runs/ledger.ts'
import { type ProcessPool, processPool } from './process/pool.ts'
import { keepAudits } from './keep-audit.ts'
import { keepTriggers } from './keep-triggers.ts'
import { release } from './release.ts'
import { runStep } from './run-step.ts'
import { type MailServer, sendDueMessages } from './send-messages.ts'
import { sweepExports } from './sweep-exports.ts'

/** How a worker works; times in milliseconds. */
export type WorkerOptions = {
  dataDir: string
  /** Steps at once over all tenants. Default 4. */
  capacity?: number
  /** Queue types it serves; all by default. */
  queues?: readonly QueueType[]
  /** Only these tenants; all by default. */
  tenants?: readonly string[]
  allowPrivateNetwork: boolean
  /** Where mail goes; without one the messages stay in the outbox. */
  mail?: MailServer | undefined
  leaseMs?: number
  heartbeatMs?: number
  /** How often it looks without being woken, and does the ledger's housekeeping. */
  pollMs?: number
  /** How often old entries of audit logs are cut and counted refusals written. Default a minute. */
  auditMs?: number
}

const sweepEveryMs = 3_600_000

/** A running worker. */
export type Worker = {
  id: string
  pool: ProcessPool
  /** Claims nothing more, gives running steps `graceMs` to end, gives the rest back, and ends the tenants' processes. */
  stop(graceMs: number): Promise<void>
}

/** Starts to claim and run steps until stopped. */
export function startWorker(ports: Ports, options: WorkerOptions): Worker {
  const id = newId('worker')
  const {
    capacity = 4,
    queues = queueTypes,
    tenants = null,
    leaseMs = 30_000,
    heartbeatMs = 1_000,
    pollMs = 1_000,
    auditMs = 60_000,
  } = options
  const pool = processPool()
  const mailLogin = liveSecrets.guard({ url: options.mail?.url })
  const running = new Set<Promise<void>>()
  const stopping = new AbortController()
  const giveBack = new AbortController()
  let nudged = Promise.withResolvers<void>()
  const nudge = (): void => nudged.resolve()
  const listening = ports.waker.listen((target) => {
    if (queues.includes(target.queue)) nudge()
  })
  const step = {
    dataDir: options.dataDir,
    allowPrivateNetwork: options.allowPrivateNetwork,
    leaseMs,
    heartbeatMs,
    stop: giveBack.signal,
  }

  async function claim(): Promise<void> {
    while (!stopping.signal.aborted && running.size < capacity) {
      const claims = await claimSteps(ports.db, {
        worker: id,
        queues,
        limit: capacity - running.size,
        leaseMs,
        tenants,
      })
      if (claims.length === 0) return
      for (const claimed of claims) {
        ports.hub.notify(claimed)
        const work = runStep(ports, pool, claimed, step)
          .catch((error: unknown) =>
            ports.log.error('step.lost', { runId: claimed.runId, step: claimed.stepKey, error: describeError(error) }),
          )
          .finally(() => {
            running.delete(work)
            nudge()
          })
        running.add(work)
      }
    }
  }

  const report = (): Promise<void> =>
    seeWorker(ports.db, {
      id,
      host: hostname(),
      pid: process.pid,
      version: release,
      queues,
      tenants,
      capacity,
      running: running.size,
      draining: stopping.signal.aborted,
    })
  // What it says of itself is for status views: a database that is away holds up no end.
  const say = (what: Promise<void>): Promise<void> =>
    what.catch((error: unknown) => ports.log.warn('worker.unseen', { error: describeError(error) }))

  let sweptAt = Number.NEGATIVE_INFINITY
  async function keepHouse(): Promise<void> {
    await tick(ports.db)
    await report()
    if (options.mail) await sendDueMessages(ports, options.mail, stopping.signal)
    if (performance.now() - sweptAt < sweepEveryMs) return
    sweptAt = performance.now()
    await sweepExports(options.dataDir, ports.clock.now())
  }

  async function loop(): Promise<void> {
    let keptAt = Number.NEGATIVE_INFINITY
    while (!stopping.signal.aborted) {
      nudged = Promise.withResolvers()
      try {
        if (performance.now() - keptAt >= pollMs) {
          keptAt = performance.now()
          await keepHouse()
        }
        await claim()
      } catch (error) {
        ports.log.error('worker.loop', { error: describeError(error) })
      }
      const pause = new AbortController()
      await Promise.race([nudged.promise, ports.clock.sleep(pollMs, AbortSignal.any([pause.signal, stopping.signal]))])
      pause.abort()
    }
  }

  const looping = loop()
  const keeping = Promise.all([
    keepAudits(ports, auditMs, stopping.signal),
    keepTriggers(ports, { ...options, everyMs: pollMs }, stopping.signal),
  ])
  return {
    id,
    pool,
    async stop(graceMs) {
      stopping.abort()
      listening[Symbol.dispose]()
      await looping
      await keeping
      await say(report())
      const grace = new AbortController()
      await Promise.race([Promise.all(running), ports.clock.sleep(graceMs, grace.signal)])
      grace.abort()
      giveBack.abort()
      await Promise.all(running)
      await pool.close()
      mailLogin[Symbol.dispose]()
      await say(leaveWorker(ports.db, id))
    },
  }
}
