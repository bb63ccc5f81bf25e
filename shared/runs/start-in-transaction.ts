import { parsePipeline } from '../config/parse.ts'
import type { Problem } from '../config/problems.ts'
import type { Tx } from '../db/db.ts'
import { AppError } from '../errors.ts'
import { refuseWithoutFeature } from '../features.ts'
import { newId } from '../ids.ts'
import { sourceOf } from '../pipelines/find-pipeline.ts'
import { quotaExceeded, quotaRefusal } from '../quota-error.ts'
import { startRun as startInLedger } from './ledger.ts'
import { parameterValues } from './parameters.ts'
import { planRun, runTimeoutMs } from './plan.ts'
import { readSurroundings } from './read-surroundings.ts'

/** What the platform's own pipelines are run for; only these may run them. */
const systemTriggers = ['provision', 'check', 'activate', 'offboard'] as const
/** Why a run of the platform's own pipelines starts. */
export type SystemTrigger = (typeof systemTriggers)[number]
/** Why a run of a tenant's pipeline starts: a caller, a time, a range of times, a file, a signed request, the end of another. */
export type TenantTrigger = 'manual' | 'schedule' | 'backfill' | 'file' | 'webhook' | 'pipeline'

/** A run to start in the caller's transaction. */
export type NewRun = {
  tenantId: string
  actor: string
  /** The request behind it; null for what no request started. */
  requestId: string | null
  path: string
  trigger: TenantTrigger | SystemTrigger
  parameters: Record<string, unknown>
  idempotencyKey: string | null
  inputHash: string | null
  /** The credential that every step opens, whatever the file says. */
  credential?: string
  /** The tenant's environment whose values it takes. */
  environment?: string | null
}

/** The run, or what keeps it from starting. `created` is false for a repeat of the idempotency key. */
export type Started = { runId: string; created: boolean } | { problems: Problem[] }

/**
 * Starts a run of the tenant's pipeline of this path, or of a template, in the caller's transaction, which is bound to the
 * tenant; the caller wakes the queues after it. Every start of a run comes this way, whatever triggers it. Throws NOT_FOUND,
 * PARAMETER_INVALID, IDEMPOTENCY_KEY_REUSED, TENANT_NOT_ACTIVE, QUOTA_EXCEEDED, FEATURE_OFF, CONFLICT.
 */
export async function startInTransaction(tx: Tx, run: NewRun): Promise<Started> {
  const { credential } = run
  const source = await sourceOf(tx, { ...run, isSystem: systemTriggers.some((trigger) => trigger === run.trigger) })
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
