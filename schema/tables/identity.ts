import { sql } from 'drizzle-orm'
import { boolean, integer, jsonb, primaryKey, text, timestamp } from 'drizzle-orm/pg-core'
import type { Role } from '../roles.ts'
import { app } from './app.ts'

const moment = (name: string) => timestamp(name, { withTimezone: true })

/** The hash of a person's password, with its parameters. */
export const userPassword = app.table(
  'user_password',
  {
    tenantId: text('tenant_id').notNull(),
    userId: text('user_id').notNull(),
    hash: text().notNull(),
    setAt: moment('set_at').notNull(),
  },
  (t) => [primaryKey({ columns: [t.tenantId, t.userId] })],
)

/** What a one-time link is for. */
export type LinkPurpose = 'activate' | 'reset'

/** The newest unused link of a person for a purpose. */
export const accountLink = app.table(
  'account_link',
  {
    tenantId: text('tenant_id').notNull(),
    userId: text('user_id').notNull(),
    purpose: text().$type<LinkPurpose>().notNull(),
    nonce: text().notNull(),
    keyId: text('key_id').notNull(),
    expiresAt: moment('expires_at').notNull(),
  },
  (t) => [primaryKey({ columns: [t.tenantId, t.userId, t.purpose] })],
)

/** Why a session is over. */
export type SessionEnd = 'logout' | 'reuse' | 'password' | 'deactivated' | 'deleted' | 'offboarded' | 'too_many'

/** A session of a person. Of its refresh tokens only hashes are kept: the secret of all, that of the newest and of the one before. */
export const session = app.table(
  'session',
  {
    tenantId: text('tenant_id').notNull(),
    id: text().notNull(),
    userId: text('user_id').notNull(),
    familyHash: text('family_hash').notNull(),
    tokenHash: text('token_hash').notNull(),
    previousHash: text('previous_hash'),
    startedAt: moment('started_at').notNull(),
    refreshedAt: moment('refreshed_at').notNull(),
    expiresAt: moment('expires_at').notNull(),
    endedAt: moment('ended_at'),
    endedWhy: text('ended_why').$type<SessionEnd>(),
  },
  (t) => [primaryKey({ columns: [t.tenantId, t.id] })],
)

/** Whose tokens a tenant accepts, beside its own sessions. */
export const identityProvider = app.table(
  'identity_provider',
  {
    tenantId: text('tenant_id').notNull(),
    issuer: text().notNull(),
    audience: text().notNull(),
    keysUrl: text('keys_url'),
    roleClaim: text('role_claim'),
    roleMap: jsonb('role_map').$type<Record<string, Role>>().notNull(),
    defaultRole: text('default_role').$type<Role>(),
    emailDomains: text('email_domains').array().notNull(),
    createsPeople: boolean('creates_people').notNull(),
    createdAt: moment('created_at').notNull().defaultNow(),
    updatedAt: moment('updated_at').notNull().defaultNow(),
  },
  (t) => [primaryKey({ columns: [t.tenantId, t.issuer] })],
)

/** The person behind a provider's subject. Tokens from before `notBefore` are refused. */
export const userIdentity = app.table(
  'user_identity',
  {
    tenantId: text('tenant_id').notNull(),
    issuer: text().notNull(),
    subject: text().notNull(),
    userId: text('user_id').notNull(),
    notBefore: moment('not_before')
      .notNull()
      .default(sql`'epoch'`),
  },
  (t) => [primaryKey({ columns: [t.tenantId, t.issuer, t.subject] })],
)

/** Failed sign-ins of an account or an address, by a number of 18 bits from a keyed hash. Of no tenant. */
export const loginBucket = app.table('login_bucket', {
  bucket: integer().primaryKey(),
  failures: integer().notNull(),
  endsAt: moment('ends_at').notNull(),
})
