import { z } from 'zod'
import { duration, durationMs } from './duration.ts'
import type { Plan } from './tenant.ts'
import { namePattern } from './variables.ts'

/** What becomes of slots that were missed: none is made up for, the last one is, or all of them are up to a bound. */
export const misfires = ['skip', 'latest', 'all'] as const
/** A misfire policy. */
export type Misfire = (typeof misfires)[number]

/** What a slot does while a run of its schedule is unfinished. */
export const overlaps = ['allow', 'skip', 'queue'] as const
/** An overlap policy. */
export type Overlap = (typeof overlaps)[number]

/** What became of a slot. */
export const fireStates = ['started', 'waiting', 'skipped', 'missed', 'refused'] as const
/** A state of a fire. */
export type FireState = (typeof fireStates)[number]

/** Life of a backfill. */
export const backfillStates = ['running', 'paused', 'cancelled', 'finished'] as const
/** A state of a backfill. */
export type BackfillState = (typeof backfillStates)[number]

/** How far apart the slots of a backfill are; those of a schedule are its own. */
export const backfillSteps = ['DAY', 'WEEK', 'MONTH', 'SCHEDULE'] as const
/** A step of a backfill. */
export type BackfillStep = (typeof backfillSteps)[number]

/** What became of a slot of a backfill. */
export type SlotState = 'pending' | 'started' | 'refused' | 'cancelled'
/** What became of a file or of the end of a run. */
export type StartState = 'pending' | 'started' | 'refused'

/** Bounds. Times in milliseconds. */
export const triggerLimits = {
  /** Minutes between two slots of a schedule, at least. */
  scheduleMinutes: { STARTER: 5, SCALE: 1, ENTERPRISE: 1 } satisfies Record<Plan, number>,
  schedulesMax: 500,
  webhooksMax: 100,
  triggersPerPipeline: 20,
  /** Slots of one backfill. */
  slotsMax: 1000,
  /** Backfills that are running or paused at once. */
  backfillsMax: 20,
  /** A slot that is later than this counts as missed. */
  graceMs: 5 * 60_000,
  /** Failures of configuration in a row after which a schedule or a backfill pauses itself. */
  failuresMax: 10,
} as const

const scalar = z.union([z.string().max(1000), z.number(), z.boolean(), z.null()])
const parameters = z
  .record(z.string().regex(namePattern, 'expected lower case letters, digits and _, starting with a letter'), scalar)
  .refine((given) => Object.keys(given).length <= 200, 'expected at most 200 names')
  .default({})

const boundedDuration = (leastMs: number, mostMs: number, least: string, most: string) =>
  duration.refine((text) => durationMs(text) >= leastMs && durationMs(text) <= mostMs, `expected ${least} to ${most}`)

/** `schedule:` of a pipeline file. */
export const scheduleShape = z.strictObject({
  cron: z
    .string()
    .min(6)
    .max(100)
    .describe('Five fields: minute hour day month weekday; or @hourly, @daily, @weekly, @monthly.'),
  timezone: z.string().max(64).default('UTC').describe('IANA name of the zone.'),
  catchup: z
    .union([z.boolean(), z.enum(misfires)])
    .default(false)
    .describe(
      'What is made up for after an outage: `latest` (or false) the last time missed, `all` (or true) all up to 100, `skip` none.',
    ),
  overlap: z
    .enum(overlaps)
    .default('allow')
    .describe(
      'What a time does while the run before it is unfinished: run as well, be passed over, or wait (one at most).',
    ),
  parameters: parameters.describe('Parameters of scheduled runs; `{date}` is the day of the time in the zone.'),
})
/** A checked schedule of a file. */
export type ScheduleBlock = z.output<typeof scheduleShape>

/** The misfire policy that `catchup` means. */
export const misfireOf = (catchup: ScheduleBlock['catchup']): Misfire =>
  catchup === true ? 'all' : catchup === false ? 'latest' : catchup

const fileTrigger = z.strictObject({
  on: z.literal('file').describe('A file arrives.'),
  path: z
    .string()
    .min(1)
    .max(512)
    .describe('Folder and name of the file: `in/orders_*.csv`. `*` and `?` may stand in the name.'),
  credential: z
    .string()
    .regex(/^[a-z][a-z0-9_-]{0,62}$/, 'expected the name of a credential of the tenant')
    .optional()
    .describe('The SFTP server to look at; default: the folder of the tenant.'),
  every: boundedDuration(1_000, 86_400_000, '1s', '1d').default('1m').describe('How often it looks.'),
  settle: boundedDuration(1, 86_400_000, '1ms', '1d')
    .default('30s')
    .describe('How long size and time of a file must stay the same before it counts.'),
  parameters: parameters.describe('Parameters of its runs, beside `file` and `file_name`.'),
})

const pipelineTrigger = z.strictObject({
  on: z.literal('pipeline').describe('A run of another pipeline succeeds.'),
  pipeline: z
    .string()
    .max(200)
    .regex(/^[a-z0-9][a-z0-9_-]{0,62}(\/[a-z0-9][a-z0-9_-]{0,62}){2}$/, 'expected <provider>/<domain>/<template>')
    .describe('Path of the pipeline that it follows.'),
  parameters: parameters.describe(
    'Parameters of its runs: literals, or {upstream.parameters.<name>}, {upstream.steps.<step>.<output>}, {upstream.run_id}, {upstream.date}. `date` is that of the run before, unless given.',
  ),
})

/** One of `triggers:` of a pipeline file. */
export const triggerShape = z.discriminatedUnion('on', [fileTrigger, pipelineTrigger], {
  error: 'expected file or pipeline',
})
/** A checked trigger. */
export type TriggerSettings = z.output<typeof triggerShape>
/** A watched folder. */
export type FileTrigger = Extract<TriggerSettings, { on: 'file' }>
/** A pipeline that follows another. */
export type PipelineTrigger = Extract<TriggerSettings, { on: 'pipeline' }>
