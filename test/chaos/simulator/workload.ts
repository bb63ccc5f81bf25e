import { newId } from '../../../shared/ids.ts'
import type { Concurrency, NewRun } from '../../../shared/runs/ledger.ts'
import type { PlannedStep } from '../../../shared/runs/plan.ts'
import type { Random } from './random.ts'
import { plannedRun, plannedStep } from '../../support/runs.ts'

/** What a step does when a worker has it: the same each time, so that the end of a run can be known. */
export type Outcome = 'succeed' | 'fail' | 'fail_once' | { items: number } | { child: NewRun }

/** A run that an operator wants, and what becomes of its steps. */
export type WantedRun = { run: NewRun; startAfterMs: number; isCancelled: boolean }

/** Everything that a simulation does to one tenant. */
export type Workload = { runs: WantedRun[]; outcomes: Map<string, Outcome> }

/** The key of a step over all runs. */
export const stepName = (runId: string, stepKey: string): string => `${runId}/${stepKey}`

/** Runs with random graphs, triggers, groups, fan-out and runs inside runs, for one tenant. */
export function workload(random: Random, tenant: { pipelineId: string }): Workload {
  const outcomes = new Map<string, Outcome>()
  const runs: WantedRun[] = []
  // Not the same mixture each time: what takes many cancels, or many groups, is rare where everything is as likely.
  const habits = {
    cancel: random.pick([0.05, 0.2, 0.6]),
    group: random.pick([0.2, 0.5, 1]),
    fail: random.pick([0.1, 0.5]),
  }
  for (let i = random.whole(2, 3); i > 0; i--)
    runs.push({
      run: newRun(random, tenant.pipelineId, outcomes, 0, habits),
      startAfterMs: random.whole(0, 2_000),
      isCancelled: random.chance(habits.cancel),
    })
  return { runs, outcomes }
}

type Habits = { cancel: number; group: number; fail: number }

function newRun(
  random: Random,
  pipelineId: string,
  outcomes: Map<string, Outcome>,
  depth: number,
  habits: Habits,
): NewRun {
  const runId = newId('run')
  const steps: PlannedStep[] = []
  const count = random.whole(1, depth === 0 ? 4 : 2)
  for (let position = 0; position < count; position++) {
    const key = `s${position}`
    const needs = steps.filter(() => random.chance(0.45)).map((step) => step.key)
    const dice = random.next()
    const trigger = needs.length === 0 || dice < 0.7 ? 'on_success' : dice < 0.85 ? 'on_failure' : 'always'
    const outcome = outcomeOf(random, pipelineId, outcomes, depth, habits)
    outcomes.set(stepName(runId, key), outcome)
    steps.push(
      plannedStep(key, {
        position,
        queue: random.pick(['ingest', 'transform', 'export', 'delivery']),
        trigger,
        needs,
        max_attempts: 2,
        backoff_ms: 50,
        backoff_cap_ms: 200,
        timeout_ms: 600_000,
        allow_failure: random.chance(0.15),
        ...(typeof outcome === 'object' && 'items' in outcome ? { for_each: '{items}' } : {}),
      }),
    )
  }
  const once = depth === 0 ? { idempotencyKey: `once ${runId}`, inputHash: 'same' } : {}
  return plannedRun(pipelineId, steps, {
    runId,
    ...once,
    priority: random.whole(-1, 1),
    concurrency: depth === 0 && random.chance(habits.group) ? groupOf(random) : null,
  })
}

const groupOf = (random: Random): Concurrency => ({
  group: 'g',
  limit: 1,
  onConflict: random.chance(0.8) ? 'queue' : 'cancel_running',
})

function outcomeOf(
  random: Random,
  pipelineId: string,
  outcomes: Map<string, Outcome>,
  depth: number,
  habits: Habits,
): Outcome {
  if (random.chance(habits.fail)) return random.pick(['fail', 'fail_once'])
  const dice = random.next()
  if (dice < 0.8) return 'succeed'
  if (dice < 0.9) return { items: random.whole(0, 3) }
  return depth === 0 ? { child: newRun(random, pipelineId, outcomes, 1, habits) } : 'succeed'
}
