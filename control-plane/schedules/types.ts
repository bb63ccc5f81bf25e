import { type FireState, fireStates, misfires, overlaps } from '../../schema/config/triggers.ts'
import type { TriggerProblem as Problem } from '../../schema/tables/index.ts'
import type { ScheduleRow } from '../../shared/schedules/fire-schedule.ts'
import { builder } from '../graphql/builder.ts'
import { enumOf } from '../graphql/enums.ts'
import { pageArgs } from '../graphql/page.ts'
import { Pipeline } from '../pipelines/graphql.ts'
import { findRun } from '../runs/read-runs.ts'
import { PipelineRun } from '../runs/types.ts'
import {
  type FireRow,
  type FollowUpRow,
  listFires,
  recentFiles,
  recentFollowUps,
  schedulesOf,
  type SeenFileRow,
  timesAhead,
  type TriggerRow,
  triggersOf,
} from './read-schedules.ts'

const readers = ['schedules:read', 'schedules:write', 'runs:write'] as const

/** What becomes of missed slots. */
export const MisfirePolicy = enumOf('MisfirePolicy', 'What is made up for after an outage.', misfires, {
  skip: 'Nothing: a time more than five minutes ago is passed over.',
  latest: 'The last time that was missed.',
  all: 'All times that were missed, the last `catchupMax` of them.',
})
/** What a slot does while a run of its schedule is unfinished. */
export const OverlapPolicy = enumOf(
  'OverlapPolicy',
  'What a time does while a run before it is unfinished.',
  overlaps,
  {
    allow: 'It starts its run as well.',
    skip: 'It is passed over.',
    queue: 'It waits for the end of that run; one waits at most, and further ones are passed over.',
  },
)
const ScheduleSource = enumOf('ScheduleSource', 'Who says when a pipeline starts.', ['yaml', 'api'], {
  yaml: 'The pipeline’s own file.',
  api: 'A call of `upsertSchedule`.',
})
const FireStateEnum = enumOf('FireState', 'What became of a time of a schedule.', fireStates, {
  started: 'It has its run.',
  waiting: 'It waits for the end of the run before it.',
  skipped: 'It was passed over for the run before it, or for another of its group.',
  missed: 'Nothing was there to fire it, and its policy makes nothing up for it.',
  refused: 'Its run could not start.',
} satisfies Record<FireState, string>)
const FireSource = enumOf('FireSource', 'Who brought a fire.', ['schedule', 'manual'], {
  schedule: 'Its time came.',
  manual: 'Somebody asked for it.',
})

/** Why a trigger started no run. */
export const TriggerProblem = builder.objectRef<Problem>('TriggerProblem').implement({
  description: 'Why a trigger started no run.',
  fields: (t) => ({
    code: t.exposeString('code', { description: 'What went wrong, from the list of error codes.' }),
    message: t.exposeString('message', { description: 'The same in words, for people.' }),
    hint: t.string({ nullable: true, description: 'What to do about it.', resolve: ({ hint }) => hint }),
  }),
})

/** What became of a time of a schedule. */
export const ScheduleFire = builder.objectRef<FireRow>('ScheduleFire').implement({
  description: 'What became of one time of a schedule.',
  authScopes: { scope: readers },
  fields: (t) => ({
    fireAt: t.field({
      type: 'DateTime',
      description: 'The time that it stands for; of a manual one, when it was asked for.',
      resolve: (row) => row.fireAt,
    }),
    source: t.field({ type: FireSource, description: 'Who brought it.', resolve: (row) => row.source }),
    state: t.field({ type: FireStateEnum, description: 'What became of it.', resolve: (row) => row.state }),
    at: t.field({ type: 'DateTime', description: 'When that was decided.', resolve: (row) => row.at }),
    run: t.field({
      type: PipelineRun,
      nullable: true,
      description: 'Its run.',
      authScopes: { scope: ['runs:read', 'runs:write'] },
      resolve: (row, _args, context) => (row.runId === null ? null : findRun(context, row.runId)),
    }),
    problem: t.field({
      type: TriggerProblem,
      nullable: true,
      description: 'Why it has none.',
      resolve: (row) => row.problem,
    }),
  }),
})
const ScheduleFireConnection = builder.connectionObject(
  { type: ScheduleFire, name: 'ScheduleFireConnection', description: 'A page of fires.' },
  { name: 'ScheduleFireEdge', description: 'A fire and its place in the list.' },
)

/** When a pipeline starts by itself. */
export const Schedule = builder.objectRef<ScheduleRow>('Schedule').implement({
  description: 'When a pipeline starts by itself.',
  authScopes: { scope: readers },
  fields: (t) => ({
    id: t.exposeID('id', { description: 'Begins with `sch_`.' }),
    pipelinePath: t.exposeString('pipeline', { description: 'Path of its pipeline.' }),
    name: t.exposeString('name', { description: 'Its name, unique for the pipeline; `yaml` is that of the file.' }),
    source: t.field({ type: ScheduleSource, description: 'Who says it.', resolve: (row) => row.source }),
    cron: t.exposeString('cron', { description: 'Minute, hour, day, month, weekday.' }),
    timezone: t.exposeString('timezone', { description: 'The zone in which these are read.' }),
    parameters: t.field({ type: 'JSON', description: 'What its runs are given.', resolve: (row) => row.parameters }),
    environment: t.exposeString('environment', {
      nullable: true,
      description: 'The environment of the tenant whose values its runs take.',
    }),
    misfire: t.field({
      type: MisfirePolicy,
      description: 'What is made up for after an outage.',
      resolve: (row) => row.misfire,
    }),
    catchupMax: t.exposeInt('catchupMax', { description: 'How many times `ALL` makes up for at most.' }),
    overlap: t.field({
      type: OverlapPolicy,
      description: 'What a time does while a run before it is unfinished.',
      resolve: (row) => row.overlap,
    }),
    isPaused: t.boolean({ description: 'Whether it fires at all.', resolve: (row) => row.pausedAt !== null }),
    pausedBy: t.exposeString('pausedBy', {
      nullable: true,
      description: 'Who paused it; `system:schedules` after ten failures of configuration in a row.',
    }),
    pausedAt: t.field({
      type: 'DateTime',
      nullable: true,
      description: 'When it was paused.',
      resolve: (row) => row.pausedAt,
    }),
    nextFireAt: t.field({
      type: 'DateTime',
      nullable: true,
      description: 'When it fires next; null while it is paused.',
      resolve: (row) => row.nextFireAt,
    }),
    nextFireTimes: t.field({
      type: ['DateTime'],
      description: 'When it fires next, in order; none while it is paused.',
      args: { first: t.arg.int({ description: 'How many times, 1 to 50.', defaultValue: 10 }) },
      resolve: (row, { first }) => timesAhead(row, first ?? 10),
    }),
    waitingFireAt: t.field({
      type: 'DateTime',
      nullable: true,
      description: 'The time that waits for the end of the run before it.',
      resolve: (row) => row.waitingFireAt,
    }),
    failures: t.exposeInt('failures', { description: 'Times in a row that its configuration kept from starting.' }),
    problem: t.field({
      type: TriggerProblem,
      nullable: true,
      description: 'Why the last time started no run.',
      resolve: (row) => row.problem,
    }),
    version: t.exposeInt('version', { description: 'Grows with every change.' }),
    createdBy: t.exposeString('createdBy', { description: 'Who made it.' }),
    createdAt: t.field({ type: 'DateTime', description: 'When it was made.', resolve: (row) => row.createdAt }),
    updatedAt: t.field({ type: 'DateTime', description: 'When it was changed.', resolve: (row) => row.updatedAt }),
    fires: t.field({
      type: ScheduleFireConnection,
      description: 'What became of its times, latest first; kept for 90 days.',
      args: pageArgs,
      resolve: (row, args, context) => listFires(context, row.id, args),
    }),
  }),
})

/** A page of schedules. */
export const ScheduleConnection = builder.connectionObject(
  { type: Schedule, name: 'ScheduleConnection', description: 'A page of schedules.' },
  { name: 'ScheduleEdge', description: 'A schedule and its place in the list.' },
)

const TriggerKind = enumOf('TriggerKind', 'What a trigger waits for.', ['file', 'pipeline'], {
  file: 'A file that arrives.',
  pipeline: 'A run of another pipeline that succeeds.',
})
const StartStateEnum = enumOf(
  'TriggerState',
  'What became of a file or of the end of a run.',
  ['pending', 'started', 'refused'],
  {
    pending: 'It has not counted yet, or its run waits for room.',
    started: 'It has its run.',
    refused: 'Its run could not start.',
  },
)

const SeenFile = builder.objectRef<SeenFileRow>('SeenFile').implement({
  description: 'A file that a trigger saw.',
  fields: (t) => ({
    name: t.exposeString('name', { description: 'Its name in the folder.' }),
    size: t.field({ type: 'BigInt', description: 'Its bytes.', resolve: (row) => row.size }),
    modifiedAt: t.field({ type: 'DateTime', description: 'When it was written.', resolve: (row) => row.modifiedAt }),
    firstSeenAt: t.field({ type: 'DateTime', description: 'When it was seen so.', resolve: (row) => row.firstSeenAt }),
    state: t.field({ type: StartStateEnum, description: 'What became of it.', resolve: (row) => row.state }),
    run: t.field({
      type: PipelineRun,
      nullable: true,
      description: 'Its run.',
      authScopes: { scope: ['runs:read', 'runs:write'] },
      resolve: (row, _args, context) => (row.runId === null ? null : findRun(context, row.runId)),
    }),
    problem: t.field({
      type: TriggerProblem,
      nullable: true,
      description: 'Why it has none.',
      resolve: (row) => row.problem,
    }),
  }),
})

const FollowUp = builder.objectRef<FollowUpRow>('FollowUp').implement({
  description: 'A run that succeeded, and the run that followed it.',
  fields: (t) => ({
    state: t.field({ type: StartStateEnum, description: 'What became of it.', resolve: (row) => row.state }),
    upstream: t.field({
      type: PipelineRun,
      nullable: true,
      description: 'The run that succeeded.',
      authScopes: { scope: ['runs:read', 'runs:write'] },
      resolve: (row, _args, context) => findRun(context, row.runId),
    }),
    run: t.field({
      type: PipelineRun,
      nullable: true,
      description: 'The run that followed.',
      authScopes: { scope: ['runs:read', 'runs:write'] },
      resolve: (row, _args, context) => (row.followerRun === null ? null : findRun(context, row.followerRun)),
    }),
    attempts: t.exposeInt('attempts', { description: 'Starts that were refused.' }),
    problem: t.field({
      type: TriggerProblem,
      nullable: true,
      description: 'Why the last start was refused.',
      resolve: (row) => row.problem,
    }),
    createdAt: t.field({ type: 'DateTime', description: 'When the run succeeded.', resolve: (row) => row.createdAt }),
  }),
})

const recentArgs = builder.args((t) => ({
  first: t.int({ description: 'How many, 1 to 50.', defaultValue: 10 }),
}))
const atMost = (first: number | null | undefined): number => Math.max(1, Math.min(50, first ?? 10))

const PipelineTrigger = builder.objectRef<TriggerRow>('PipelineTrigger').implement({
  description: 'What a pipeline’s file says under `triggers`.',
  authScopes: { scope: readers },
  fields: (t) => ({
    id: t.exposeID('id', { description: 'Begins with `trg_`.' }),
    on: t.field({ type: TriggerKind, description: 'What it waits for.', resolve: (row) => row.kind }),
    settings: t.field({ type: 'JSON', description: 'As the file has it.', resolve: (row) => row.settings }),
    lookedAt: t.field({
      type: 'DateTime',
      nullable: true,
      description: 'When the folder was looked at last.',
      resolve: (row) => row.lookedAt,
    }),
    nextLookAt: t.field({
      type: 'DateTime',
      nullable: true,
      description: 'When it is looked at next.',
      resolve: (row) => (row.kind === 'file' ? row.nextLookAt : null),
    }),
    failures: t.exposeInt('failures', { description: 'Looks in a row that failed; each waits longer than the last.' }),
    problem: t.field({
      type: TriggerProblem,
      nullable: true,
      description: 'Why the last look failed, or its run was refused.',
      resolve: (row) => row.problem,
    }),
    recentFiles: t.field({
      type: [SeenFile],
      description: 'The files that it saw last, newest first.',
      args: recentArgs,
      resolve: (row, { first }, context) => recentFiles(context, row.id, atMost(first)),
    }),
    recentFollowUps: t.field({
      type: [FollowUp],
      description: 'The runs that it followed last, newest first.',
      args: recentArgs,
      resolve: (row, { first }, context) => recentFollowUps(context, row.id, atMost(first)),
    }),
  }),
})

builder.objectFields(Pipeline, (t) => ({
  schedules: t.field({
    type: [Schedule],
    description: 'When it starts by itself, by name.',
    authScopes: { scope: readers },
    resolve: (row, _args, context) => schedulesOf(context, row.path),
  }),
  triggers: t.field({
    type: [PipelineTrigger],
    description: 'What else starts it.',
    authScopes: { scope: readers },
    resolve: (row, _args, context) => triggersOf(context, row.path),
  }),
}))
