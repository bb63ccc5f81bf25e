import { parsePipeline } from '../../shared/config/parse.ts'
import type { Problem } from '../../shared/config/problems.ts'
import type { Tx } from '../../shared/db/db.ts'
import { AppError } from '../../shared/errors.ts'
import { newId } from '../../shared/ids.ts'
import { startRun as startInLedger } from '../../shared/runs/ledger.ts'
import { parameterValues } from '../../shared/runs/parameters.ts'
import { planRun, runTimeoutMs } from '../../shared/runs/plan.ts'
import { type Context, inTenant } from '../context.ts'
import { readSurroundings } from '../environments/read-surroundings.ts'
import { quotaExceeded, quotaRefusal } from '../graphql/quota-error.ts'
import { sourceOf } from '../pipelines/find-pipeline.ts'
import { refuseWithoutFeature } from '../tenants/features.ts'
import { wakeQueues } from './wake-queues.ts'

/** What a caller wants to run. */
export type RunRequest = {
  pipeline: string
  parameters?: unknown
  date?: string | null | undefined
  idempotencyKey?: string | null | undefined
  environment?: string | null | undefined
}
/** The run, or what keeps it from starting. `created` is false for a repeat of the idempotency key. */
export type Started = { runId: string; created: boolean } | { problems: Problem[] }

/**
 * Starts a run of the tenant's pipeline of this path, or of a template, and wakes the queues of its first steps. Pipeline
 * version, run, steps, first event and audit row are one transaction. A repeat of the idempotency key answers the first
 * run. Throws BAD_INPUT, NOT_FOUND, PARAMETER_INVALID, IDEMPOTENCY_KEY_REUSED, TENANT_NOT_ACTIVE, QUOTA_EXCEEDED,
 * FEATURE_OFF.
 */
export async function startRun(context: Context, request: RunRequest): Promise<Started> {
  const parameters = parametersOf(request)
  const idempotencyKey = checkedKey(request.idempotencyKey)
  const environment = request.environment ?? null
  const input = { pipeline: request.pipeline, parameters, ...(environment === null ? {} : { environment }) }
  const inputHash = idempotencyKey === null ? null : await hashOf(input)
  const started = await inTenant(context, (tx, { tenantId, actor }) =>
    startInTransaction(tx, {
      tenantId,
      actor,
      requestId: context.requestId,
      path: request.pipeline,
      trigger: 'manual',
      parameters,
      idempotencyKey,
      inputHash,
      environment,
    }),
  )
  if ('runId' in started && started.created) wakeQueues(context, started.runId)
  return started
}

/** What the platform's own pipelines are run for; only these may run them. */
export type SystemTrigger = 'provision' | 'check' | 'activate' | 'offboard'

/** A run to start in the caller's transaction. */
export type NewRun = {
  tenantId: string
  actor: string
  requestId: string
  path: string
  trigger: 'manual' | SystemTrigger
  parameters: Record<string, unknown>
  idempotencyKey: string | null
  inputHash: string | null
  /** The credential that every step opens, whatever the file says. */
  credential?: string
  /** The tenant's environment whose values it takes. */
  environment?: string | null
}

/** The part of `startRun` that is one transaction; the caller wakes the queues after it. */
export async function startInTransaction(tx: Tx, run: NewRun): Promise<Started> {
  const { credential } = run
  const source = await sourceOf(tx, { ...run, isSystem: run.trigger !== 'manual' })
  const parsed = parsePipeline(source.yaml, { file: `${run.path}.yml` })
  if ('problems' in parsed) return parsed
  const steps = planRun(parsed.pipeline)
  await refuseWithoutFeature(tx, run.tenantId, steps)
  const surroundings = await readSurroundings(tx, run.tenantId, run.environment ?? null)
  const parameters = parameterValues(parsed.pipeline, { ...surroundings.valuesFor(parsed.pipeline), ...run.parameters })
  const pipeline = await source.keep(tx)
  const answer = await startInLedger(tx, {
    runId: newId('run'),
    pipelineId: pipeline.id,
    pipelineVersion: pipeline.version,
    trigger: run.trigger,
    idempotencyKey: run.idempotencyKey,
    inputHash: run.inputHash,
    parameters,
    timeoutMs: runTimeoutMs(parsed.pipeline),
    requestedBy: run.actor,
    requestId: run.requestId,
    steps: steps.map((step) => (credential === undefined ? surroundings.stepIn(step) : { ...step, credential })),
    environment: run.environment ?? null,
  })
  if ('refused' in answer) {
    if (answer.refused === 'QUOTA_EXCEEDED') throw quotaExceeded(quotaRefusal.parse(answer))
    if (answer.refused === 'GROUP_BUSY')
      throw new AppError('CONFLICT', `The run ${answer.runId} has the place of this one in its group.`, {
        hint: 'Wait until that run has ended; concurrency.on_conflict of the pipeline says that none waits for it.',
      })
    throw new AppError('TENANT_NOT_ACTIVE', 'This tenant is not active.')
  }
  if (answer.conflict)
    throw new AppError('IDEMPOTENCY_KEY_REUSED', 'This idempotency key belongs to a run with another input.', {
      place: { path: 'idempotencyKey' },
    })
  return { runId: answer.runId, created: answer.created }
}

function parametersOf({ parameters, date }: RunRequest): Record<string, unknown> {
  const given = parameters ?? {}
  if (typeof given !== 'object' || Array.isArray(given))
    throw new AppError('BAD_INPUT', 'parameters must be an object.', { place: { path: 'parameters' } })
  const named: Record<string, unknown> = { ...given }
  if (date === null || date === undefined) return named
  if (Object.hasOwn(named, 'date'))
    throw new AppError('BAD_INPUT', 'date is given twice: beside parameters and among them.', {
      place: { path: 'date' },
    })
  return { ...named, date }
}

function checkedKey(key: string | null | undefined): string | null {
  if (key === null || key === undefined) return null
  // Printable ASCII: a key is compared byte by byte, also by people in a log.
  if (/^[\x21-\x7e]{1,200}$/.test(key)) return key
  throw new AppError('BAD_INPUT', 'idempotencyKey must be 1 to 200 printable characters without spaces.', {
    place: { path: 'idempotencyKey' },
  })
}

async function hashOf(value: unknown): Promise<string> {
  const digest = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(canonical(value)))
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, '0')).join('')
}

// The same input in another order of keys is the same input.
function canonical(value: unknown): string {
  return JSON.stringify(value, (_key, part: unknown) =>
    typeof part === 'object' && part !== null && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)))
      : part,
  )
}
