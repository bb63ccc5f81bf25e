import { text, timestamp } from 'drizzle-orm/pg-core'
import { app } from './app.ts'

/** The worker that has a tenant's lake open; until `until` no other one claims for the tenant. */
export const tenantHome = app.table('tenant_home', {
  tenantId: text('tenant_id').primaryKey(),
  worker: text().notNull(),
  until: timestamp({ withTimezone: true }).notNull(),
})

/** Work that one of all workers does at a time, and when it is due next. */
export const houseTurn = app.table('house_turn', {
  name: text().primaryKey(),
  dueAt: timestamp('due_at', { withTimezone: true }).notNull(),
})
