import { hostname } from 'node:os'
import { type QueueType, queueTypes } from '../schema/states.ts'
import { withLedger } from '../shared/db/db.ts'
import type { DataRead, DataRow } from '../shared/datasets/reader.ts'
import { AppError } from '../shared/errors.ts'
import { newId } from '../shared/ids.ts'
import { describeError } from '../shared/log.ts'
import type { Ports } from '../shared/ports.ts'
import { liveSecrets } from '../shared/redact.ts'
import { leaveWorker, seeWorker } from '../shared/runs/fleet.ts'
import { inTurn, keepHomes } from '../shared/runs/homes.ts'
import { type Claim, claimSteps, tick, type Wanted } from '../shared/runs/ledger.ts'
import { type ProcessPool, processPool } from './process/pool.ts'
import { keepAudits } from './keep-audit.ts'
import { keepDoing } from './keep-doing.ts'
import { keepTriggers } from './keep-triggers.ts'
import type { LakeOptions } from './lake/tenant-store.ts'
import { answerRead } from './reader/answer-read.ts'
import { release } from './release.ts'
import { runStep, type StepOptions } from './run-step.ts'
import { type MailServer, sendDueMessages } from './send-messages.ts'
import { sweepExports } from './sweep-exports.ts'

/** How a worker works; times in milliseconds. */
export type WorkerOptions = {
  dataDir: string
  /** Where the tenants' lakes stand. Default: in a file of each tenant's folder. */
  lake?: LakeOptions
  /** Steps at once over all tenants. Default 4. */
  capacity?: number
  /** Queue types it serves; all by default. */
  queues?: readonly QueueType[]
  /** Only these tenants; all by default. */
  tenants?: readonly string[]
  /**
   * For one of several workers: what names `dataDir` wherever it is mounted. It leaves a tenant whose lake is in another
   * folder, or open in another worker, to that one. Without it the worker is the only one.
   */
  folder?: string
  allowPrivateNetwork: boolean
  /** Where control planes reach its door for reads; without one it takes none. */
  readerUrl?: string | undefined
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
const readsPerTenant = 8

/** What a worker is doing, and has done since it started. */
export type WorkerFigures = {
  capacity: number
  running: number
  draining: boolean
  claims: number
  heartbeatsFailed: number
}

/** A running worker. */
export type Worker = {
  id: string
  pool: ProcessPool
  /** Figures of this process. */
  figures(): WorkerFigures
  /** Answers one read of a tenant's lake. Throws UNAVAILABLE when it stops, or when the tenant reads too much at once. */
  read(read: DataRead, signal: AbortSignal): Promise<DataRow[]>
  /**
   * Looks for work at once, and resolves when a look that began after this call found nothing and nothing runs any more;
   * when the worker stops; or when `signal` aborts.
   */
  drained(signal: AbortSignal): Promise<void>
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
    folder,
    leaseMs = 30_000,
    heartbeatMs = 1_000,
    pollMs = 1_000,
    auditMs = 60_000,
  } = options
  const pool = processPool()
  const mailLogin = liveSecrets.guard({ url: options.mail?.url })
  const running = new Map<Claim, Promise<void>>()
  const reading = new Map<string, number>()
  const tally = { claims: 0, heartbeatsFailed: 0 }
  const stopping = new AbortController()
  const giveBack = new AbortController()
  let nudged = Promise.withResolvers<void>()
  const nudge = (): void => nudged.resolve()
  const listening = ports.waker.listen((target) => {
    if (queues.includes(target.queue)) nudge()
  })
  const wanted: Wanted = { worker: id, queues, tenants, folder, leaseMs }

  // Homes are kept while no claim is under way that goes with the end of a step: whose it gets is not yet known here, and
  // would be given up.
  const ending = new Set<Promise<unknown>>()
  const coming = new Set<Claim>()
  let isKeeping = false
  // Tenants whose lakes are open here, or are about to be.
  const atHome = (): string[] => [
    ...new Set([
      ...[...running.keys(), ...coming].map(({ tenantId }) => tenantId),
      ...reading.keys(),
      ...pool.pids().keys(),
    ]),
  ]
  const step: StepOptions = {
    dataDir: options.dataDir,
    lake: options.lake ?? {},
    allowPrivateNetwork: options.allowPrivateNetwork,
    leaseMs,
    heartbeatMs,
    stop: giveBack.signal,
    tally,
    endWith(end) {
      if (isKeeping || stopping.signal.aborted) return end(undefined)
      const ended = end(wanted)
        .then((answer) => {
          if (answer.next) coming.add(answer.next)
          return answer
        })
        .finally(() => ending.delete(ended))
      ending.add(ended)
      return ended
    },
  }

  function take(claimed: Claim): void {
    coming.delete(claimed)
    tally.claims++
    ports.hub.notify(claimed)
    running.set(claimed, work(claimed))
  }
  async function work(claimed: Claim): Promise<void> {
    let next: Claim | undefined
    try {
      next = await runStep(ports, pool, claimed, step)
    } catch (error) {
      ports.log.error('step.lost', { runId: claimed.runId, step: claimed.stepKey, error: describeError(error) })
    }
    running.delete(claimed)
    if (next) take(next)
    nudge()
  }
  async function untilNothingRuns(): Promise<void> {
    while (running.size > 0) await Promise.all(running.values())
  }

  async function claim(): Promise<void> {
    while (!stopping.signal.aborted && running.size < capacity) {
      const claims = await claimSteps(ports.db, { ...wanted, limit: capacity - running.size })
      if (claims.length === 0) return
      for (const claimed of claims) take(claimed)
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
      reader: options.readerUrl === undefined ? undefined : { url: options.readerUrl, folder },
    })
  const keepMine = async (ids: readonly string[]): Promise<void> => {
    if (folder !== undefined) await withLedger(ports.db, 'worker', (tx) => keepHomes(tx, id, ids, leaseMs))
  }
  async function keepHome(): Promise<void> {
    isKeeping = true
    try {
      while (ending.size > 0) await Promise.allSettled(ending)
      await keepMine(atHome())
    } finally {
      isKeeping = false
    }
  }
  // What it says of itself when it goes is for others: a database that is away holds up no end.
  const say = (what: Promise<void>): Promise<void> =>
    what.catch((error: unknown) => ports.log.warn('worker.unseen', { error: describeError(error) }))

  const untilDrained = new Set<() => void>()
  let keptAt = Number.NEGATIVE_INFINITY
  async function look(): Promise<void> {
    nudged = Promise.withResolvers()
    const asked = [...untilDrained]
    // Here and not beside it: between a claim and its first step the tenant would seem to be nobody's.
    if (performance.now() - keptAt >= pollMs) {
      await keepHome()
      keptAt = performance.now()
    }
    await claim()
    if (running.size === 0) for (const end of asked) end()
  }
  async function untilNudged(): Promise<void> {
    const pause = new AbortController()
    await Promise.race([nudged.promise, ports.clock.sleep(pollMs, AbortSignal.any([pause.signal, stopping.signal]))])
    pause.abort()
  }

  let sweptAt = Number.NEGATIVE_INFINITY
  async function keepHouse(): Promise<void> {
    await report()
    let found = 0
    await inTurn(ports.db, 'tick', Math.floor(pollMs * 0.9), async (tx) => {
      found = (await tick(tx)).length
    })
    if (found > 0) nudge()
    if (performance.now() - sweptAt < sweepEveryMs) return
    sweptAt = performance.now()
    await sweepExports(options.dataDir, ports.clock.now())
  }

  const { mail } = options
  const pause = (): Promise<void> => ports.clock.sleep(pollMs, stopping.signal)
  const looking = keepDoing(ports, 'worker.look', stopping.signal, look, untilNudged)
  // Each goes its own pace: neither housekeeping nor a mail server that does not answer holds up a claim.
  const keeping = Promise.all([
    keepDoing(ports, 'worker.house', stopping.signal, keepHouse, pause),
    mail &&
      keepDoing(ports, 'worker.mail', stopping.signal, () => sendDueMessages(ports, mail, stopping.signal), pause),
    keepAudits(ports, auditMs, stopping.signal),
    keepTriggers(ports, { ...options, everyMs: pollMs }, stopping.signal),
  ])
  return {
    id,
    pool,
    figures: () => ({ ...tally, capacity, running: running.size, draining: stopping.signal.aborted }),
    async read(read, signal) {
      const { tenantId } = read
      const others = reading.get(tenantId) ?? 0
      if (stopping.signal.aborted || others >= readsPerTenant)
        throw new AppError('UNAVAILABLE', 'This worker reads nothing more for the tenant now.')
      // Before it takes the tenant home: from here on it seems to be nobody else's.
      reading.set(tenantId, others + 1)
      try {
        return await answerRead(ports, pool, read, { ...step, worker: id, folder }, signal)
      } finally {
        const left = (reading.get(tenantId) ?? 1) - 1
        if (left === 0) reading.delete(tenantId)
        else reading.set(tenantId, left)
      }
    },
    drained: (signal) =>
      new Promise((resolve) => {
        const end = (): void => {
          untilDrained.delete(end)
          both.removeEventListener('abort', end)
          resolve()
        }
        const both = AbortSignal.any([signal, stopping.signal])
        if (both.aborted) return resolve()
        both.addEventListener('abort', end, { once: true })
        untilDrained.add(end)
        nudge()
      }),
    async stop(graceMs) {
      stopping.abort()
      listening[Symbol.dispose]()
      await looking
      await keeping
      pool.keepNoneWarm()
      const left = new AbortController()
      const reporting = (async () => {
        while (!left.signal.aborted) {
          await say(report().then(keepHome))
          await ports.clock.sleep(pollMs, left.signal)
        }
      })()
      const grace = new AbortController()
      await Promise.race([untilNothingRuns(), ports.clock.sleep(graceMs, grace.signal)])
      grace.abort()
      giveBack.abort()
      await untilNothingRuns()
      await pool.close()
      left.abort()
      await reporting
      await say(keepMine([]))
      mailLogin[Symbol.dispose]()
      await say(leaveWorker(ports.db, id))
    },
  }
}
