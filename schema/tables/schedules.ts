import { sql } from 'drizzle-orm'
import { bigint, boolean, date, integer, jsonb, primaryKey, text, timestamp } from 'drizzle-orm/pg-core'
import type { SealedData } from '../sealed.ts'
import type {
  BackfillState,
  BackfillStep,
  FireState,
  Misfire,
  Overlap,
  SlotState,
  StartState,
  TriggerSettings,
} from '../config/triggers.ts'
import { app } from './app.ts'

const at = (name: string) => timestamp(name, { withTimezone: true })
const never = sql`'epoch'`

/** Why a run was not started, as the tenant may see it. */
export type TriggerProblem = { code: string; message: string; hint?: string }

/** When a pipeline starts by itself: cron times in a zone. */
export const schedule = app.table(
  'schedule',
  {
    tenantId: text('tenant_id').notNull(),
    id: text().notNull(),
    /** Path of its pipeline, its own or a template's. */
    pipeline: text().notNull(),
    name: text().notNull(),
    /** Whether the pipeline's file or the API says it. */
    source: text().$type<'yaml' | 'api'>().notNull(),
    cron: text().notNull(),
    timezone: text().notNull(),
    parameters: jsonb().$type<Record<string, unknown>>().notNull().default({}),
    environment: text(),
    misfire: text().$type<Misfire>().notNull().default('latest'),
    catchupMax: integer('catchup_max').notNull().default(100),
    overlap: text().$type<Overlap>().notNull().default('allow'),
    pausedBy: text('paused_by'),
    pausedAt: at('paused_at'),
    /** Null while it is paused. */
    nextFireAt: at('next_fire_at'),
    /** The slot that waits for the end of the run before it. */
    waitingFireAt: at('waiting_fire_at'),
    heldUntil: at('held_until').notNull().default(never),
    /** Fires in a row that the configuration kept from starting. */
    failures: integer().notNull().default(0),
    problem: jsonb().$type<TriggerProblem>(),
    version: integer().notNull().default(1),
    createdBy: text('created_by').notNull(),
    createdAt: at('created_at').notNull().defaultNow(),
    updatedAt: at('updated_at').notNull().defaultNow(),
  },
  (t) => [primaryKey({ columns: [t.tenantId, t.id] })],
)

/** What became of one slot of a schedule; a slot has one row, whoever brings it. */
export const scheduleFire = app.table(
  'schedule_fire',
  {
    tenantId: text('tenant_id').notNull(),
    scheduleId: text('schedule_id').notNull(),
    fireAt: at('fire_at').notNull(),
    source: text().$type<'schedule' | 'manual'>().notNull(),
    state: text().$type<FireState>().notNull(),
    runId: text('run_id'),
    problem: jsonb().$type<TriggerProblem>(),
    at: at('at')
      .notNull()
      .default(sql`clock_timestamp()`),
  },
  (t) => [primaryKey({ columns: [t.tenantId, t.scheduleId, t.fireAt] })],
)

/** Runs of a pipeline for each slot of a range of days. */
export const backfill = app.table(
  'backfill',
  {
    tenantId: text('tenant_id').notNull(),
    id: text().notNull(),
    pipeline: text().notNull(),
    fromDay: date('from_day').notNull(),
    toDay: date('to_day').notNull(),
    every: text().$type<BackfillStep>().notNull(),
    scheduleId: text('schedule_id'),
    parameters: jsonb().$type<Record<string, unknown>>().notNull().default({}),
    environment: text(),
    /** Runs of it that are unfinished at once. */
    maxActive: integer('max_active').notNull(),
    state: text().$type<BackfillState>().notNull().default('running'),
    total: integer().notNull(),
    heldUntil: at('held_until').notNull().default(never),
    failures: integer().notNull().default(0),
    problem: jsonb().$type<TriggerProblem>(),
    createdBy: text('created_by').notNull(),
    createdAt: at('created_at').notNull().defaultNow(),
    finishedAt: at('finished_at'),
  },
  (t) => [primaryKey({ columns: [t.tenantId, t.id] })],
)

/** One slot of a backfill; `day` is what `{date}` stands for in its run. */
export const backfillSlot = app.table(
  'backfill_slot',
  {
    tenantId: text('tenant_id').notNull(),
    backfillId: text('backfill_id').notNull(),
    slotAt: at('slot_at').notNull(),
    day: date().notNull(),
    state: text().$type<SlotState>().notNull().default('pending'),
    runId: text('run_id'),
    problem: jsonb().$type<TriggerProblem>(),
  },
  (t) => [primaryKey({ columns: [t.tenantId, t.backfillId, t.slotAt] })],
)

/** What a saved pipeline's file says under `triggers`. One that left the file is disabled and remembers what it saw. */
export const pipelineTrigger = app.table(
  'pipeline_trigger',
  {
    tenantId: text('tenant_id').notNull(),
    id: text().notNull(),
    /** Path of the pipeline that it starts. */
    pipeline: text().notNull(),
    kind: text().$type<TriggerSettings['on']>().notNull(),
    /** `<credential>:<pattern>` of a folder, or the path of the pipeline that it follows. */
    target: text().notNull(),
    settings: jsonb().$type<TriggerSettings>().notNull(),
    enabled: boolean().notNull().default(true),
    nextLookAt: at('next_look_at').notNull().defaultNow(),
    claimedUntil: at('claimed_until').notNull().default(never),
    lookedAt: at('looked_at'),
    openedAt: at('opened_at'),
    failures: integer().notNull().default(0),
    problem: jsonb().$type<TriggerProblem>(),
    createdAt: at('created_at').notNull().defaultNow(),
  },
  (t) => [primaryKey({ columns: [t.tenantId, t.id] })],
)

/** A file that a trigger saw; one whose size or time changed is another one. */
export const seenFile = app.table(
  'seen_file',
  {
    tenantId: text('tenant_id').notNull(),
    triggerId: text('trigger_id').notNull(),
    name: text().notNull(),
    size: bigint({ mode: 'number' }).notNull(),
    modifiedAt: at('modified_at').notNull(),
    firstSeenAt: at('first_seen_at')
      .notNull()
      .default(sql`clock_timestamp()`),
    lastSeenAt: at('last_seen_at')
      .notNull()
      .default(sql`clock_timestamp()`),
    state: text().$type<StartState>().notNull().default('pending'),
    runId: text('run_id'),
    problem: jsonb().$type<TriggerProblem>(),
  },
  (t) => [primaryKey({ columns: [t.tenantId, t.triggerId, t.name, t.size, t.modifiedAt] })],
)

/** A run that succeeded, and a pipeline that follows it. */
export const runFollowUp = app.table(
  'run_follow_up',
  {
    tenantId: text('tenant_id').notNull(),
    runId: text('run_id').notNull(),
    triggerId: text('trigger_id').notNull(),
    state: text().$type<StartState>().notNull().default('pending'),
    followerRun: text('follower_run'),
    attempts: integer().notNull().default(0),
    notBefore: at('not_before').notNull().defaultNow(),
    problem: jsonb().$type<TriggerProblem>(),
    createdAt: at('created_at').notNull().defaultNow(),
  },
  (t) => [primaryKey({ columns: [t.tenantId, t.runId, t.triggerId] })],
)

/** A door for signed requests that start runs of one pipeline. Its secret is sealed with the tenant's data key. */
export const webhook = app.table(
  'webhook',
  {
    tenantId: text('tenant_id').notNull(),
    id: text().notNull(),
    name: text().notNull(),
    pipeline: text().notNull(),
    /** What every run gets. */
    parameters: jsonb().$type<Record<string, unknown>>().notNull().default({}),
    /** Where in the body a parameter stands: names to paths such as `event.day`. */
    mapping: jsonb().$type<Record<string, string>>().notNull().default({}),
    environment: text(),
    version: integer().notNull().default(1),
    sealed: jsonb().$type<SealedData>().notNull(),
    /** The secret before a rotation, sealed as the version before, good until `previousUntil`. */
    previousSealed: jsonb('previous_sealed').$type<SealedData>(),
    previousUntil: at('previous_until'),
    /** Messages that are taken in a minute. */
    rateMax: integer('rate_max').notNull(),
    rateMinute: at('rate_minute'),
    rateCount: integer('rate_count').notNull().default(0),
    lastUsedAt: at('last_used_at'),
    createdBy: text('created_by').notNull(),
    createdAt: at('created_at').notNull().defaultNow(),
    updatedAt: at('updated_at').notNull().defaultNow(),
  },
  (t) => [primaryKey({ columns: [t.tenantId, t.id] })],
)

/** A message that a webhook took, by the id that its sender signed. */
export const webhookMessage = app.table(
  'webhook_message',
  {
    tenantId: text('tenant_id').notNull(),
    webhookId: text('webhook_id').notNull(),
    id: text().notNull(),
    runId: text('run_id').notNull(),
    receivedAt: at('received_at')
      .notNull()
      .default(sql`clock_timestamp()`),
  },
  (t) => [primaryKey({ columns: [t.tenantId, t.webhookId, t.id] })],
)
