import { boolean, text, timestamp } from 'drizzle-orm/pg-core'
import { app } from './app.ts'

/** Where a tenant's lake is, and the worker that has it open: until `until` no other one claims for the tenant. */
export const tenantHome = app.table('tenant_home', {
  tenantId: text('tenant_id').primaryKey(),
  folder: text().notNull(),
  worker: text(),
  until: timestamp({ withTimezone: true }).notNull(),
  /** False before its first step: until then it may still go to another folder. */
  settled: boolean().notNull().default(false),
})

/** Work that one of all workers does at a time, and when it is due next. */
export const houseTurn = app.table('house_turn', {
  name: text().primaryKey(),
  dueAt: timestamp('due_at', { withTimezone: true }).notNull(),
})
