import { sql } from 'drizzle-orm'
import type { Tx } from './db/db.ts'

/** What was done: `action` is `<thing>.<verb in the past>`, `target` an id. `details` never hold a secret. */
export type AuditEntry = {
  tenantId: string
  actor: string
  action: string
  target: string
  requestId?: string | undefined
  details?: Record<string, unknown>
}

/**
 * Adds a row to the tenant's audit log in the transaction of the change: without the row there is no change. The row is
 * linked into the chain, and can be read, when the transaction commits.
 */
export async function audit(tx: Tx, entry: AuditEntry): Promise<void> {
  const { tenantId, actor, action, target, requestId = null, details = {} } = entry
  await tx.execute(
    sql`select app.audit(${tenantId}, ${actor}, ${action}, ${target}, ${requestId}, ${JSON.stringify(details)}::jsonb)`,
  )
}
