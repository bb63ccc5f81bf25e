import { integer, jsonb, primaryKey, text, timestamp } from 'drizzle-orm/pg-core'
import type { SealedData } from '../sealed.ts'
import { app } from './app.ts'

/** A secret of a tenant for one system on the other end, sealed with the tenant's data key. */
export const credential = app.table(
  'credential',
  {
    tenantId: text('tenant_id').notNull(),
    id: text().notNull(),
    name: text().notNull(),
    provider: text().notNull(),
    version: integer().notNull(),
    sealed: jsonb().$type<SealedData>().notNull(),
    createdBy: text('created_by').notNull(),
    createdAt: timestamp('created_at', { withTimezone: true }).notNull().defaultNow(),
    updatedAt: timestamp('updated_at', { withTimezone: true }).notNull().defaultNow(),
    /** Only an active one is opened for pipelines. */
    status: text().$type<'pending' | 'active' | 'failed'>().notNull().default('active'),
    /** Why the test of a failed one failed; `host_key` is what an SFTP server showed. */
    problem: jsonb().$type<{ code: string; message: string; hint?: string; host_key?: string }>(),
    /** The run that tries it out. */
    checkRun: text('check_run'),
  },
  (t) => [primaryKey({ columns: [t.tenantId, t.id] })],
)

/** When a value of a credential came and who brought it. It goes with the credential. */
export const credentialVersion = app.table(
  'credential_version',
  {
    tenantId: text('tenant_id').notNull(),
    credentialId: text('credential_id').notNull(),
    version: integer().notNull(),
    provider: text().notNull(),
    createdBy: text('created_by').notNull(),
    createdAt: timestamp('created_at', { withTimezone: true }).notNull().defaultNow(),
  },
  (t) => [primaryKey({ columns: [t.tenantId, t.credentialId, t.version] })],
)
