import { sql } from 'drizzle-orm'
import type { LinkSeed } from './auth/account-link.ts'
import type { Tx } from './db/db.ts'
import { newId } from './ids.ts'

/**
 * A mail of the control plane's own. `dedupeKey` begins with `user.`: the database takes no other from this side. With a
 * `link`, who sends it puts the one-time link where the text says `{link}`: in the table stands no secret.
 */
export type OwnMail = {
  tenantId: string
  dedupeKey: `user.${string}`
  to: string[]
  subject: string
  text: string
  /** `page` is where the link leads, if the deployment has such a page. */
  link?: LinkSeed & { page: string | null }
}

/** Asks for a mail in the transaction of its cause; a worker sends it once that is committed. */
export async function putMail(tx: Tx, { tenantId, dedupeKey, ...payload }: OwnMail): Promise<void> {
  // Drizzle would name every column, and this side may fill these five only.
  await tx.execute(sql`
    insert into app.outbox (tenant_id, id, kind, dedupe_key, payload)
    values (${tenantId}, ${newId('outbox')}, 'email', ${dedupeKey}, ${JSON.stringify(payload)}::jsonb)`)
}
