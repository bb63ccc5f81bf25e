import { builder } from '../graphql/builder.ts'
import { LogLevel, RunState } from '../graphql/enums.ts'
import { pageArgs } from '../graphql/page.ts'
import { Pipeline } from '../pipelines/graphql.ts'
import type { DeadLetterRow } from './dead-letters.ts'
import { LogLineConnection, RunEventConnection } from './event-types.ts'
import { listEvents } from './read-events.ts'
import { pipelineOf, type RunRow, stepsOf } from './read-runs.ts'
import { keyOfCaller } from './start-run.ts'
import { readers, RunError, RunStep } from './step-types.ts'

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
