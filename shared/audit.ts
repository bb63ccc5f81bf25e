import { sql } from 'drizzle-orm'
import { sealPersonal } from './audit-personal.ts'
import type { Tx } from './db/db.ts'
import type { SecretBox } from './secrets/secret-box.ts'

/** What was done: `action` is `<thing>.<verb in the past>`, `target` an id. `details` hold no secret and nothing personal. */
export type AuditEntry = {
  tenantId: string
  actor: string
  action: string
  target: string
  requestId?: string | undefined
  details?: Record<string, unknown>
}

/**
 * What is personal in an entry (addresses, names, where somebody came from) and whom it is about: the id of a person, or
 * of the tenant. Erasing that subject makes it unreadable, and the chain stays as it is.
 */
export type PersonalDetails = { subject: string; personal: Record<string, string> }

/**
 * Adds a row to the tenant's audit log in the transaction of the change: without the row there is no change. The row is
 * linked into the chain, and can be read, when the transaction commits. With `personal` it takes the secret box, which
 * seals it under the subject's own key; that of an erased subject is left out.
 */
export async function audit(tx: Tx, entry: AuditEntry): Promise<void>
export async function audit(tx: Tx, entry: AuditEntry & PersonalDetails, secrets: SecretBox): Promise<void>
export async function audit(tx: Tx, entry: AuditEntry & Partial<PersonalDetails>, secrets?: SecretBox): Promise<void> {
  const { tenantId, actor, action, target, requestId = null, details = {}, subject, personal } = entry
  const sealed =
    secrets && subject !== undefined && personal !== undefined
      ? await sealPersonal(tx, secrets, { tenantId, subject, action, target }, personal)
      : null
  await tx.execute(
    sql`select app.audit(${tenantId}, ${actor}, ${action}, ${target}, ${requestId}, ${JSON.stringify(details)}::jsonb,
          ${subject ?? null}, ${sealed})`,
  )
}
