import { newId } from '../../shared/ids.ts'
import type { NewRun } from '../../shared/runs/ledger.ts'
import type { PlannedStep } from '../../shared/runs/plan.ts'

/** A step of no processor of the product: of the queue `ingest`, tried once, waiting for nothing, unless said otherwise. */
export const plannedStep = (key: string, more: Partial<PlannedStep> = {}): PlannedStep => ({
  key,
  position: 0,
  ps_type: 'test.any',
  queue: 'ingest',
  trigger: 'on_success',
  needs: [],
  max_attempts: 1,
  backoff_ms: 1,
  backoff_cap_ms: 1,
  timeout_ms: 60_000,
  allow_failure: false,
  settings: {},
  ...more,
})

/** A new run of these steps as somebody with a key asks for it, without a deadline, unless said otherwise. */
export const plannedRun = (pipelineId: string, steps: PlannedStep[], more: Partial<NewRun> = {}): NewRun => ({
  runId: newId('run'),
  pipelineId,
  pipelineVersion: 1,
  trigger: 'manual',
  idempotencyKey: null,
  inputHash: null,
  parameters: {},
  timeoutMs: null,
  requestedBy: 'key:test',
  requestId: null,
  steps,
  ...more,
})
