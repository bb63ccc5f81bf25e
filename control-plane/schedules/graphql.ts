import type { ScheduleRow } from '../../shared/schedules/fire-schedule.ts'
import { builder } from '../graphql/builder.ts'
import { pageArgs } from '../graphql/page.ts'
import { type Refusal, refusalOfProblem, UserError } from '../graphql/user-errors.ts'
import { answerOnce, keyField } from '../idempotency/answer-once.ts'
import { deleteSchedule } from './delete-schedule.ts'
import { pauseSchedule } from './pause-schedule.ts'
import { type FireRow, listSchedules, readSchedule } from './read-schedules.ts'
import { resumeSchedule } from './resume-schedule.ts'
import { triggerSchedule } from './trigger-schedule.ts'
import { MisfirePolicy, OverlapPolicy, Schedule, ScheduleConnection, ScheduleFire } from './types.ts'
import { upsertSchedule } from './upsert-schedule.ts'

builder.queryFields((t) => ({
  schedule: t.field({
    type: Schedule,
    nullable: true,
    description: 'A schedule of the tenant. One that is missing and one of another tenant give the same NOT_FOUND.',
    authScopes: { scope: 'schedules:read' },
    args: { id: t.arg.id({ required: true, description: 'The schedule, `sch_…`.' }) },
    resolve: (_root, { id }, context) => readSchedule(context, id),
  }),
  schedules: t.field({
    type: ScheduleConnection,
    description: 'Schedules of the tenant by pipeline and name, those of files among them.',
    authScopes: { scope: 'schedules:read' },
    args: { ...pageArgs, pipeline: t.arg.string({ description: 'Of the pipeline of this path.' }) },
    resolve: (_root, { pipeline, ...args }, context) => listSchedules(context, args, pipeline),
  }),
}))

const UpsertScheduleInput = builder.inputType('UpsertScheduleInput', {
  description: 'A schedule to make or to change; what is absent stays, or takes its default.',
  fields: (t) => ({
    pipeline: t.string({ required: true, description: 'Path of a pipeline of the tenant or of a template.' }),
    name: t.string({ description: 'Which schedule of the pipeline; default: `default`.' }),
    cron: t.string({
      required: true,
      description: 'Minute, hour, day, month, weekday: `0 2 * * *`; or @hourly, @daily, @weekly, @monthly, @yearly.',
    }),
    timezone: t.string({ description: 'IANA name of the zone in which these are read; default: UTC.' }),
    parameters: t.field({ type: 'JSON', description: 'What its runs are given; `date` is the day of the time.' }),
    environment: t.string({ description: 'The environment of the tenant whose values its runs take.' }),
    misfire: t.field({ type: MisfirePolicy, description: 'What is made up for after an outage; default: LATEST.' }),
    catchupMax: t.int({ description: 'How many times `ALL` makes up for, 1 to 1,000; default: 100.' }),
    overlap: t.field({
      type: OverlapPolicy,
      description: 'What a time does while a run before it is unfinished; default: ALLOW.',
    }),
    expectedVersion: t.int({ description: 'Refuse unless this is the current version; 0: unless there is none.' }),
    idempotencyKey: t.string(keyField),
  }),
})
const PauseScheduleInput = scheduleInput('PauseScheduleInput', 'A schedule to pause.')
const ResumeScheduleInput = scheduleInput('ResumeScheduleInput', 'A schedule to resume.')
const DeleteScheduleInput = scheduleInput('DeleteScheduleInput', 'A schedule to delete.')
const TriggerScheduleInput = scheduleInput('TriggerScheduleInput', 'A schedule to start a run of.')

type UpsertAnswer = { schedule?: ScheduleRow; created?: boolean; errors: Refusal[] }
const UpsertSchedulePayload = builder.objectRef<UpsertAnswer>('UpsertSchedulePayload').implement({
  description: 'The schedule, or why it was refused.',
  fields: (t) => ({
    schedule: t.field({
      type: Schedule,
      nullable: true,
      description: 'The schedule.',
      resolve: (row) => row.schedule,
    }),
    created: t.boolean({ description: 'Whether it is new.', resolve: (row) => row.created ?? false }),
    errors: t.field({ type: [UserError], description: 'Why it was refused.', resolve: ({ errors }) => errors }),
  }),
})
const PauseSchedulePayload = schedulePayload('PauseSchedulePayload', 'The paused schedule, or why it is not.')
const ResumeSchedulePayload = schedulePayload('ResumeSchedulePayload', 'The resumed schedule, or why it is not.')
const DeleteSchedulePayload = builder.objectRef<{ id?: string; errors: Refusal[] }>('DeleteSchedulePayload').implement({
  description: 'What was deleted, or why it was refused.',
  fields: (t) => ({
    id: t.id({ nullable: true, description: 'The schedule that was deleted.', resolve: (row) => row.id }),
    errors: t.field({ type: [UserError], description: 'Why it was refused.', resolve: ({ errors }) => errors }),
  }),
})
const TriggerSchedulePayload = builder
  .objectRef<{ fire?: FireRow; errors: Refusal[] }>('TriggerSchedulePayload')
  .implement({
    description: 'What became of it.',
    fields: (t) => ({
      fire: t.field({
        type: ScheduleFire,
        nullable: true,
        description: 'The fire with its run.',
        resolve: (row) => row.fire,
      }),
      errors: t.field({ type: [UserError], description: 'Why it was refused.', resolve: ({ errors }) => errors }),
    }),
  })

builder.mutationFields((t) => ({
  upsertSchedule: t.field({
    type: UpsertSchedulePayload,
    description: 'Makes or changes a schedule of a pipeline. That of its file changes with the file alone.',
    authScopes: { scope: 'schedules:write' },
    args: { input: t.arg({ type: UpsertScheduleInput, required: true, description: 'The schedule.' }) },
    resolve: (_root, { input }, context) =>
      answerOnce(context, 'upsertSchedule', input, async (context): Promise<UpsertAnswer> => {
        const saved = await upsertSchedule(context, input)
        return 'problems' in saved ? { errors: saved.problems.map(refusalOfProblem) } : { ...saved, errors: [] }
      }),
  }),
  pauseSchedule: t.field({
    type: PauseSchedulePayload,
    description: 'Stops a schedule from firing. A repeat changes nothing.',
    authScopes: { scope: 'schedules:write' },
    args: { input: t.arg({ type: PauseScheduleInput, required: true, description: 'Which one.' }) },
    resolve: (_root, { input }, context) =>
      answerOnce(context, 'pauseSchedule', input, async (context) => ({
        schedule: await pauseSchedule(context, input.id),
      })),
  }),
  resumeSchedule: t.field({
    type: ResumeSchedulePayload,
    description: 'Lets a schedule fire again, from its next time on. A repeat changes nothing.',
    authScopes: { scope: 'schedules:write' },
    args: { input: t.arg({ type: ResumeScheduleInput, required: true, description: 'Which one.' }) },
    resolve: (_root, { input }, context) =>
      answerOnce(context, 'resumeSchedule', input, async (context) => ({
        schedule: await resumeSchedule(context, input.id),
      })),
  }),
  deleteSchedule: t.field({
    type: DeleteSchedulePayload,
    description: 'Removes a schedule; its runs stay.',
    authScopes: { scope: 'schedules:write' },
    args: { input: t.arg({ type: DeleteScheduleInput, required: true, description: 'Which one.' }) },
    resolve: (_root, { input }, context) =>
      answerOnce(context, 'deleteSchedule', input, async (context) => ({
        id: await deleteSchedule(context, input.id),
      })),
  }),
  triggerSchedule: t.field({
    type: TriggerSchedulePayload,
    description: 'Starts a run of a schedule now, beside its times, also while it is paused.',
    authScopes: { scope: ['runs:write', 'schedules:write'] },
    args: { input: t.arg({ type: TriggerScheduleInput, required: true, description: 'Which one.' }) },
    resolve: (_root, { input }, context) =>
      answerOnce(context, 'triggerSchedule', input, async (context) => ({
        fire: await triggerSchedule(context, input.id),
      })),
  }),
}))

function scheduleInput(name: string, description: string) {
  return builder.inputType(name, {
    description,
    fields: (t) => ({
      id: t.id({ required: true, description: 'The schedule, `sch_…`.' }),
      idempotencyKey: t.string(keyField),
    }),
  })
}

function schedulePayload(name: string, description: string) {
  return builder.objectRef<{ schedule?: ScheduleRow; errors: Refusal[] }>(name).implement({
    description,
    fields: (t) => ({
      schedule: t.field({
        type: Schedule,
        nullable: true,
        description: 'The schedule.',
        resolve: (row) => row.schedule,
      }),
      errors: t.field({ type: [UserError], description: 'Why it was refused.', resolve: ({ errors }) => errors }),
    }),
  })
}
