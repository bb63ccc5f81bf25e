import { logLevels } from '../../schema/states.ts'
import type { StepError, StepProgress } from '../../schema/tables/index.ts'
import { builder } from '../graphql/builder.ts'
import { LogLevel, QueueType, RunState, StepState, StepTrigger } from '../graphql/enums.ts'
import { pageArgs } from '../graphql/page.ts'
import { Pipeline } from '../pipelines/graphql.ts'
import { eventMessage, eventTypes } from './event-message.ts'
import { percentOf } from './percent-of.ts'
import { cursorOf, type TenantEventRow } from './watch-tenant.ts'
import type { DeadLetterRow } from './dead-letters.ts'
import type { RunPlan as RunPlanRow, RunPlanStep as RunPlanStepRow } from './plan-run.ts'
import { type EventRow, listEvents } from './read-events.ts'
import { pipelineOf, type RunRow, type StepRow, stepsOf } from './read-runs.ts'
import { keyOfCaller } from './start-run.ts'

const readers = ['runs:read', 'runs:write'] as const

const RunError = builder.objectRef<StepError & { step?: string }>('RunError').implement({
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

const RunStep = builder.objectRef<StepRow>('RunStep').implement({
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

/** A failed step that nobody has run again or discarded. */
export const DeadLetter = builder.objectRef<DeadLetterRow>('DeadLetter').implement({
  description: 'A failed step that nobody has run again or discarded.',
  authScopes: { scope: readers },
  fields: (t) => ({
    runId: t.id({ description: 'Its run.', resolve: (row) => row.step.runId }),
    pipelinePath: t.exposeString('pipelinePath', { description: 'Path of the pipeline of its run.' }),
    step: t.field({ type: RunStep, description: 'The step.', resolve: (row) => row.step }),
  }),
})

/** A page of dead letters. */
export const DeadLetterConnection = builder.connectionObject(
  { type: DeadLetter, name: 'DeadLetterConnection', description: 'A page of dead letters.' },
  { name: 'DeadLetterEdge', description: 'A dead letter and its place in the list.' },
)

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

/** Something that happened in a run. */
export const RunEvent = builder.objectRef<EventRow>('RunEvent').implement({
  description: 'Something that happened in a run.',
  fields: (t) => ({
    seq: t.exposeInt('seq', { description: 'Its number in the run, from 1 without gaps: resume after it.' }),
    at: t.field({ type: 'DateTime', description: 'When it happened.', resolve: (row) => row.at }),
    type: t.exposeString('type', {
      description: `What happened: ${eventTypes.slice(0, -1).join(', ')} or ${eventTypes.at(-1)}.`,
    }),
    stepKey: t.exposeString('stepKey', { nullable: true, description: 'The step, if it concerns one.' }),
    data: t.field({ type: 'JSON', nullable: true, description: 'Its figures.', resolve: (row) => row.data }),
    message: t.string({ description: 'The same in one sentence, for people.', resolve: eventMessage }),
  }),
})

/** An event and its place among all of the tenant. */
export const TenantEvent = builder.objectRef<TenantEventRow>('TenantEvent').implement({
  description: 'Something that happened in one of the runs of a tenant.',
  fields: (t) => ({
    cursor: t.string({ description: 'Its place: resume after it.', resolve: cursorOf }),
    runId: t.exposeID('runId', { description: 'The run.' }),
    event: t.field({ type: RunEvent, description: 'What happened in it.', resolve: (row) => row }),
  }),
})

const LogLine = builder.objectRef<EventRow>('LogLine').implement({
  description: 'A line that a step wrote.',
  fields: (t) => ({
    seq: t.exposeInt('seq', { description: 'Its number among the events of the run.' }),
    at: t.field({ type: 'DateTime', description: 'When it was written.', resolve: (row) => row.at }),
    stepKey: t.exposeString('stepKey', { nullable: true, description: 'The step that wrote it.' }),
    level: t.field({
      type: LogLevel,
      description: 'Its level.',
      resolve: ({ data }) => logLevels.find((level) => level === data?.['level']) ?? 'info',
    }),
    message: t.string({ description: 'The line.', resolve: ({ data }) => String(data?.['message'] ?? '') }),
  }),
})

const RunEventConnection = builder.connectionObject(
  { type: RunEvent, name: 'RunEventConnection', description: 'A page of events.' },
  { name: 'RunEventEdge', description: 'An event and its place in the list.' },
)
/** A page of log lines. */
export const LogLineConnection = builder.connectionObject(
  { type: LogLine, name: 'LogLineConnection', description: 'A page of log lines.' },
  { name: 'LogLineEdge', description: 'A log line and its place in the list.' },
)

/** One execution of a pipeline. */
export const PipelineRun = builder.objectRef<RunRow>('PipelineRun').implement({
  description: 'One execution of a pipeline.',
  authScopes: { scope: readers },
  fields: (t) => ({
    id: t.exposeID('runId', { description: 'Begins with `run_`.' }),
    state: t.field({ type: RunState, description: 'How it stands.', resolve: (row) => row.state }),
    pipelinePath: t.exposeString('pipelinePath', { description: 'Path of its pipeline.' }),
    pipelineVersion: t.exposeInt('pipelineVersion', { description: 'The version that it ran.' }),
    pipeline: t.field({
      type: Pipeline,
      description: 'Its pipeline as it is now.',
      authScopes: { scope: 'pipelines:read' },
      resolve: (row, _args, context) => pipelineOf(context, row),
    }),
    trigger: t.exposeString('triggerKind', {
      description:
        'What started it: manual, schedule, backfill, file, webhook, pipeline, step; or provision, check, activate, offboard for the platform’s own.',
    }),
    parameters: t.field({ type: 'JSON', description: 'What it was given.', resolve: (row) => row.parameters }),
    environment: t.exposeString('environment', {
      nullable: true,
      description: 'The environment of the tenant whose values it took.',
    }),
    priority: t.exposeInt('priority', { description: 'Runs of a higher one are served first. 0 is usual.' }),
    isWaiting: t.exposeBoolean('waiting', { description: 'Whether it waits for a place in its group.' }),
    concurrencyGroup: t.exposeString('concurrencyGroup', {
      nullable: true,
      description: 'The group whose runs count together.',
    }),
    parentRunId: t.id({
      nullable: true,
      description: 'The run whose step started it.',
      resolve: (row) => row.parentRunId,
    }),
    idempotencyKey: t.string({
      nullable: true,
      description: 'The caller’s key for it.',
      resolve: (row) => keyOfCaller(row.idempotencyKey),
    }),
    requestedBy: t.exposeString('requestedBy', { description: 'Who started it.' }),
    cancelReason: t.exposeString('cancelReason', { nullable: true, description: 'Why it was asked to stop.' }),
    error: t.field({
      type: RunError,
      nullable: true,
      description: 'The first failure that counts against it.',
      resolve: (row) => row.error,
    }),
    timeoutMs: t.field({
      type: 'BigInt',
      nullable: true,
      description: 'Longest time that it may take; null without a limit.',
      resolve: (row) => row.timeoutMs,
    }),
    createdAt: t.field({ type: 'DateTime', description: 'When it was asked for.', resolve: (row) => row.createdAt }),
    startedAt: t.field({
      type: 'DateTime',
      nullable: true,
      description: 'When its first step began.',
      resolve: (row) => row.startedAt,
    }),
    finishedAt: t.field({
      type: 'DateTime',
      nullable: true,
      description: 'When it ended.',
      resolve: (row) => row.finishedAt,
    }),
    durationMs: t.field({
      type: 'BigInt',
      nullable: true,
      description: 'From its first step to its end; null before that.',
      resolve: (row) => (row.startedAt && row.finishedAt ? row.finishedAt.getTime() - row.startedAt.getTime() : null),
    }),
    steps: t.field({
      type: [RunStep],
      description: 'Its steps in the order of the pipeline, children after the step that made them; at most 5,000.',
      resolve: (row, _args, context) => stepsOf(context, row.runId),
    }),
    events: t.field({
      type: RunEventConnection,
      description: 'What happened in it, in order.',
      args: pageArgs,
      resolve: (row, args, context) => listEvents(context, row.runId, args, { kind: 'events' }),
    }),
    logs: t.field({
      type: LogLineConnection,
      description: 'What its steps wrote, in order.',
      args: {
        ...pageArgs,
        stepKey: t.arg.string({ description: 'Lines of this step only.' }),
        level: t.arg({ type: LogLevel, description: 'Lines of this level or worse; default: all.' }),
      },
      resolve: (row, { stepKey, level, ...args }, context) =>
        listEvents(context, row.runId, args, { kind: 'logs', stepKey, level }),
    }),
  }),
})

/** A page of runs. */
export const PipelineRunConnection = builder.connectionObject(
  { type: PipelineRun, name: 'PipelineRunConnection', description: 'A page of runs.' },
  { name: 'PipelineRunEdge', description: 'A run and its place in the list.' },
)
