import { durationMs } from '../../schema/config/duration.ts'
import { type Pipeline, type PipelineStep, type Retry, retryShape } from '../../schema/config/pipeline.ts'
import type { QueueType, StepTrigger } from '../../schema/states.ts'
import { type Catalog, catalog as builtCatalog } from '../config/catalog.ts'
import { notifyKeys } from '../config/check-steps.ts'
import { stepNeeds } from '../config/needs.ts'
import { stepSettings } from '../config/parse.ts'
import { AppError } from '../errors.ts'

/** A step as the ledger takes it. Names are those of its columns. */
export type PlannedStep = {
  key: string
  /** From 0, in the order of the file. */
  position: number
  ps_type: string
  queue: QueueType
  trigger: StepTrigger
  /** Steps that must have ended before it. */
  needs: string[]
  /** Tries in all. */
  max_attempts: number
  /** Wait before the second try; it doubles from try to try up to the cap, and half of it is left to chance. */
  backoff_ms: number
  backoff_cap_ms: number
  /** Longest time of one try. */
  timeout_ms: number
  /** True when its failure does not fail the run. */
  allow_failure: boolean
  /** The processor's settings, placeholders unresolved. */
  settings: Record<string, unknown>
  credential?: string
  /** The list, or the placeholder of one, over whose items the step fans out. */
  for_each?: unknown
}

const stepTimeoutMs = 3_600_000
const mailType = 'notify_systems.email_notification'
// The steps of a run have tries of their own: to start it again for a failure of one is what a step must ask for.
const runType = 'pipeline.run'
const runTimeoutMax = 24 * 3_600_000
const often = retryShape.parse({})
const once = retryShape.parse({ attempts: 1 })

/**
 * The steps of a run, in the order of the file, with what `notify` adds at the end. Defaults: 3 tries, exponential waits
 * from 5 s to 5 min, 1 h a try; `pipeline.run` one try of at most a day. Throws CONFIG_INVALID for a `ps_type` that `catalog` (default: this build) does not have.
 */
export function planRun(pipeline: Pipeline, catalog: Catalog = builtCatalog): PlannedStep[] {
  const needs = stepNeeds(pipeline.steps)
  const queueOf = (type: string): QueueType => {
    const entry = catalog.find((candidate) => candidate.type === type)
    if (!entry) throw new AppError('CONFIG_INVALID', `"${type}" is no processor of this deployment.`)
    return entry.queue
  }
  const planned = pipeline.steps.map((step, position): PlannedStep => ({
    key: step.step_id,
    position,
    ps_type: step.ps_type,
    queue: queueOf(step.ps_type),
    trigger: step.trigger,
    needs: needs.get(step.step_id) ?? [],
    ...attempts(step.retry ?? (step.ps_type === runType ? once : (pipeline.defaults.retry ?? pipeline.retry ?? often))),
    timeout_ms: timeoutMs(step, pipeline),
    allow_failure: (step.on_error ?? pipeline.defaults.on_error ?? 'fail') === 'continue',
    settings: stepSettings(step),
    ...(step.for_each === undefined ? {} : { for_each: step.for_each }),
    ...(step.credential === undefined ? {} : { credential: step.credential }),
  }))
  return [
    ...planned,
    ...mails(pipeline).map((mail, index) => ({ ...mail, position: planned.length + index, queue: queueOf(mailType) })),
  ]
}

/** Longest time of a whole run in milliseconds; null when the pipeline sets none. */
export function runTimeoutMs(pipeline: Pipeline): number | null {
  return pipeline.timeout === undefined ? null : durationMs(pipeline.timeout)
}

function attempts(retry: Retry): Pick<PlannedStep, 'max_attempts' | 'backoff_ms' | 'backoff_cap_ms'> {
  const initialMs = durationMs(retry.initial)
  const capMs = retry.backoff === 'fixed' ? initialMs : Math.max(initialMs, durationMs(retry.max))
  return { max_attempts: retry.attempts, backoff_ms: initialMs, backoff_cap_ms: capMs }
}

function timeoutMs(step: PipelineStep, pipeline: Pipeline): number {
  const given = step.timeout ?? pipeline.defaults.timeout
  if (given !== undefined) return durationMs(given)
  return step.ps_type === runType ? runTimeoutMax : stepTimeoutMs
}

// A lost mail must not fail a run that did its work: these steps may fail.
function mails(pipeline: Pipeline): Omit<PlannedStep, 'position' | 'queue'>[] {
  const normal = pipeline.steps.filter((step) => step.trigger === 'on_success').map((step) => step.step_id)
  const common = {
    ps_type: mailType,
    needs: normal,
    ...attempts(often),
    timeout_ms: 300_000,
    allow_failure: true,
  }
  const { on_success: done, on_failure: failed } = pipeline.notify ?? {}
  const success = { subject: '{pipeline_id} succeeded', body: 'Run {run_id} of {date} succeeded.' }
  const failure = {
    subject: '{pipeline_id} failed at {failure.step_id}',
    body: 'Run {run_id} of {date} failed at {failure.step_id}: {failure.code}\n{failure.message}',
  }
  return [
    ...(done
      ? [
          {
            ...common,
            key: notifyKeys.on_success,
            trigger: 'on_success' as const,
            settings: { to_emails: done, ...success },
          },
        ]
      : []),
    ...(failed
      ? [
          {
            ...common,
            key: notifyKeys.on_failure,
            trigger: 'on_failure' as const,
            settings: { to_emails: failed, ...failure },
          },
        ]
      : []),
  ]
}
