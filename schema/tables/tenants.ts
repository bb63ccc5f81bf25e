import { sql } from 'drizzle-orm'
import { bigint, boolean, doublePrecision, integer, jsonb, primaryKey, text, timestamp } from 'drizzle-orm/pg-core'
import type { Feature } from '../config/features.ts'
import type { CountedQuota } from '../config/quotas.ts'
import { type PlanLimits, plans, type TenantConfiguration } from '../config/tenant.ts'
import type { QueueState, QueueType, TenantState } from '../states.ts'
import { app } from './app.ts'

/** A customer of the operator: profile, plan, life and the five sections of its configuration. */
export const tenant = app.table('tenant', {
  id: text().primaryKey(),
  name: text().notNull(),
  companyName: text('company_name').notNull(),
  adminEmail: text('admin_email').notNull(),
  plan: text().notNull(),
  status: text().$type<TenantState>().notNull().default('provisioning'),
  configuration: jsonb().$type<TenantConfiguration>().notNull(),
  /** Provisioning steps that are done; a repeat of onboarding goes on after them. */
  provisioned: text()
    .array()
    .notNull()
    .default(sql`'{}'`),
  /** Steps of offboarding that are done; a tenant with any is on its way out. */
  dismantled: text()
    .array()
    .notNull()
    .default(sql`'{}'`),
  createdAt: timestamp('created_at', { withTimezone: true }).notNull().defaultNow(),
  activatedAt: timestamp('activated_at', { withTimezone: true }),
  /** Grows with every change of its settings. */
  version: integer().notNull().default(1),
  /** Features that were switched on or off for it; the others stand at their defaults. */
  features: jsonb().$type<Partial<Record<Feature, boolean>>>().notNull().default({}),
})

/**
 * What the tenant may use: its plan's numbers with the overrides of the platform. Counts, runs and rows are enforced by the
 * database, points by the API, storage by the worker, memory and threads by the tenant's process.
 */
export const tenantLimit = app.table('tenant_limit', {
  tenantId: text('tenant_id').primaryKey(),
  maxRunningTotal: integer('max_running_total').notNull(),
  maxQueuedRuns: integer('max_queued_runs').notNull(),
  memoryBytes: bigint('memory_bytes', { mode: 'number' }).notNull(),
  threads: integer().notNull(),
  diskBytes: bigint('disk_bytes', { mode: 'number' }).notNull(),
  runsPerMonth: bigint('runs_per_month', { mode: 'number' }).notNull().default(plans.STARTER.runsPerMonth),
  rowsPerMonth: bigint('rows_per_month', { mode: 'number' }).notNull().default(plans.STARTER.rowsPerMonth),
  apiPointsPerMinute: integer('api_points_per_minute').notNull().default(plans.STARTER.apiPointsPerMinute),
  maxMembers: integer('max_members').notNull().default(plans.STARTER.maxMembers),
  maxApiKeys: integer('max_api_keys').notNull().default(plans.STARTER.maxApiKeys),
  maxCredentials: integer('max_credentials').notNull().default(plans.STARTER.maxCredentials),
  maxPipelines: integer('max_pipelines').notNull().default(plans.STARTER.maxPipelines),
  /** What the platform set beside the plan; it outlives a change of the plan. */
  overrides: jsonb().$type<Partial<PlanLimits>>().notNull().default({}),
  /** Share of the workers' time beside other tenants that want it too. */
  weight: integer().notNull().default(1),
})

/** The worker time that a tenant has had; its place in the order of turns follows from it. Milliseconds. */
export const tenantTurn = app.table('tenant_turn', {
  tenantId: text('tenant_id').primaryKey(),
  /** Its worker time over its weight. */
  virtualMs: doublePrecision('virtual_ms').notNull().default(0),
  /** What a step of it takes, the last ones counting most. */
  averageMs: doublePrecision('average_ms').notNull().default(1000),
  /** Its worker time in all. */
  workerMs: doublePrecision('worker_ms').notNull().default(0),
  /** Steps that it runs now, over all its queues. */
  running: integer().notNull().default(0),
})

/** Where the turns of a queue type stand. */
export const turnClock = app.table('turn_clock', {
  queue: text().$type<QueueType>().primaryKey(),
  virtualMs: doublePrecision('virtual_ms').notNull().default(0),
})

/** What is used of a quota; `period` is a month in UTC (2026-11), or empty for what a tenant has. */
export const tenantUsage = app.table(
  'tenant_usage',
  {
    tenantId: text('tenant_id').notNull(),
    quota: text().$type<CountedQuota>().notNull(),
    period: text().notNull(),
    used: bigint({ mode: 'number' }).notNull().default(0),
    warned: integer().notNull().default(0),
    warnedIn: text('warned_in').notNull().default(''),
    updatedAt: timestamp('updated_at', { withTimezone: true })
      .notNull()
      .default(sql`clock_timestamp()`),
  },
  (t) => [primaryKey({ columns: [t.tenantId, t.quota, t.period] })],
)

/** Values that a tenant's pipelines take in one of its surroundings. */
export const tenantEnvironment = app.table(
  'tenant_environment',
  {
    tenantId: text('tenant_id').notNull(),
    name: text().notNull(),
    variables: jsonb().$type<Record<string, string | number | boolean | null>>().notNull().default({}),
    /** Name in the pipeline, or provider where it names none, and the credential to open instead. */
    credentials: jsonb().$type<Record<string, string>>().notNull().default({}),
    version: integer().notNull().default(1),
    createdAt: timestamp('created_at', { withTimezone: true }).notNull().defaultNow(),
    updatedAt: timestamp('updated_at', { withTimezone: true }).notNull().defaultNow(),
  },
  (t) => [primaryKey({ columns: [t.tenantId, t.name] })],
)

/** A logical queue of one tenant and type. */
export const tenantQueue = app.table(
  'tenant_queue',
  {
    tenantId: text('tenant_id').notNull(),
    queue: text().$type<QueueType>().notNull(),
    desired: text().$type<QueueState>().notNull().default('running'),
    generation: bigint({ mode: 'number' }).notNull().default(1),
    maxRunning: integer('max_running').notNull().default(2),
    quantum: integer().notNull().default(1),
    running: integer().notNull().default(0),
    turnAt: timestamp('turn_at', { withTimezone: true })
      .notNull()
      .default(sql`'-infinity'`),
    nextReadyAt: timestamp('next_ready_at', { withTimezone: true })
      .notNull()
      .default(sql`'infinity'`),
    hasReady: boolean('has_ready')
      .notNull()
      .generatedAlwaysAs(sql`next_ready_at < 'infinity'`),
    /** Where its next turn starts, and the tenant's `virtualMs` when that was reckoned. */
    turnMs: doublePrecision('turn_ms').notNull().default(0),
    chargedMs: doublePrecision('charged_ms').notNull().default(0),
    pausedBy: text('paused_by'),
    pausedAt: timestamp('paused_at', { withTimezone: true }),
  },
  (t) => [primaryKey({ columns: [t.tenantId, t.queue] })],
)

/** A version of a tenant's data key, or as version 0 the key of its lake, wrapped by the platform key that is named. */
export const tenantKey = app.table(
  'tenant_key',
  {
    tenantId: text('tenant_id').notNull(),
    version: integer().notNull(),
    platformKeyId: text('platform_key_id').notNull(),
    wrappedKey: text('wrapped_key').notNull(),
    state: text().$type<'current' | 'retired' | 'destroyed' | 'lake'>().notNull().default('current'),
    createdAt: timestamp('created_at', { withTimezone: true }).notNull().defaultNow(),
  },
  (t) => [primaryKey({ columns: [t.tenantId, t.version] })],
)
