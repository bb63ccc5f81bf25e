import {
  bigint,
  boolean,
  customType,
  doublePrecision,
  integer,
  jsonb,
  primaryKey,
  smallint,
  text,
  timestamp,
} from 'drizzle-orm/pg-core'
import { sql } from 'drizzle-orm'
import type { QueueType, RunState, StepState, StepTrigger } from '../states.ts'
import { app } from './app.ts'

const xid8 = customType<{ data: string }>({ dataType: () => 'xid8' })
const at = (name: string) => timestamp(name, { withTimezone: true })

/** One execution of a pipeline. Written by the ledger's functions alone. */
export const pipelineRun = app.table(
  'pipeline_run',
  {
    tenantId: text('tenant_id').notNull(),
    runId: text('run_id').notNull(),
    pipelineId: text('pipeline_id').notNull(),
    pipelineVersion: integer('pipeline_version').notNull(),
    state: text().$type<RunState>().notNull().default('queued'),
    triggerKind: text('trigger_kind').notNull().default('manual'),
    idempotencyKey: text('idempotency_key'),
    inputHash: text('input_hash'),
    parameters: jsonb().$type<Record<string, unknown>>().notNull().default({}),
    requestedBy: text('requested_by').notNull(),
    pending: integer().notNull(),
    failed: integer().notNull().default(0),
    eventSeq: bigint('event_seq', { mode: 'number' }).notNull().default(0),
    timeoutMs: bigint('timeout_ms', { mode: 'number' }),
    deadlineAt: at('deadline_at'),
    cancelReason: text('cancel_reason'),
    error: jsonb().$type<StepError & { step: string }>(),
    priority: smallint().notNull().default(0),
    concurrencyGroup: text('concurrency_group'),
    concurrencyLimit: integer('concurrency_limit'),
    onConflict: text('on_conflict').$type<'queue' | 'skip' | 'cancel_running'>(),
    /** It waits for a place in its group; nothing of it has started. */
    waiting: boolean().notNull().default(false),
    parentRunId: text('parent_run_id'),
    parentStep: text('parent_step'),
    /** How many runs stand above it. */
    depth: integer().notNull().default(0),
    createdAt: at('created_at').notNull().defaultNow(),
    startedAt: at('started_at'),
    finishedAt: at('finished_at'),
    /** The environment of the tenant whose values it took. */
    environment: text(),
  },
  (t) => [primaryKey({ columns: [t.tenantId, t.runId] })],
)

/** Why a step or a run failed, as the tenant may see it. */
export type StepError = { code: string; message: string; hint?: string; retry?: string; at?: string }
/** How far a step is; `total` is null when unknown. */
export type StepProgress = { done: number; total: number | null; unit: string; note?: string }

/** One step of a run. A failed row stays: it is the dead letter. */
export const runStep = app.table(
  'run_step',
  {
    tenantId: text('tenant_id').notNull(),
    runId: text('run_id').notNull(),
    stepKey: text('step_key').notNull(),
    position: integer().notNull(),
    psType: text('ps_type').notNull(),
    queue: text().$type<QueueType>().notNull(),
    state: text().$type<StepState>().notNull(),
    triggerRule: text('trigger_rule').$type<StepTrigger>().notNull(),
    needs: text().array().notNull(),
    dependents: text().array().notNull(),
    unmet: integer().notNull(),
    upFailed: integer('up_failed').notNull().default(0),
    upBad: integer('up_bad').notNull().default(0),
    attempt: integer().notNull().default(0),
    maxAttempts: integer('max_attempts').notNull(),
    backoffMs: integer('backoff_ms').notNull(),
    backoffCapMs: integer('backoff_cap_ms').notNull(),
    timeoutMs: bigint('timeout_ms', { mode: 'number' }).notNull(),
    allowFailure: boolean('allow_failure').notNull(),
    releaseCount: integer('release_count').notNull().default(0),
    /** How often it was run again after it had succeeded: what it did before does not count for the new cycle. */
    cycle: integer().notNull().default(0),
    priority: smallint().notNull().default(0),
    readyAt: at('ready_at'),
    leaseOwner: text('lease_owner'),
    leaseUntil: at('lease_until'),
    fence: bigint({ mode: 'bigint' }),
    generation: bigint({ mode: 'number' }),
    attemptStartedAt: at('attempt_started_at'),
    settings: jsonb().$type<Record<string, unknown>>().notNull(),
    credential: text(),
    /** The list over which the step fans out, placeholders unresolved. */
    forEach: jsonb('for_each').$type<unknown>(),
    /** What this child of a fanned out step works on. */
    item: jsonb().$type<unknown>(),
    parentStep: text('parent_step'),
    /** The run that it waits for; it then holds no slot and no lease. */
    childRun: text('child_run'),
    holdsSlot: boolean('holds_slot').notNull().default(false),
    /** What the claim charged the tenant for it. */
    expectedMs: doublePrecision('expected_ms'),
    discardedAt: at('discarded_at'),
    discardedBy: text('discarded_by'),
    progress: jsonb().$type<StepProgress>(),
    result: jsonb().$type<Record<string, unknown>>(),
    error: jsonb().$type<StepError>(),
    startedAt: at('started_at'),
    finishedAt: at('finished_at'),
  },
  (t) => [primaryKey({ columns: [t.tenantId, t.runId, t.stepKey] })],
)

/** What the end or the cancelling of a run asks of other runs. */
export const runErrand = app.table(
  'run_errand',
  {
    tenantId: text('tenant_id').notNull(),
    id: bigint({ mode: 'number' }).notNull().generatedAlwaysAsIdentity(),
    runId: text('run_id').notNull(),
    kind: text().$type<'ended' | 'cancel' | 'room'>().notNull(),
  },
  (t) => [primaryKey({ columns: [t.tenantId, t.id] })],
)

/** What happened in a run, numbered without gaps in the order of commits. */
export const runEvent = app.table(
  'run_event',
  {
    tenantId: text('tenant_id').notNull(),
    runId: text('run_id').notNull(),
    seq: bigint({ mode: 'number' }).notNull(),
    at: at('at')
      .notNull()
      .default(sql`clock_timestamp()`),
    type: text().notNull(),
    stepKey: text('step_key'),
    data: jsonb().$type<Record<string, unknown>>(),
    xid: xid8()
      .notNull()
      .default(sql`pg_current_xact_id()`),
  },
  (t) => [primaryKey({ columns: [t.tenantId, t.runId, t.seq] })],
)

/** Proof that a step's effect happened once: a unique key and the fence that made it. */
export const effect = app.table(
  'effect',
  {
    tenantId: text('tenant_id').notNull(),
    runId: text('run_id').notNull(),
    stepKey: text('step_key').notNull(),
    effectKey: text('effect_key').notNull(),
    fence: bigint({ mode: 'bigint' }).notNull(),
    payload: jsonb().$type<Record<string, unknown>>(),
    at: at('at')
      .notNull()
      .default(sql`clock_timestamp()`),
  },
  (t) => [primaryKey({ columns: [t.tenantId, t.runId, t.stepKey, t.effectKey] })],
)

/** A message to the outside, sent at least once and known by its dedupe key. */
export const outbox = app.table(
  'outbox',
  {
    tenantId: text('tenant_id').notNull(),
    id: text().notNull(),
    kind: text().$type<'email' | 'webhook'>().notNull(),
    dedupeKey: text('dedupe_key').notNull(),
    payload: jsonb().$type<Record<string, unknown>>().notNull(),
    notBefore: at('not_before').notNull().defaultNow(),
    attempts: integer().notNull().default(0),
    claimedUntil: at('claimed_until'),
    sentAt: at('sent_at'),
    lastError: jsonb('last_error').$type<StepError>(),
    createdAt: at('created_at').notNull().defaultNow(),
  },
  (t) => [primaryKey({ columns: [t.tenantId, t.id] })],
)

/** A worker process, for status views only. */
export const worker = app.table('worker', {
  id: text().primaryKey(),
  host: text().notNull(),
  pid: integer().notNull(),
  version: text().notNull().default(''),
  queues: text().array().notNull(),
  /** The tenants that it serves; null for all. */
  tenants: text().array(),
  capacity: integer().notNull(),
  running: integer().notNull().default(0),
  draining: boolean().notNull().default(false),
  startedAt: at('started_at').notNull().defaultNow(),
  lastSeen: at('last_seen').notNull().defaultNow(),
  /** Where it takes reads; null when it takes none. */
  readerUrl: text('reader_url'),
  /** What names its folder; null for the only worker. */
  folder: text(),
})

/** The platform's own switch over all queues: one row. Steps that started before `releaseBefore` are given back. */
export const systemControl = app.table('system_control', {
  onlyRow: boolean('only_row').primaryKey().default(true),
  desired: text().$type<'running' | 'stopped'>().notNull().default('running'),
  pausedBy: text('paused_by'),
  pausedAt: at('paused_at'),
  releaseBefore: at('release_before')
    .notNull()
    .default(sql`'-infinity'`),
})
