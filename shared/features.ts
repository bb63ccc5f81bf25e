import { eq } from 'drizzle-orm'
import { type Feature, featureOfProcessor, features, isOn } from '../schema/config/features.ts'
import { tenant } from '../schema/tables/index.ts'
import type { Tx } from './db/db.ts'
import { AppError } from './errors.ts'

/**
 * Throws FEATURE_OFF for steps of a processor whose feature the platform has switched off for the tenant. What the tenant
 * itself switches off is passed over when its turn comes.
 */
export async function refuseWithoutFeature(
  tx: Tx,
  tenantId: string,
  steps: readonly { key: string; ps_type: string }[],
): Promise<void> {
  const gated = steps.flatMap(({ key, ps_type }) => {
    const feature = featureOfProcessor[ps_type]
    return feature && features[feature].setBy === 'platform' ? [{ key, feature }] : []
  })
  if (gated.length === 0) return
  const switches = await switchesOf(tx, tenantId)
  const off = gated.find(({ feature }) => !isOn(feature, switches))
  if (off) throw featureOff(off.feature, `steps.${off.key}`)
}

/** Throws FEATURE_OFF unless the feature is on for the tenant. */
export async function needFeature(tx: Tx, tenantId: string, feature: Feature): Promise<void> {
  if (!isOn(feature, await switchesOf(tx, tenantId))) throw featureOff(feature)
}

/** What was switched on or off for a tenant. */
export async function switchesOf(tx: Tx, tenantId: string): Promise<Partial<Record<Feature, boolean>>> {
  const [row] = await tx.select({ features: tenant.features }).from(tenant).where(eq(tenant.id, tenantId))
  return row?.features ?? {}
}

const featureOff = (feature: Feature, path?: string): AppError =>
  new AppError(
    'FEATURE_OFF',
    `The feature ${feature} is off for this tenant.`,
    path === undefined ? {} : { place: { path } },
  )
