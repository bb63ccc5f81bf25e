import { backfillStates, backfillSteps } from '../../schema/config/triggers.ts'
import type { BackfillRow } from '../../shared/schedules/run-backfill.ts'
import { builder } from '../graphql/builder.ts'
import { enumOf } from '../graphql/enums.ts'
import { pageArgs } from '../graphql/page.ts'
import { type Refusal, refusalOfProblem, UserError } from '../graphql/user-errors.ts'
import { answerOnce, keyField } from '../idempotency/answer-once.ts'
import { findRun } from '../runs/read-runs.ts'
import { PipelineRun } from '../runs/types.ts'
import { TriggerProblem } from '../schedules/types.ts'
import { cancelBackfill, pauseBackfill, resumeBackfill } from './change-backfill.ts'
import { listBackfills, listSlots, type Progress, progressOf, readBackfill, type SlotRow } from './read-backfills.ts'
import { startBackfill } from './start-backfill.ts'

const BackfillState = enumOf('BackfillState', 'Life of a backfill.', backfillStates, {
  running: 'Its slots are started one after the other.',
  paused: 'No further slot is started.',
  cancelled: 'It was ended.',
  finished: 'All its runs have ended.',
})
const BackfillStep = enumOf('BackfillStep', 'How far apart the slots of a backfill are.', backfillSteps, {
  DAY: 'A slot for each day.',
  WEEK: 'A slot for every seventh day.',
  MONTH: 'A slot for the same day of each month.',
  SCHEDULE: 'The times of a schedule.',
})
const SlotState = enumOf(
  'BackfillSlotState',
  'What became of a slot.',
  ['pending', 'started', 'refused', 'cancelled'],
  {
    pending: 'It waits for its turn.',
    started: 'It has its run.',
    refused: 'Its run could not start.',
    cancelled: 'The backfill was ended before its turn.',
  },
)

const BackfillProgress = builder.objectRef<Progress>('BackfillProgress').implement({
  description: 'Slots of a backfill by what became of them.',
  fields: (t) => ({
    pending: t.exposeInt('pending', { description: 'They wait for their turn.' }),
    active: t.exposeInt('active', { description: 'Their runs are unfinished.' }),
    succeeded: t.exposeInt('succeeded', { description: 'Their runs succeeded.' }),
    failed: t.exposeInt('failed', { description: 'Their runs ended otherwise; each can be retried.' }),
    refused: t.exposeInt('refused', { description: 'Their runs could not start.' }),
    cancelled: t.exposeInt('cancelled', { description: 'The backfill was ended before their turn.' }),
  }),
})

const BackfillSlot = builder.objectRef<SlotRow>('BackfillSlot').implement({
  description: 'One slot of a backfill.',
  fields: (t) => ({
    slotAt: t.field({ type: 'DateTime', description: 'The time that it stands for.', resolve: (row) => row.slotAt }),
    date: t.field({ type: 'Date', description: 'What `{date}` is in its run.', resolve: (row) => row.day }),
    state: t.field({ type: SlotState, description: 'What became of it.', resolve: (row) => row.state }),
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
const BackfillSlotConnection = builder.connectionObject(
  { type: BackfillSlot, name: 'BackfillSlotConnection', description: 'A page of slots.' },
  { name: 'BackfillSlotEdge', description: 'A slot and its place in the list.' },
)

const Backfill = builder.objectRef<BackfillRow>('Backfill').implement({
  description: 'Runs of a pipeline for each slot of a range of days.',
  authScopes: { scope: ['schedules:read', 'schedules:write'] },
  fields: (t) => ({
    id: t.exposeID('id', { description: 'Begins with `bkf_`.' }),
    pipelinePath: t.exposeString('pipeline', { description: 'Path of its pipeline.' }),
    from: t.field({ type: 'Date', description: 'Its first day.', resolve: (row) => row.fromDay }),
    to: t.field({ type: 'Date', description: 'Its last day.', resolve: (row) => row.toDay }),
    every: t.field({ type: BackfillStep, description: 'How far apart its slots are.', resolve: (row) => row.every }),
    scheduleId: t.exposeID('scheduleId', { nullable: true, description: 'The schedule whose times it took.' }),
    parameters: t.field({ type: 'JSON', description: 'What its runs are given.', resolve: (row) => row.parameters }),
    environment: t.exposeString('environment', {
      nullable: true,
      description: 'The environment of the tenant whose values its runs take.',
    }),
    maxActive: t.exposeInt('maxActive', { description: 'Runs of it that are unfinished at once.' }),
    state: t.field({ type: BackfillState, description: 'How it stands.', resolve: (row) => row.state }),
    total: t.exposeInt('total', { description: 'Its slots.' }),
    progress: t.field({
      type: BackfillProgress,
      description: 'How far it is.',
      resolve: (row, _args, context) => progressOf(context, row.id),
    }),
    problem: t.field({
      type: TriggerProblem,
      nullable: true,
      description: 'Why it waits, or paused itself.',
      resolve: (row) => row.problem,
    }),
    slots: t.field({
      type: BackfillSlotConnection,
      description: 'Its slots, oldest first.',
      args: pageArgs,
      resolve: (row, args, context) => listSlots(context, row.id, args),
    }),
    createdBy: t.exposeString('createdBy', { description: 'Who started it.' }),
    createdAt: t.field({ type: 'DateTime', description: 'When it was started.', resolve: (row) => row.createdAt }),
    finishedAt: t.field({
      type: 'DateTime',
      nullable: true,
      description: 'When it ended.',
      resolve: (row) => row.finishedAt,
    }),
  }),
})
const BackfillConnection = builder.connectionObject(
  { type: Backfill, name: 'BackfillConnection', description: 'A page of backfills.' },
  { name: 'BackfillEdge', description: 'A backfill and its place in the list.' },
)

builder.queryFields((t) => ({
  backfill: t.field({
    type: Backfill,
    nullable: true,
    description: 'A backfill of the tenant. One that is missing and one of another tenant give the same NOT_FOUND.',
    authScopes: { scope: 'schedules:read' },
    args: { id: t.arg.id({ required: true, description: 'The backfill, `bkf_…`.' }) },
    resolve: (_root, { id }, context) => readBackfill(context, id),
  }),
  backfills: t.field({
    type: BackfillConnection,
    description: 'Backfills of the tenant, newest first.',
    authScopes: { scope: 'schedules:read' },
    args: pageArgs,
    resolve: (_root, args, context) => listBackfills(context, args),
  }),
}))

const StartBackfillInput = builder.inputType('StartBackfillInput', {
  description: 'A range of days to run a pipeline for.',
  fields: (t) => ({
    pipeline: t.string({ description: 'Path of a pipeline or a template; default: that of the schedule.' }),
    from: t.field({ type: 'Date', required: true, description: 'The first day.' }),
    to: t.field({ type: 'Date', required: true, description: 'The last day.' }),
    every: t.field({ type: BackfillStep, description: 'How far apart the slots are; default: DAY.' }),
    scheduleId: t.id({ description: 'A schedule, `sch_…`, whose times, parameters and environment are taken.' }),
    parameters: t.field({ type: 'JSON', description: 'What its runs are given, beside `date`.' }),
    environment: t.string({ description: 'The environment of the tenant whose values its runs take.' }),
    maxActive: t.int({ description: 'Runs that are unfinished at once, 1 to 50; default: 1.' }),
    idempotencyKey: t.string(keyField),
  }),
})
const idInput = (name: string, description: string) =>
  builder.inputType(name, {
    description,
    fields: (t) => ({
      id: t.id({ required: true, description: 'The backfill, `bkf_…`.' }),
      idempotencyKey: t.string(keyField),
    }),
  })
const PauseBackfillInput = idInput('PauseBackfillInput', 'A backfill to pause.')
const ResumeBackfillInput = idInput('ResumeBackfillInput', 'A backfill to resume.')
const CancelBackfillInput = builder.inputType('CancelBackfillInput', {
  description: 'A backfill to end.',
  fields: (t) => ({
    id: t.id({ required: true, description: 'The backfill, `bkf_…`.' }),
    cancelRuns: t.boolean({ description: 'Whether its unfinished runs are asked to stop as well; default: no.' }),
    idempotencyKey: t.string(keyField),
  }),
})

type Answer = { backfill?: BackfillRow; errors: Refusal[] }
const payload = (name: string, description: string) =>
  builder.objectRef<Answer>(name).implement({
    description,
    fields: (t) => ({
      backfill: t.field({
        type: Backfill,
        nullable: true,
        description: 'The backfill.',
        resolve: (row) => row.backfill,
      }),
      errors: t.field({ type: [UserError], description: 'Why it was refused.', resolve: ({ errors }) => errors }),
    }),
  })
const StartBackfillPayload = payload('StartBackfillPayload', 'The backfill, or why there is none.')
const PauseBackfillPayload = payload('PauseBackfillPayload', 'The paused backfill, or why it is not.')
const ResumeBackfillPayload = payload('ResumeBackfillPayload', 'The resumed backfill, or why it is not.')
const CancelBackfillPayload = payload('CancelBackfillPayload', 'The ended backfill, or why it is not.')

builder.mutationFields((t) => ({
  startBackfill: t.field({
    type: StartBackfillPayload,
    description: 'Runs a pipeline for each slot of a range of days, up to 1,000 of them, a few at once.',
    authScopes: { scope: 'schedules:write' },
    args: { input: t.arg({ type: StartBackfillInput, required: true, description: 'The range.' }) },
    resolve: (_root, { input }, context) =>
      answerOnce(context, 'startBackfill', input, async (context): Promise<Answer> => {
        const begun = await startBackfill(context, input)
        return 'problems' in begun ? { errors: begun.problems.map(refusalOfProblem) } : { ...begun, errors: [] }
      }),
  }),
  pauseBackfill: t.field({
    type: PauseBackfillPayload,
    description: 'Starts no further slot of a backfill. A repeat changes nothing.',
    authScopes: { scope: 'schedules:write' },
    args: { input: t.arg({ type: PauseBackfillInput, required: true, description: 'Which one.' }) },
    resolve: (_root, { input }, context) =>
      answerOnce(context, 'pauseBackfill', input, async (context) => ({
        backfill: await pauseBackfill(context, input.id),
      })),
  }),
  resumeBackfill: t.field({
    type: ResumeBackfillPayload,
    description: 'Goes on with a paused backfill, with refused slots again. A repeat changes nothing.',
    authScopes: { scope: 'schedules:write' },
    args: { input: t.arg({ type: ResumeBackfillInput, required: true, description: 'Which one.' }) },
    resolve: (_root, { input }, context) =>
      answerOnce(context, 'resumeBackfill', input, async (context) => ({
        backfill: await resumeBackfill(context, input.id),
      })),
  }),
  cancelBackfill: t.field({
    type: CancelBackfillPayload,
    description: 'Ends a backfill. A repeat changes nothing.',
    authScopes: { scope: 'schedules:write' },
    args: { input: t.arg({ type: CancelBackfillInput, required: true, description: 'Which one.' }) },
    resolve: (_root, { input }, context) =>
      answerOnce(context, 'cancelBackfill', input, async (context) => ({
        backfill: await cancelBackfill(context, input.id, input.cancelRuns ?? false),
      })),
  }),
}))
