import { bigint, jsonb, primaryKey, text, timestamp } from 'drizzle-orm/pg-core'
import { app } from './app.ts'

const entry = {
  tenantId: text('tenant_id').notNull(),
  id: text().notNull(),
  at: timestamp({ withTimezone: true }).notNull(),
  actor: text().notNull(),
  action: text().notNull(),
  target: text().notNull(),
  requestId: text('request_id'),
  details: jsonb().$type<Record<string, unknown>>().notNull(),
}

/** What was done, by whom, to what: a chain per tenant, written at the commit of the change and never changed. */
export const auditEvent = app.table(
  'audit_event',
  {
    ...entry,
    seq: bigint({ mode: 'number' }).notNull(),
    prevHash: text('prev_hash').notNull(),
    hash: text().notNull(),
  },
  (t) => [primaryKey({ columns: [t.tenantId, t.id] })],
)

/** What a transaction will add to the log when it commits; empty for everyone else. */
export const auditDraft = app.table('audit_draft', entry, (t) => [primaryKey({ columns: [t.tenantId, t.id] })])

/** The last link of each tenant's chain. */
export const auditHead = app.table('audit_head', {
  tenantId: text('tenant_id').primaryKey(),
  seq: bigint({ mode: 'number' }).notNull(),
  hash: text().notNull(),
})
