import { z } from 'zod'
import { errorCodes } from '../../shared/errors.ts'
import { queueTypes } from '../../schema/states.ts'

const upper = <T extends string>(values: readonly T[]): Uppercase<T>[] =>
  values.map((value) => value.toUpperCase() as Uppercase<T>)

/** A moment in UTC. */
export const moment = z.string().describe('ISO 8601, in UTC.')

/** Types of queues, as GraphQL names them. */
export const queueType = z.enum(upper(queueTypes))

/** An answer of RFC 9457. */
export const problemShape = z.strictObject({
  type: z.string().describe('`urn:tributary:error:<code>`.'),
  title: z.string().describe('The code in words.'),
  status: z.int(),
  detail: z.string().describe('What went wrong, for people.'),
  code: z.enum(Object.keys(errorCodes)).describe('What went wrong, from the closed list of the API.'),
  hint: z.string().describe('What to do about it.'),
  retry: z.enum(['never', 'later']).describe('Whether the same request can succeed later.'),
  request_id: z.string().describe('Number of this request; name it when you ask for help.'),
  errors: z
    .array(
      z.strictObject({
        code: z.string(),
        detail: z.string(),
        hint: z.string(),
        path: z.array(z.string()).optional().describe('The part of the input or of the file it is about.'),
        file: z.string().optional(),
        line: z.int().optional(),
        column: z.int().optional(),
      }),
    )
    .optional()
    .describe('All that is wrong, where that can be more than one thing.'),
})
/** An answer of RFC 9457. */
export type ProblemBody = z.output<typeof problemShape>

/** A page of a list. */
export const pageOf = <S extends z.ZodType>(item: S) =>
  z.strictObject({
    items: z.array(item),
    next: z.string().nullable().describe('Give it as `after` for the next page; null at the end.'),
  })

/** The query of a list. */
export const pageQuery = {
  first: z.coerce.number().int().min(1).max(100).optional().describe('How many items; 25 by default.'),
  after: z.string().max(2000).optional().describe('The `next` of the page before.'),
}

export const tenantShape = z.strictObject({
  tenant_id: z.string(),
  name: z.string(),
  company_name: z.string(),
  subscription_plan: z.string(),
  status: z.string(),
})

export const credentialShape = z.strictObject({
  credential_id: z.string().describe('Begins with `crd_`.'),
  name: z.string().describe('How pipelines name it.'),
  status: z.enum(['PENDING', 'ACTIVE', 'FAILED']),
  version: z.int(),
})

const errorShape = z.strictObject({
  code: z.string(),
  message: z.string(),
  hint: z.string().nullable(),
})

export const runShape = z.strictObject({
  run_id: z.string(),
  pipeline: z.string(),
  state: z.string(),
  parameters: z.unknown(),
  created_at: moment,
  started_at: moment.nullable(),
  finished_at: moment.nullable(),
  error: z.strictObject({ ...errorShape.shape, step_id: z.string().nullable() }).nullable(),
  steps: z.array(
    z.strictObject({
      step_id: z.string(),
      ps_type: z.string(),
      state: z.string(),
      attempt: z.int(),
      started_at: moment.nullable(),
      finished_at: moment.nullable(),
      outputs: z.unknown(),
      error: errorShape.nullable(),
    }),
  ),
})

export const scheduleShape = z.strictObject({
  schedule_id: z.string().describe('Begins with `sch_`.'),
  is_paused: z.boolean(),
  next_fire_at: moment.nullable(),
  version: z.int(),
})

export const queueShape = z.strictObject({
  name: z.string().describe('As `transform_queue_tenant_guru_232342`.'),
  type: queueType,
  state: z.enum(['RUNNING', 'DRAINING', 'STOPPED']),
  running: z.int().describe('Steps that run now.'),
  limit: z.int().describe('Steps that may run at once.'),
  queued: z.int().describe('Steps that wait.'),
})
