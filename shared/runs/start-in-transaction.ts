import { parsePipeline } from '../config/parse.ts'
import type { Problem } from '../config/problems.ts'
import { eq, sql } from 'drizzle-orm'
import type { Pipeline } from '../../schema/config/pipeline.ts'
import type { Values } from '../../schema/config/variables.ts'
import { tenant } from '../../schema/tables/index.ts'
import { findPlaceholders } from '../config/placeholders.ts'
import { renderText, variableValues } from '../config/variables.ts'
import type { Tx } from '../db/db.ts'
import { AppError } from '../errors.ts'
import { refuseWithoutFeature } from '../features.ts'
import { newId } from '../ids.ts'
import { type Source, sourceOf } from '../pipelines/find-pipeline.ts'
import { quotaExceeded, quotaRefusal } from '../quota-error.ts'
import {
  type Claim,
  type Concurrency,
  type NewRun as LedgerRun,
  startChild,
  startRun as startInLedger,
} from './ledger.ts'
import { parameterValues } from './parameters.ts'
import { type PlannedStep, planRun, runTimeoutMs } from './plan.ts'
import { readSurroundings } from './read-surroundings.ts'

/** What the platform's own pipelines are run for; only these may run them. */
const systemTriggers = ['provision', 'check', 'activate', 'offboard'] as const
/** Why a run of the platform's own pipelines starts. */
export type SystemTrigger = (typeof systemTriggers)[number]
/** Why a run of a tenant's pipeline starts: a caller, a time, a range of times, a file, a signed request, the end of another, a step of another. */
export type TenantTrigger = 'manual' | 'schedule' | 'backfill' | 'file' | 'webhook' | 'pipeline' | 'step'

/** A run to start in the caller's transaction. */
export type NewRun = {
  tenantId: string
  actor: string
  /** The request behind it; null for what no request started. */
  requestId: string | null
  path: string
  trigger: TenantTrigger | SystemTrigger
  parameters: Record<string, unknown>
  /** Values for parameters that the pipeline may declare or not; of those that it does not, nothing is said. */
  offered?: Record<string, unknown>
  idempotencyKey: string | null
  inputHash: string | null
  /** The credential that every step opens, whatever the file says. */
  credential?: string
  /** The tenant's environment whose values it takes. */
  environment?: string | null
  /** Runs of a higher one are served before others of the same tenant. Default 0. */
  priority?: number
  /** The step of another run that starts this one and waits for its end. */
  parent?: Claim
}

/** The run, or what keeps it from starting. `created` is false for a repeat of the idempotency key. */
export type Started = { runId: string; created: boolean } | { problems: Problem[] }

/**
 * Starts a run of the tenant's pipeline of this path, or of a template, in the caller's transaction, which is bound to the
 * tenant; the caller wakes the queues after it. Every start of a run comes this way, whatever triggers it. Throws NOT_FOUND,
 * PARAMETER_INVALID, IDEMPOTENCY_KEY_REUSED, TENANT_NOT_ACTIVE, QUOTA_EXCEEDED, FEATURE_OFF, CONFLICT.
 */
export async function startInTransaction(tx: Tx, run: NewRun): Promise<Started> {
  const prepared = await prepareRun(tx, run)
  if ('problems' in prepared) return prepared
  const { source, parameters, steps } = prepared
  const pipeline = await source.keep(tx)
  const runId = newId('run')
  const answer = await startWith(tx, run.parent, {
    runId,
    pipelineId: pipeline.id,
    pipelineVersion: pipeline.version,
    trigger: run.trigger,
    idempotencyKey: run.idempotencyKey,
    inputHash: run.inputHash,
    parameters,
    timeoutMs: runTimeoutMs(prepared.pipeline),
    requestedBy: run.actor,
    requestId: run.requestId,
    steps,
    environment: run.environment ?? null,
    priority: run.priority ?? 0,
    concurrency: await groupOf(tx, prepared.pipeline, run, parameters, runId),
  })
  if ('refused' in answer) {
    if (answer.refused === 'QUOTA_EXCEEDED') throw quotaExceeded(quotaRefusal.parse(answer))
    if (answer.refused === 'GROUP_BUSY')
      throw new AppError('CONFLICT', `The run ${answer.runId} has the place of this one in its group.`, {
        hint: 'Wait until that run has ended; concurrency.on_conflict of the pipeline says that none waits for it.',
      })
    if (answer.refused === 'TENANT_NOT_ACTIVE') throw new AppError('TENANT_NOT_ACTIVE', 'This tenant is not active.')
    if (answer.refused === 'TOO_DEEP')
      throw new AppError('CONFIG_INVALID', 'Runs that start runs go five deep at most.', {
        hint: 'A pipeline that starts itself, over others or not, has no end.',
      })
    throw new AppError('CANCELLED', 'The step that starts this run has been stopped.')
  }
  if (answer.conflict)
    throw new AppError('IDEMPOTENCY_KEY_REUSED', 'This idempotency key belongs to a run with another input.', {
      place: { path: 'idempotencyKey' },
    })
  return { runId: answer.runId, created: answer.created }
}

/** What a run would be: its pipeline, its parameters checked, and its steps as they would be planned. */
export type PreparedRun = { source: Source; pipeline: Pipeline; parameters: Values; steps: PlannedStep[] }

/** The part of `startInTransaction` that changes nothing. Throws as it does. */
export async function prepareRun(
  tx: Tx,
  run: Omit<NewRun, 'idempotencyKey' | 'inputHash'>,
): Promise<PreparedRun | { problems: Problem[] }> {
  const { credential } = run
  const source = await sourceOf(tx, { ...run, isSystem: systemTriggers.some((trigger) => trigger === run.trigger) })
  const parsed = parsePipeline(source.yaml, { file: `${run.path}.yml` })
  if ('problems' in parsed) return parsed
  const { pipeline } = parsed
  const planned = planRun(pipeline)
  await refuseWithoutFeature(tx, run.tenantId, planned)
  const surroundings = await readSurroundings(tx, run.tenantId, run.environment ?? null)
  const parameters = parameterValues(pipeline, {
    ...surroundings.valuesFor(pipeline),
    ...declaredOf(pipeline, run.offered ?? {}),
    ...run.parameters,
  })
  const steps = planned.map((step) => (credential === undefined ? surroundings.stepIn(step) : { ...step, credential }))
  return { source, pipeline, parameters, steps }
}

const startWith = (tx: Tx, parent: Claim | undefined, run: LedgerRun): ReturnType<typeof startChild> =>
  parent ? startChild(tx, parent, run) : startInLedger(tx, run)

// A group without a name is the pipeline itself.
async function groupOf(
  tx: Tx,
  pipeline: Pipeline,
  run: NewRun,
  parameters: Values,
  runId: string,
): Promise<Concurrency | null> {
  if (!pipeline.concurrency) return null
  const { group = run.path, limit, on_conflict: onConflict } = pipeline.concurrency
  if (findPlaceholders(group).length === 0) return { group, limit, onConflict }
  const values = await valuesNow(tx, pipeline, { ...run, runId, parameters })
  return { group: renderText(group, values), limit, onConflict }
}

/** The values that a run started now would have before its first step. */
export async function valuesNow(
  tx: Tx,
  pipeline: Pipeline,
  run: { tenantId: string; runId: string; trigger: string; parameters: Values },
): Promise<Values> {
  const [row] = await tx
    .select({
      admin_email: tenant.adminEmail,
      company_name: tenant.companyName,
      datetime: sql<string>`to_char(now() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')`,
    })
    .from(tenant)
    .where(eq(tenant.id, run.tenantId))
  if (!row) throw new AppError('TENANT_NOT_ACTIVE', 'This tenant is not active.')
  const { datetime, ...profile } = row
  const builtins = { tenant_id: run.tenantId, run_id: run.runId, trigger: run.trigger, datetime }
  return variableValues({ pipeline, builtins, profile, parameters: run.parameters })
}

const declaredOf = ({ parameters }: Pipeline, offered: Record<string, unknown>): Record<string, unknown> =>
  Object.fromEntries(Object.entries(offered).filter(([name]) => Object.hasOwn(parameters, name)))
