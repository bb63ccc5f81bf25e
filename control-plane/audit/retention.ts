import { eq, sql } from 'drizzle-orm'
import { auditRetention, tenant } from '../../schema/tables/index.ts'
import { type Checkpoint, readCheckpoint } from '../../shared/audit-checkpoint.ts'
import { audit } from '../../shared/audit.ts'
import { type Tx, withTenant } from '../../shared/db/db.ts'
import { AppError } from '../../shared/errors.ts'
import { authOf, type Context } from '../context.ts'
import { lookInto } from './look-into.ts'

/** How long a log is kept, and where it begins since it was last cut. */
export type Retention = { tenantId: string; days: number; legalHold: boolean; checkpoint: Checkpoint | undefined }

/** Days that entries are kept when nobody said otherwise; `app.audit_cutoff` says the same. */
export const retentionDays = { default: 365, min: 30, max: 36_500 } as const

/** The retention of a tenant; default: that of the key. Throws NOT_FOUND for another one without `platform:audit`. */
export function readRetention(context: Context, given?: string | null): Promise<Retention> {
  const tenantId = given ?? authOf(context).tenantId
  return lookInto(context, tenantId, { what: 'audit retention', scopes: ['platform:audit'] }, (tx) =>
    retentionOf(tx, tenantId),
  )
}

/**
 * Changes how long a tenant's log is kept; what is absent stays. A legal hold keeps everything until it is lifted: when
 * this returns, no cut is on its way. Throws BAD_INPUT, NOT_FOUND.
 */
export function setRetention(
  context: Context,
  tenantId: string,
  given: { days?: number | null; legalHold?: boolean | null },
): Promise<Retention> {
  const { min, max } = retentionDays
  const { days } = given
  if (days != null && (days < min || days > max))
    throw new AppError('BAD_INPUT', `days must be ${min} to ${max}.`, { place: { path: 'days' } })
  return withTenant(context.ports.db, { tenantId, side: 'api' }, async (tx) => {
    const [owner] = await tx.select({ id: tenant.id }).from(tenant).where(eq(tenant.id, tenantId))
    if (!owner) throw new AppError('NOT_FOUND', 'There is no such tenant.', { place: { path: 'tenantId' } })
    // The lock of app.cut_audit.
    await tx.execute(sql`select pg_advisory_xact_lock(hashtextextended('audit_retention ' || ${tenantId}, 0))`)
    const before = await retentionOf(tx, tenantId)
    const set = { days: days ?? before.days, legalHold: given.legalHold ?? before.legalHold }
    if (set.days === before.days && set.legalHold === before.legalHold) return before
    await tx
      .insert(auditRetention)
      .values({ tenantId, ...set })
      .onConflictDoUpdate({ target: auditRetention.tenantId, set })
    await audit(tx, {
      tenantId,
      actor: authOf(context).actor,
      action: 'audit.retention_set',
      target: tenantId,
      requestId: context.requestId,
      details: { ...set, before: { days: before.days, legalHold: before.legalHold } },
    })
    return { ...before, ...set }
  })
}

async function retentionOf(tx: Tx, tenantId: string): Promise<Retention> {
  const [row] = await tx.select().from(auditRetention).where(eq(auditRetention.tenantId, tenantId))
  const checkpoint = await readCheckpoint(tx, tenantId)
  return { tenantId, days: row?.days ?? retentionDays.default, legalHold: row?.legalHold ?? false, checkpoint }
}
