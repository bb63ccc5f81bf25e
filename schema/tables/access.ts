import { primaryKey, text, timestamp } from 'drizzle-orm/pg-core'
import type { Role } from '../roles.ts'
import { app } from './app.ts'

/** A person of a tenant. A deleted one keeps its id and nothing personal. */
export const tenantUser = app.table(
  'tenant_user',
  {
    tenantId: text('tenant_id').notNull(),
    id: text().notNull(),
    email: text().notNull(),
    username: text().notNull(),
    firstName: text('first_name').notNull().default(''),
    lastName: text('last_name').notNull().default(''),
    status: text().$type<'invited' | 'active' | 'deactivated' | 'deleted'>().notNull().default('invited'),
    createdAt: timestamp('created_at', { withTimezone: true }).notNull().defaultNow(),
  },
  (t) => [primaryKey({ columns: [t.tenantId, t.id] })],
)

/** A role that a person has: of the platform for its own people, of tenants for all others. */
export const userRole = app.table(
  'user_role',
  {
    tenantId: text('tenant_id').notNull(),
    userId: text('user_id').notNull(),
    role: text().$type<Role>().notNull(),
  },
  (t) => [primaryKey({ columns: [t.tenantId, t.userId, t.role] })],
)

/** A key for programs. Only a hash of its secret is kept. */
export const apiKey = app.table(
  'api_key',
  {
    tenantId: text('tenant_id').notNull(),
    id: text().notNull(),
    name: text().notNull(),
    secretHash: text('secret_hash').notNull(),
    scopes: text().array().notNull(),
    createdBy: text('created_by').notNull(),
    createdAt: timestamp('created_at', { withTimezone: true }).notNull().defaultNow(),
    expiresAt: timestamp('expires_at', { withTimezone: true }),
    revokedAt: timestamp('revoked_at', { withTimezone: true }),
    lastUsedAt: timestamp('last_used_at', { withTimezone: true }),
    /** The key that `rotateApiKey` made in its place. */
    replacedBy: text('replaced_by'),
  },
  (t) => [primaryKey({ columns: [t.tenantId, t.id] })],
)
