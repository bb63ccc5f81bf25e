import { eq } from 'drizzle-orm'
import { type Feature, features, isOn } from '../../schema/config/features.ts'
import { tenant } from '../../schema/tables/index.ts'
import { audit } from '../../shared/audit.ts'
import { withTenant } from '../../shared/db/db.ts'
import { AppError } from '../../shared/errors.ts'
import { holds } from '../auth/api-key.ts'
import { authOf, type Context } from '../context.ts'
import type { TenantRow } from '../tenants/suspend-tenant.ts'

/** A feature to switch; `tenantId` is for the platform, which may switch every feature of any tenant. */
export type FeatureSwitch = { feature: Feature; isOn: boolean; tenantId?: string | null | undefined }

/**
 * Switches a feature of a tenant on or off; runs that start from now on follow, and steps that start as well. A repeat
 * changes nothing. Throws BAD_INPUT for a feature that the platform keeps, NOT_FOUND for another tenant.
 */
export function setFeature(context: Context, given: FeatureSwitch): Promise<TenantRow> {
  const auth = authOf(context)
  const tenantId = given.tenantId ?? auth.tenantId
  const isPlatform = holds(auth, 'platform:admin')
  if (tenantId !== auth.tenantId && !isPlatform) throw missing()
  if (features[given.feature].setBy === 'platform' && !isPlatform)
    throw new AppError('BAD_INPUT', `The feature ${given.feature} is switched by the platform.`, {
      place: { path: 'feature' },
    })
  return withTenant(context.ports.db, { tenantId, side: 'api' }, async (tx) => {
    const [row] = await tx.select().from(tenant).where(eq(tenant.id, tenantId)).for('no key update')
    if (!row) throw missing()
    if (isOn(given.feature, row.features) === given.isOn) return row
    const next = { features: { ...row.features, [given.feature]: given.isOn }, version: row.version + 1 }
    await tx.update(tenant).set(next).where(eq(tenant.id, tenantId))
    await audit(tx, {
      tenantId,
      actor: auth.actor,
      action: given.isOn ? 'feature.switched_on' : 'feature.switched_off',
      target: given.feature,
      requestId: context.requestId,
    })
    return { ...row, ...next }
  })
}

const missing = (): AppError => new AppError('NOT_FOUND', 'There is no such tenant.', { place: { path: 'tenantId' } })
