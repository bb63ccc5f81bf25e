import { plans, tenantConfiguration } from '../../schema/config/tenant.ts'
import { platformTenantId, type Scope } from '../../schema/roles.ts'
import { apiKey, tenant } from '../../schema/tables/index.ts'
import { audit } from '../../shared/audit.ts'
import { withTenant } from '../../shared/db/db.ts'
import type { Ports } from '../../shared/ports.ts'
import { makeApiKey } from '../../shared/secrets/api-key.ts'

const platformScopes: Scope[] = ['platform:admin', 'tenant:read', 'audit:read']

/**
 * Makes the platform's own tenant and its first key, once in the life of a database. Answers the key's token only to the
 * call that made it: it is kept nowhere. Safe to call at every start and from several processes.
 */
export function createPlatform(ports: Pick<Ports, 'db' | 'clock'>): Promise<{ token: string } | undefined> {
  return withTenant(ports.db, { tenantId: platformTenantId, side: 'api' }, async (tx) => {
    const made = await tx
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
      .returning({ id: tenant.id })
    if (made.length === 0) return undefined
    const key = await makeApiKey()
    await tx.insert(apiKey).values({
      tenantId: platformTenantId,
      id: key.id,
      name: 'first key',
      secretHash: key.secretHash,
      scopes: platformScopes,
      createdBy: 'system:bootstrap',
    })
    await audit(tx, {
      tenantId: platformTenantId,
      actor: 'system:bootstrap',
      action: 'platform.created',
      target: key.id,
      details: { scopes: platformScopes },
    })
    return { token: key.token }
  })
}
