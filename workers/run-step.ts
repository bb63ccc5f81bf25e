import { join } from 'node:path'
import { isDatabaseAway } from '../shared/db/away.ts'
import { AppError, type ErrorData, errorData } from '../shared/errors.ts'
import { newId } from '../shared/ids.ts'
import { describeError } from '../shared/log.ts'
import type { Ports } from '../shared/ports.ts'
import { liveSecrets } from '../shared/redact.ts'
import {
  cancelStep,
  type Claim,
  completeAndClaim,
  completeStep,
  type Ended,
  expandStep,
  failStep,
  heartbeat,
  noteStorage,
  type Order,
  releaseStep,
  reportStep,
  type Wanted,
} from '../shared/runs/ledger.ts'
import { withTenant } from '../shared/db/db.ts'
import { startInTransaction } from '../shared/runs/start-in-transaction.ts'
import { wakeRun } from '../shared/runs/wake-run.ts'
import type { StepResult, WantedRun } from './define.ts'
import { type LakeOptions, removeCatalog, tenantStore } from './lake/tenant-store.ts'
import type { Binding } from './process/messages.ts'
import type { ProcessPool } from './process/pool.ts'
import { measureStorage } from './measure-storage.ts'
import { type Bound, stepInput } from './step-input.ts'

/** What a worker gives each of its steps. Times in milliseconds. */
export type StepOptions = {
  dataDir: string
  lake: LakeOptions
  allowPrivateNetwork: boolean
  leaseMs: number
  /** How often the ledger is asked; a cancel is noticed within this time. */
  heartbeatMs: number
  /** Aborts when the worker stops and its grace is over: running steps are given back. */
  stop: AbortSignal
  /** Counts what nobody else sees. */
  tally: { heartbeatsFailed: number }
  /** Has the step ended by `end`, which is told what it may claim with it; undefined when that is nothing. */
  endWith(end: (wanted: Wanted | undefined) => Promise<Ended>): Promise<Ended>
}

const logLinesMax = 1_000
const logLineCharsMax = 2_000

/**
 * Runs one claimed step to its end in the ledger: succeeded, failed, cancelled, to be retried, or given back. Answers the
 * step that was claimed with its end, if any. It never rejects for a fault of the step. A database that goes away meanwhile
 * is waited for as long as the lease may last; then it rejects, and the step is another worker's.
 */
export async function runStep(
  ports: Ports,
  pool: ProcessPool,
  claim: Claim,
  options: StepOptions,
): Promise<Claim | undefined> {
  const abort = new AbortController()
  const watch = watchLease(ports, claim, options, abort)
  const outcome = await attempt(ports, pool, claim, options, abort.signal, watch.events).then(
    (result) => ({ result }),
    (error: unknown) => ({ error }),
  )
  await measure(ports, claim, options)
  const order = await watch.end()
  if (order === 'stale') return undefined
  // Said twice it counts once: the fence is that of the first time.
  const next = await insist(ports, options, async () => {
    if ('error' in outcome) await settleFailure(ports, claim, order, outcome.error)
    else if ('items' in outcome.result) await expandStep(ports.db, claim, outcome.result.items)
    else if (outcome.result.run) await startAndWait(ports, claim, outcome.result.run)
    else return succeed(ports, claim, outcome.result, options)
    return undefined
  })
  ports.hub.notify(claim)
  return next
}

async function insist<T>({ clock }: Ports, { leaseMs, stop }: StepOptions, say: () => Promise<T>): Promise<T> {
  const until = performance.now() + leaseMs
  for (let pauseMs = 100; ; pauseMs = Math.min(2_000, pauseMs * 2)) {
    try {
      return await say()
    } catch (error) {
      if (!isDatabaseAway(error) || stop.aborted || performance.now() >= until) throw error
      await clock.sleep(pauseMs, stop)
    }
  }
}

async function attempt(
  ports: Ports,
  pool: ProcessPool,
  claim: Claim,
  options: StepOptions,
  signal: AbortSignal,
  events: Parameters<ProcessPool['run']>[2],
): Promise<StepResult | { items: readonly unknown[] }> {
  const input = await insist(ports, options, () => stepInput(ports, claim, options.lake))
  signal.throwIfAborted()
  if (input && 'items' in input) return input
  using _held = liveSecrets.guard([input?.job.secret, input?.lakeKey])
  if (!input) {
    events.log('info', 'Not run: its "when" does not hold, or its feature is switched off.')
    return { outputs: { skipped: true } }
  }
  const result = await pool.run(await bindingOf(input, options), input.job, events, signal)
  // The process that emptied its catalog was logged in as the role that is left.
  const { catalogUrl } = options.lake
  if (input.job.psType === 'tenant.dismantle' && catalogUrl !== undefined)
    await removeCatalog(catalogUrl, input.tenant.id)
  return result
}

/**
 * What a tenant's process is told once: its tenant, its limits, and where its lake and folders are, with the key of the
 * lake when it is encrypted.
 */
export async function bindingOf(
  { tenant, limits, lakeKey }: Bound,
  options: Pick<StepOptions, 'dataDir' | 'lake' | 'allowPrivateNetwork'>,
): Promise<Binding> {
  const root = rootOf(tenant.id, options)
  return {
    tenant,
    limits,
    store: await tenantStore(options.lake, tenant.id, root, lakeKey),
    filesRoot: join(root, 'files'),
    workRoot: join(root, 'work'),
    allowPrivateNetwork: options.allowPrivateNetwork,
  }
}

const rootOf = (tenantId: string, { dataDir }: Pick<StepOptions, 'dataDir'>): string =>
  join(dataDir, 'tenants', tenantId)

// Before the step's outcome: what comes after it is judged by what it left. A measure that fails costs no step its result.
async function measure(ports: Ports, claim: Claim, options: StepOptions): Promise<void> {
  try {
    await noteStorage(ports.db, claim.tenantId, await measureStorage(rootOf(claim.tenantId, options)))
  } catch (error) {
    ports.log.warn('storage.unmeasured', { runId: claim.runId, step: claim.stepKey, error: describeError(error) })
  }
}

// The lease is kept from here, outside the tenant's process: a step that hangs there still hears a cancel.
function watchLease(ports: Ports, claim: Claim, options: StepOptions, abort: AbortController) {
  let order: Order = 'ok'
  let progress: object | null = null
  let logs: { level: string; message: string }[] = []
  let lines = 0
  let heardAt = performance.now()
  const ended = new AbortController()

  const flush = async (): Promise<void> => {
    if (progress === null && logs.length === 0) return
    const report = { progress, logs }
    progress = null
    logs = []
    try {
      if (await reportStep(ports.db, claim, report)) ports.hub.notify(claim)
    } catch (error) {
      progress ??= report.progress
      logs = [...report.logs, ...logs]
      throw error
    }
  }
  const beat = async (): Promise<void> => {
    for (let waited = 0; !ended.signal.aborted; waited += 500) {
      await ports.clock.sleep(Math.min(500, options.heartbeatMs), ended.signal)
      try {
        await flush()
        if (waited % options.heartbeatMs < 500)
          order = order === 'ok' ? await heartbeat(ports.db, claim, options.leaseMs) : order
        heardAt = performance.now()
      } catch (error) {
        // A database that is away for a moment costs nothing; past the lease another worker may have the step.
        options.tally.heartbeatsFailed++
        ports.log.warn('heartbeat.failed', { runId: claim.runId, step: claim.stepKey, error: describeError(error) })
        if (performance.now() - heardAt > options.leaseMs) order = 'stale'
      }
      if (order === 'ok' && options.stop.aborted) order = 'release'
      if (order !== 'ok') abort.abort(new AppError('CANCELLED', 'The step was stopped.'))
    }
  }
  const beating = beat()
  return {
    events: {
      progress: (value: object) => {
        progress = value
      },
      log: (level: string, message: string) => {
        lines++
        if (lines <= logLinesMax) logs.push({ level, message: message.slice(0, logLineCharsMax) })
        if (lines === logLinesMax)
          logs.push({ level: 'warn', message: `Further lines are dropped after ${logLinesMax}.` })
      },
    },
    async end(): Promise<Order> {
      ended.abort()
      await beating
      await insist(ports, options, flush).catch((error: unknown) =>
        ports.log.warn('report.lost', { runId: claim.runId, step: claim.stepKey, error: describeError(error) }),
      )
      return order
    },
  }
}

async function succeed(
  ports: Ports,
  claim: Claim,
  result: StepResult,
  { endWith }: StepOptions,
): Promise<Claim | undefined> {
  const messages = (result.mail ?? []).map((mail) => ({
    id: newId('outbox'),
    kind: 'email' as const,
    payload: { ...mail },
  }))
  const { isDone, next } = await endWith(async (wanted) =>
    wanted
      ? completeAndClaim(ports.db, claim, result.outputs, messages, wanted)
      : { isDone: await completeStep(ports.db, claim, result.outputs, messages), next: undefined },
  )
  if (!isDone) ports.log.warn('step.stale', { runId: claim.runId, step: claim.stepKey })
  return next
}

// From here the step has no lease and no slot; the end of its run ends it.
async function startAndWait(ports: Ports, claim: Claim, wanted: WantedRun): Promise<void> {
  try {
    const started = await withTenant(ports.db, { tenantId: claim.tenantId, side: 'worker' }, (tx) =>
      startInTransaction(tx, {
        tenantId: claim.tenantId,
        actor: `run:${claim.runId}`,
        requestId: null,
        path: wanted.pipeline,
        trigger: 'step',
        parameters: wanted.parameters,
        environment: wanted.environment,
        idempotencyKey: null,
        inputHash: null,
        parent: claim,
      }),
    )
    if ('problems' in started)
      throw new AppError('CONFIG_INVALID', `${wanted.pipeline}: ${started.problems[0]?.message ?? 'cannot be read'}`)
    await wakeRun(ports, { tenantId: claim.tenantId, runId: started.runId }, 'worker')
  } catch (error) {
    await settleFailure(ports, claim, await heartbeat(ports.db, claim, 1_000), error)
  }
}

async function settleFailure(ports: Ports, claim: Claim, order: Order, error: unknown): Promise<void> {
  const data = withoutSecrets(errorData(error))
  if (data.code === 'INTERNAL')
    ports.log.error('step.unexpected', { runId: claim.runId, step: claim.stepKey, error: describeError(error) })
  if (order === 'cancel' && (await cancelStep(ports.db, claim))) return
  if (order === 'release') return void (await releaseStep(ports.db, claim, 'stop'))
  if (order === 'timeout') return void (await failStep(ports.db, claim, timedOut()))
  const collateral = error instanceof AppError && error.context['collateral'] === true
  if (collateral) return void (await releaseStep(ports.db, claim, 'process_replaced'))
  await failStep(ports.db, claim, data)
}

// What the tenant's process said is clean already; this is for what this process did before it.
const withoutSecrets = (data: ErrorData): ErrorData => ({
  ...data,
  message: liveSecrets.text(data.message),
  hint: liveSecrets.text(data.hint),
})

const timedOut = (): ErrorData => errorData(new AppError('TIMED_OUT', 'The step took longer than its timeout.'))
