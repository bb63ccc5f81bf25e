import { auditEvent } from '../schema/tables/index.ts'
import type { Tx } from './db/db.ts'
import { newId } from './ids.ts'

/** What was done: `action` is `<thing>.<verb in the past>`, `target` an id. `details` never hold a secret. */
export type AuditEntry = {
  tenantId: string
  actor: string
  action: string
  target: string
  requestId?: string | undefined
  details?: Record<string, unknown>
}

/** Writes an audit row in the transaction of the change: without the row there is no change. */
export async function audit(tx: Tx, entry: AuditEntry): Promise<void> {
  await tx.insert(auditEvent).values({
    tenantId: entry.tenantId,
    id: newId('audit'),
    actor: entry.actor,
    action: entry.action,
    target: entry.target,
    requestId: entry.requestId ?? null,
    details: entry.details ?? {},
  })
}
