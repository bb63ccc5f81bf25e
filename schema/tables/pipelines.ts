import { integer, primaryKey, text, timestamp } from 'drizzle-orm/pg-core'
import { app } from './app.ts'

/** A pipeline that a tenant can run: its own, or a template that it has used. */
export const pipeline = app.table(
  'pipeline',
  {
    tenantId: text('tenant_id').notNull(),
    id: text().notNull(),
    /** `<provider>/<domain>/<template>`, the public name. */
    path: text().notNull(),
    origin: text().$type<'tenant' | 'template'>().notNull(),
    currentVersion: integer('current_version').notNull(),
    createdAt: timestamp('created_at', { withTimezone: true }).notNull().defaultNow(),
    updatedAt: timestamp('updated_at', { withTimezone: true }).notNull().defaultNow(),
  },
  (t) => [primaryKey({ columns: [t.tenantId, t.id] })],
)

/** The text of a pipeline as it was saved; runs name the version they ran. */
export const pipelineVersion = app.table(
  'pipeline_version',
  {
    tenantId: text('tenant_id').notNull(),
    pipelineId: text('pipeline_id').notNull(),
    version: integer().notNull(),
    yaml: text().notNull(),
    sha256: text().notNull(),
    createdBy: text('created_by').notNull(),
    createdAt: timestamp('created_at', { withTimezone: true }).notNull().defaultNow(),
  },
  (t) => [primaryKey({ columns: [t.tenantId, t.pipelineId, t.version] })],
)
