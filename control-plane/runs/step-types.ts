import type { StepError, StepProgress } from '../../schema/tables/index.ts'
import { builder } from '../graphql/builder.ts'
import { QueueType, StepState, StepTrigger } from '../graphql/enums.ts'
import { percentOf } from './percent-of.ts'
import type { StepRow } from './read-runs.ts'
import type { RunPlan as RunPlanRow, RunPlanStep as RunPlanStepRow } from './plan-run.ts'

/** Who may read runs and their steps. */
export const readers = ['runs:read', 'runs:write'] as const

/** Why a step or a run failed. */
export const RunError = builder.objectRef<StepError & { step?: string }>('RunError').implement({
  description: 'Why a step or a run failed.',
  fields: (t) => ({
    code: t.exposeString('code', { description: 'What went wrong, from the list of error codes.' }),
    message: t.exposeString('message', { description: 'The same in words, for people.' }),
    hint: t.string({ nullable: true, description: 'What to do about it.', resolve: (row) => row.hint }),
    stepKey: t.string({ nullable: true, description: 'The step that failed.', resolve: (row) => row.step }),
  }),
})

const Progress = builder.objectRef<StepProgress>('Progress').implement({
  description: 'How far a step is.',
  fields: (t) => ({
    done: t.field({ type: 'BigInt', description: 'What is done.', resolve: (row) => row.done }),
    total: t.field({
      type: 'BigInt',
      nullable: true,
      description: 'What there is; null when it cannot be known.',
      resolve: (row) => row.total,
    }),
    percent: t.int({
      nullable: true,
      description:
        'done of total in percent, rounded down: 100 when all is done; null when total is not known or too low.',
      resolve: percentOf,
    }),
    unit: t.exposeString('unit', { description: 'rows, bytes or files.' }),
    note: t.string({ nullable: true, description: 'What it is doing.', resolve: (row) => row.note }),
  }),
})

/** A step of a run. */
export const RunStep = builder.objectRef<StepRow>('RunStep').implement({
  description: 'A step of a run.',
  authScopes: { scope: readers },
  fields: (t) => ({
    key: t.exposeString('stepKey', { description: 'Its `step_id`, unique in the run.' }),
    position: t.exposeInt('position', { description: 'Its place in the pipeline, from 0.' }),
    type: t.exposeString('psType', { description: 'Its processor, `ps_type`.' }),
    queue: t.field({ type: QueueType, description: 'The queue that it goes through.', resolve: (row) => row.queue }),
    state: t.field({ type: StepState, description: 'How it stands.', resolve: (row) => row.state }),
    trigger: t.field({ type: StepTrigger, description: 'When it starts.', resolve: (row) => row.triggerRule }),
    needs: t.exposeStringList('needs', { description: 'Steps that it waits for.' }),
    attempt: t.exposeInt('attempt', { description: 'Which try it is in, from 1; 0 before the first.' }),
    maxAttempts: t.exposeInt('maxAttempts', { description: 'Tries in all.' }),
    timeoutMs: t.field({ type: 'BigInt', description: 'Longest time of one try.', resolve: (row) => row.timeoutMs }),
    allowFailure: t.exposeBoolean('allowFailure', { description: 'Whether the run goes on when it fails.' }),
    credential: t.exposeString('credential', { nullable: true, description: 'Name of the credential that it opens.' }),
    parentStep: t.exposeString('parentStep', {
      nullable: true,
      description: 'The step with `for_each` whose child it is.',
    }),
    item: t.field({
      type: 'JSON',
      nullable: true,
      description: 'What this child works on: `{item}`.',
      resolve: (row) => row.item,
    }),
    childRunId: t.id({
      nullable: true,
      description: 'The run that it started and waits for, or waited for.',
      resolve: (row) => row.childRun,
    }),
    discardedAt: t.field({
      type: 'DateTime',
      nullable: true,
      description: 'When it was taken off the list of dead letters.',
      resolve: (row) => row.discardedAt,
    }),
    progress: t.field({
      type: Progress,
      nullable: true,
      description: 'How far it is.',
      resolve: (row) => row.progress,
    }),
    outputs: t.field({
      type: 'JSON',
      nullable: true,
      description: 'What it left for later steps: `{steps.<key>.<name>}`.',
      resolve: (row) => row.result,
    }),
    error: t.field({
      type: RunError,
      nullable: true,
      description: 'Why its last try failed.',
      resolve: (row) => row.error && { ...row.error, step: row.stepKey },
    }),
    readyAt: t.field({
      type: 'DateTime',
      nullable: true,
      description: 'From when on a worker may take it.',
      resolve: (row) => row.readyAt,
    }),
    startedAt: t.field({
      type: 'DateTime',
      nullable: true,
      description: 'When its first try began.',
      resolve: (row) => row.startedAt,
    }),
    finishedAt: t.field({
      type: 'DateTime',
      nullable: true,
      description: 'When it ended.',
      resolve: (row) => row.finishedAt,
    }),
  }),
})

const RunPlanStep = builder.objectRef<RunPlanStepRow>('RunPlanStep').implement({
  description: 'A step as it would run.',
  fields: (t) => ({
    key: t.exposeString('key', { description: 'Its `step_id`.' }),
    type: t.exposeString('ps_type', { description: 'Its processor, `ps_type`.' }),
    queue: t.field({
      type: QueueType,
      description: 'The queue that it would go through.',
      resolve: (row) => row.queue,
    }),
    trigger: t.field({ type: StepTrigger, description: 'When it would start.', resolve: (row) => row.trigger }),
    needs: t.exposeStringList('needs', { description: 'Steps that it would wait for.' }),
    maxAttempts: t.exposeInt('max_attempts', { description: 'Tries in all.' }),
    timeoutMs: t.field({ type: 'BigInt', description: 'Longest time of one try.', resolve: (row) => row.timeout_ms }),
    settings: t.field({
      type: 'JSON',
      description: 'Its settings, filled in as far as they can be before the first step; SQL as written.',
      resolve: (row) => row.settings,
    }),
    credential: t.string({
      nullable: true,
      description: 'Name of the credential that it would open.',
      resolve: (row) => row.credential,
    }),
    hasCredential: t.exposeBoolean('hasCredential', {
      nullable: true,
      description: 'Whether the credential that it needs is there; null when it needs none.',
    }),
  }),
})

/** What a run would be. */
export const RunPlan = builder.objectRef<RunPlanRow>('RunPlan').implement({
  description: 'What a run would be; nothing is written or started for it.',
  fields: (t) => ({
    parameters: t.field({
      type: 'JSON',
      description: 'Its parameters, defaults filled in.',
      resolve: (row) => row.parameters,
    }),
    steps: t.field({
      type: [RunPlanStep],
      description: 'Its steps in the order of the pipeline.',
      resolve: (row) => row.steps,
    }),
  }),
})
