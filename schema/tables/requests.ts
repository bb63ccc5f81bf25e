import { jsonb, primaryKey, text, timestamp } from 'drizzle-orm/pg-core'
import type { SealedData } from '../sealed.ts'
import { app } from './app.ts'

const moment = (name: string) => timestamp(name, { withTimezone: true })

/** A request that has its effect once. Without `answeredAt` it is at work; an `answer` that is null then is no longer kept. */
export const idempotentRequest = app.table(
  'idempotent_request',
  {
    tenantId: text('tenant_id').notNull(),
    mutation: text().notNull(),
    key: text().notNull(),
    actor: text().notNull(),
    inputHash: text('input_hash').notNull(),
    claimedBy: text('claimed_by').notNull(),
    claimedUntil: moment('claimed_until').notNull(),
    answeredAt: moment('answered_at'),
    answer: jsonb().$type<unknown>(),
    secret: jsonb().$type<SealedData>(),
    expiresAt: moment('expires_at').notNull(),
  },
  (t) => [primaryKey({ columns: [t.tenantId, t.mutation, t.key] })],
)

/** The signature of a delivery from outside that was taken, until it could be good no more. Of no tenant. */
export const seenDelivery = app.table('seen_delivery', {
  id: text().primaryKey(),
  endsAt: moment('ends_at').notNull(),
})
