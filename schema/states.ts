/** Who may move a run, a step or a queue from where to where. The ledger's SQL functions enforce exactly these. */

/** States of a run. Terminal ones never change again. */
export const runStates = ['queued', 'running', 'cancelling', 'succeeded', 'failed', 'cancelled', 'timed_out'] as const
/** A run's state. */
export type RunState = (typeof runStates)[number]

/** States of a step. `failed` is the dead letter: the row stays until it is retried. */
export const stepStates = ['blocked', 'ready', 'running', 'succeeded', 'failed', 'skipped', 'cancelled'] as const
/** A step's state. */
export type StepState = (typeof stepStates)[number]

/** What an operator wants of a tenant's queue: `draining` claims nothing new, `stopped` also gives back what runs. */
export const queueStates = ['running', 'draining', 'stopped'] as const
/** A queue's wanted state. */
export type QueueState = (typeof queueStates)[number]

/** Life of a tenant. Only `active` tenants may start runs. */
export const tenantStates = ['provisioning', 'active', 'suspended', 'offboarded'] as const
/** A tenant's state. */
export type TenantState = (typeof tenantStates)[number]

/** Logical queues, one row of `tenant_queue` per tenant and type. A step's processor says which it belongs to. */
export const queueTypes = ['ingest', 'transform', 'export', 'delivery'] as const
/** A queue type. */
export type QueueType = (typeof queueTypes)[number]

/** When a step starts, judged over the steps it waits for. */
export const stepTriggers = ['on_success', 'on_failure', 'always'] as const
/** A step's trigger. */
export type StepTrigger = (typeof stepTriggers)[number]

/** Levels of what steps write into their log, the least first. */
export const logLevels = ['info', 'warn', 'error'] as const
/** A level of log lines. */
export type LogLevel = (typeof logLevels)[number]

/** Legal moves of a run; the writer is the ledger function named beside it. */
export const runTransitions = [
  { from: 'queued', to: 'running', by: 'claim_steps' },
  { from: 'queued', to: 'cancelling', by: 'cancel_run' },
  { from: 'running', to: 'cancelling', by: 'cancel_run' },
  { from: 'queued', to: 'succeeded', by: 'settle' },
  { from: 'running', to: 'succeeded', by: 'settle' },
  { from: 'running', to: 'failed', by: 'settle' },
  { from: 'cancelling', to: 'cancelled', by: 'settle' },
  { from: 'cancelling', to: 'timed_out', by: 'settle' },
  { from: 'failed', to: 'running', by: 'retry_run' },
  { from: 'cancelled', to: 'running', by: 'retry_run' },
  { from: 'timed_out', to: 'running', by: 'retry_run' },
  { from: 'succeeded', to: 'running', by: 'retry_run' },
] as const satisfies readonly { from: RunState; to: RunState; by: string }[]

/** Legal moves of a step; the writer is the ledger function named beside it. */
export const stepTransitions = [
  { from: 'blocked', to: 'ready', by: 'settle' },
  { from: 'blocked', to: 'skipped', by: 'settle' },
  { from: 'blocked', to: 'cancelled', by: 'settle' },
  { from: 'ready', to: 'running', by: 'claim_steps' },
  { from: 'ready', to: 'cancelled', by: 'cancel_run' },
  { from: 'running', to: 'succeeded', by: 'complete_step' },
  { from: 'running', to: 'ready', by: 'fail_step' },
  { from: 'running', to: 'ready', by: 'release_step' },
  { from: 'running', to: 'failed', by: 'fail_step' },
  { from: 'running', to: 'cancelled', by: 'cancel_step' },
  { from: 'succeeded', to: 'blocked', by: 'retry_run' },
  { from: 'failed', to: 'blocked', by: 'retry_run' },
  { from: 'cancelled', to: 'blocked', by: 'retry_run' },
  { from: 'skipped', to: 'blocked', by: 'retry_run' },
] as const satisfies readonly { from: StepState; to: StepState; by: string }[]
