import { plans, tenantConfiguration } from '../../schema/config/tenant.ts'
import { platformTenantId, roleScopes } from '../../schema/roles.ts'
import { apiKey, tenant } from '../../schema/tables/index.ts'
import { audit } from '../../shared/audit.ts'
import { withTenant } from '../../shared/db/db.ts'
import { AppError } from '../../shared/errors.ts'
import type { Ports } from '../../shared/ports.ts'
import { hashSecret, splitApiKey } from '../../shared/secrets/api-key.ts'

const platformScopes = [...roleScopes.PLATFORM_ADMIN]

/**
 * Makes the platform's own tenant with its data key, and `token` a key of it. The caller keeps the token safe before it calls: a crash in
 * between then loses nothing. Safe to call with the same token at every start; a key that was revoked stays revoked.
 * Throws BAD_INPUT when the token has not the form that `makeApiKey` gives.
 */
export async function createPlatform(ports: Pick<Ports, 'db' | 'clock' | 'secrets'>, token: string): Promise<void> {
  const parts = splitApiKey(token)
  if (!parts) throw new AppError('BAD_INPUT', "The platform's API key is not of the form key_<id>.<secret>.")
  const secretHash = await hashSecret(parts.secret)
  await withTenant(ports.db, { tenantId: platformTenantId, side: 'api' }, async (tx) => {
    await tx
      .insert(tenant)
      .values({
        id: platformTenantId,
        name: 'Platform',
        companyName: 'Platform',
        adminEmail: '',
        plan: 'STARTER' satisfies keyof typeof plans,
        status: 'active',
        configuration: tenantConfiguration.parse({}),
        activatedAt: ports.clock.now(),
      })
      .onConflictDoNothing()
    await ports.secrets.createTenantKey(tx, platformTenantId)
    const made = await tx
      .insert(apiKey)
      .values({
        tenantId: platformTenantId,
        id: parts.id,
        name: 'first key',
        secretHash,
        scopes: platformScopes,
        createdBy: 'system:bootstrap',
      })
      .onConflictDoNothing()
      .returning({ id: apiKey.id })
    if (made.length === 0) return
    await audit(tx, {
      tenantId: platformTenantId,
      actor: 'system:bootstrap',
      action: 'platform.created',
      target: parts.id,
      details: { scopes: platformScopes },
    })
  })
}
