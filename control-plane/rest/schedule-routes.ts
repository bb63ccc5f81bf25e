import { z } from 'zod'
import {
  DeleteSchedule,
  PauseSchedule,
  type PauseScheduleMutation,
  ResumeSchedule,
  Schedules,
  UpsertSchedule,
} from '../../schema/operations/index.ts'
import { defineRoute, noBody, type Route } from './define.ts'
import { pageOf, pageQuery, scheduleShape } from './shapes.ts'

const path = '/scheduler/configs'
const ofOne = { parameters: z.object({ schedule_id: z.string() }), body: noBody }
const asInput = ({ parameters }: { parameters: { schedule_id: string } }) => ({ input: { id: parameters.schedule_id } })

/** When pipelines start by themselves. */
export const scheduleRoutes: readonly Route[] = [
  defineRoute({
    method: 'GET',
    path,
    summary: 'Schedules of the tenant, those of pipeline files among them.',
    operation: Schedules,
    parameters: z.object({ ...pageQuery, pipeline_config: z.string().optional().describe('Those of this pipeline.') }),
    body: noBody,
    variables: ({ parameters: { first, after, pipeline_config: pipeline } }) => ({ first, after, pipeline }),
    reply: pageOf(
      z.strictObject({
        ...scheduleShape.shape,
        pipeline_config: z.string(),
        name: z.string(),
        schedule: z.string(),
        timezone: z.string(),
      }),
    ),
    statuses: { 200: 'A page of them.' },
    answer: ({ schedules: { nodes, pageInfo } }) => ({
      status: 200,
      body: {
        items: nodes.map((row) => ({
          ...bodyOf(row),
          pipeline_config: row.pipelinePath,
          name: row.name,
          schedule: row.cron,
          timezone: row.timezone,
        })),
        next: pageInfo.hasNextPage ? pageInfo.endCursor : null,
      },
    }),
  }),
  defineRoute({
    method: 'POST',
    path,
    summary: 'Makes or changes a schedule of a pipeline; what is absent stays, or takes its default.',
    operation: UpsertSchedule,
    parameters: z.object({}),
    body: z.strictObject({
      pipeline_config: z.string().describe('Path of a pipeline of the tenant or of a template.'),
      schedule: z.string().describe('Minute, hour, day, month, weekday: `0 2 * * *`.'),
      name: z.string().optional().describe('Which schedule of the pipeline; default: `default`.'),
      timezone: z.string().optional().describe('IANA name; default: UTC.'),
      parameters: z.record(z.string(), z.unknown()).optional(),
      environment: z.string().optional(),
      expected_version: z
        .int()
        .optional()
        .describe('Refuse unless this is the current version; 0: unless there is none.'),
    }),
    variables: ({ body }) => ({
      input: {
        pipeline: body.pipeline_config,
        cron: body.schedule,
        name: body.name,
        timezone: body.timezone,
        parameters: body.parameters,
        environment: body.environment,
        expectedVersion: body.expected_version,
      },
    }),
    reply: scheduleShape,
    statuses: { 200: 'It stands.' },
    answer: ({ upsertSchedule: { schedule } }) => ({ status: 200, body: bodyOf(schedule) }),
  }),
  defineRoute({
    ...ofOne,
    method: 'DELETE',
    path: `${path}/{schedule_id}`,
    summary: 'Removes a schedule.',
    operation: DeleteSchedule,
    variables: asInput,
    reply: z.strictObject({ schedule_id: z.string() }),
    statuses: { 200: 'It is gone.' },
    answer: ({ deleteSchedule: { id } }) => ({ status: 200, body: { schedule_id: id ?? '' } }),
  }),
  defineRoute({
    ...ofOne,
    method: 'POST',
    path: `${path}/{schedule_id}/pause`,
    summary: 'Stops a schedule from firing. A repeat changes nothing.',
    operation: PauseSchedule,
    variables: asInput,
    reply: scheduleShape,
    statuses: { 200: 'It is paused.' },
    answer: ({ pauseSchedule: { schedule } }) => ({ status: 200, body: bodyOf(schedule) }),
  }),
  defineRoute({
    ...ofOne,
    method: 'POST',
    path: `${path}/{schedule_id}/resume`,
    summary: 'Lets a schedule fire again. A repeat changes nothing.',
    operation: ResumeSchedule,
    variables: asInput,
    reply: scheduleShape,
    statuses: { 200: 'It fires.' },
    answer: ({ resumeSchedule: { schedule } }) => ({ status: 200, body: bodyOf(schedule) }),
  }),
]

function bodyOf(row: PauseScheduleMutation['pauseSchedule']['schedule']): z.output<typeof scheduleShape> {
  if (!row) throw new Error('there is neither a schedule nor a refusal')
  return { schedule_id: row.id, is_paused: row.isPaused, next_fire_at: row.nextFireAt, version: row.version }
}
