import { eq, sql } from 'drizzle-orm'
import { platformTenantId } from '../../schema/roles.ts'
import { tenant } from '../../schema/tables/index.ts'
import { audit } from '../../shared/audit.ts'
import { type Tx, withTenant } from '../../shared/db/db.ts'
import { AppError } from '../../shared/errors.ts'
import { forgetKeys } from '../auth/forget-keys.ts'
import { authOf, type Context } from '../context.ts'

/** A tenant's row. */
export type TenantRow = typeof tenant.$inferSelect

/**
 * Halts a tenant: no new run starts, those that are there go on to their end, and its keys read but change nothing. When
 * it returns, no start is on its way any more. A repeat changes nothing. Throws NOT_FOUND, and CONFLICT for a tenant
 * that is neither active nor suspended.
 */
export function suspendTenant(context: Context, tenantId: string): Promise<TenantRow> {
  return inLockedTenant(context, tenantId, async (tx, row) => {
    if (row.status === 'suspended') return row
    if (row.status !== 'active') throw new AppError('CONFLICT', `This tenant is ${row.status}.`)
    return moveTo(context, tx, row, 'suspended')
  })
}

/**
 * Lets a suspended tenant work again. A repeat changes nothing. Throws NOT_FOUND, and CONFLICT for a tenant in another
 * state or one whose offboarding has begun.
 */
export function resumeTenant(context: Context, tenantId: string): Promise<TenantRow> {
  return inLockedTenant(context, tenantId, async (tx, row) => {
    if (row.status === 'active') return row
    if (row.status !== 'suspended') throw new AppError('CONFLICT', `This tenant is ${row.status}.`)
    if (row.dismantled.length > 0)
      throw new AppError('CONFLICT', 'The offboarding of this tenant has begun.', {
        hint: 'Repeat offboardTenant to finish it.',
      })
    return moveTo(context, tx, row, 'active')
  })
}

/**
 * Works on a tenant whose row is held, while no run of it can start. Throws NOT_FOUND, and BAD_INPUT for the platform,
 * which nobody halts.
 */
export function inLockedTenant<T>(
  context: Context,
  tenantId: string,
  work: (tx: Tx, row: TenantRow) => Promise<T>,
): Promise<T> {
  if (tenantId === platformTenantId)
    throw new AppError('BAD_INPUT', 'The platform itself has no such life.', { place: { path: 'tenantId' } })
  return withTenant(context.ports.db, { tenantId, side: 'api' }, async (tx) => {
    // The lock of start_run: one that read the status before this change has committed its run by then.
    await tx.execute(sql`select pg_advisory_xact_lock(hashtextextended('start_run ' || ${tenantId}, 0))`)
    // Rows that refer to the tenant are still written: who holds one of its keys must come to the audit row.
    const [row] = await tx.select().from(tenant).where(eq(tenant.id, tenantId)).for('no key update')
    if (!row) throw new AppError('NOT_FOUND', 'There is no such tenant.', { place: { path: 'tenantId' } })
    return work(tx, row)
  })
}

/** Gives a tenant another status, with the audit row, in the caller's transaction. */
export async function moveTo(
  context: Context,
  tx: Tx,
  row: TenantRow,
  status: 'active' | 'suspended' | 'offboarded',
): Promise<TenantRow> {
  await tx.update(tenant).set({ status }).where(eq(tenant.id, row.id))
  await audit(tx, {
    tenantId: row.id,
    actor: authOf(context).actor,
    action: status === 'active' ? 'tenant.resumed' : `tenant.${status}`,
    target: row.id,
    requestId: context.requestId,
    details: { from: row.status },
  })
  await forgetKeys(context, tx, row.id)
  return { ...row, status }
}
