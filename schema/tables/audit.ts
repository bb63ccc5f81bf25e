import { bigint, boolean, integer, jsonb, primaryKey, text, timestamp } from 'drizzle-orm/pg-core'
import type { SealedData } from '../sealed.ts'
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
  /** Whom the personal details are about. */
  subject: text(),
  /** Personal details under the subject's key, `<iv>.<ciphertext>`. */
  personal: text(),
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

/** The keys that open personal details: one per subject, sealed with the tenant's data key until it is erased. */
export const auditSubject = app.table(
  'audit_subject',
  {
    tenantId: text('tenant_id').notNull(),
    subject: text().notNull(),
    sealed: jsonb().$type<SealedData>(),
    erasedAt: timestamp('erased_at', { withTimezone: true }),
  },
  (t) => [primaryKey({ columns: [t.tenantId, t.subject] })],
)

/** How long a tenant's log is kept when that is not the default. */
export const auditRetention = app.table('audit_retention', {
  tenantId: text('tenant_id').primaryKey(),
  days: integer().notNull(),
  legalHold: boolean('legal_hold').notNull(),
})

/** Where a log begins after a cut, signed by the platform. The newest counts. */
export const auditCheckpoint = app.table(
  'audit_checkpoint',
  {
    tenantId: text('tenant_id').notNull(),
    seq: bigint({ mode: 'number' }).notNull(),
    hash: text().notNull(),
    cutAt: timestamp('cut_at', { withTimezone: true }).notNull(),
    keyId: text('key_id').notNull(),
    signature: text().notNull(),
  },
  (t) => [primaryKey({ columns: [t.tenantId, t.seq] })],
)

/** Refusals that are counted and not yet written. */
export const auditDenial = app.table(
  'audit_denial',
  {
    tenantId: text('tenant_id').notNull(),
    actor: text().notNull(),
    action: text().notNull(),
    count: integer().notNull(),
    attempts: jsonb().$type<Record<string, number>>().notNull(),
    since: timestamp({ withTimezone: true }).notNull(),
    writtenAt: timestamp('written_at', { withTimezone: true }).notNull(),
  },
  (t) => [primaryKey({ columns: [t.tenantId, t.actor, t.action] })],
)
