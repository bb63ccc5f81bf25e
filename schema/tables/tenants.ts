import { sql } from 'drizzle-orm'
import { bigint, integer, jsonb, primaryKey, text, timestamp } from 'drizzle-orm/pg-core'
import type { TenantConfiguration } from '../config/tenant.ts'
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
})

/** What the plan allows. Running and queued are enforced by the ledger, the rest by the tenant's process. */
export const tenantLimit = app.table('tenant_limit', {
  tenantId: text('tenant_id').primaryKey(),
  maxRunningTotal: integer('max_running_total').notNull(),
  maxQueuedRuns: integer('max_queued_runs').notNull(),
  memoryBytes: bigint('memory_bytes', { mode: 'number' }).notNull(),
  threads: integer().notNull(),
  diskBytes: bigint('disk_bytes', { mode: 'number' }).notNull(),
})

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
    pausedBy: text('paused_by'),
    pausedAt: timestamp('paused_at', { withTimezone: true }),
  },
  (t) => [primaryKey({ columns: [t.tenantId, t.queue] })],
)

/** A version of a tenant's data key, wrapped by the platform key that is named. */
export const tenantKey = app.table(
  'tenant_key',
  {
    tenantId: text('tenant_id').notNull(),
    version: integer().notNull(),
    platformKeyId: text('platform_key_id').notNull(),
    wrappedKey: text('wrapped_key').notNull(),
    state: text().$type<'current' | 'retired' | 'destroyed'>().notNull().default('current'),
    createdAt: timestamp('created_at', { withTimezone: true }).notNull().defaultNow(),
  },
  (t) => [primaryKey({ columns: [t.tenantId, t.version] })],
)
