import { eq } from 'drizzle-orm'
import { z } from 'zod'
import {
  platformTenantId,
  roleScopes,
  type Scope,
  scopes,
  systemRoles,
  tenantRoles,
  tenantScopes,
} from '../../schema/roles.ts'
import { apiKey, tenant } from '../../schema/tables/index.ts'
import { audit } from '../../shared/audit.ts'
import { type Tx, withTenant } from '../../shared/db/db.ts'
import { AppError } from '../../shared/errors.ts'
import { makeApiKey } from '../../shared/secrets/api-key.ts'
import { holds } from '../auth/api-key.ts'
import { type Auth, authOf, type Context } from '../context.ts'
import type { ApiKeyRow } from './graphql.ts'
import { endOf, grantable, keyOwner, refuseMore } from './key-rights.ts'

const inputShape = z.object({
  tenantId: z.string().nullish(),
  name: z.string().min(1).max(100),
  scopes: z.array(z.enum(scopes)).min(1).nullish(),
  role: z.enum([...tenantRoles, ...systemRoles]).nullish(),
  expiresAt: z.date().nullish(),
})

/**
 * Makes a key for an active tenant: with the scopes named, those of a role, or by default all that the caller can give a
 * tenant. It ends at `expiresAt` and no later than the key that makes it. The token is in this answer and nowhere else.
 * Throws BAD_INPUT, NOT_FOUND, TENANT_NOT_ACTIVE, FORBIDDEN for a scope that the caller has not.
 */
export async function createApiKey(
  context: Context,
  given: z.input<typeof inputShape>,
): Promise<{ apiKey: ApiKeyRow; token: string }> {
  const tenantId = keyOwner(context, given.tenantId)
  const parsed = inputShape.safeParse(given)
  if (!parsed.success) throw new AppError('BAD_INPUT', 'A key needs a name of 1 to 100 characters and a scope.')
  const auth = authOf(context)
  const wanted = wantedScopes(auth, tenantId, parsed.data)
  const expiresAt = endOf(context, parsed.data.expiresAt)
  return withTenant(context.ports.db, { tenantId, side: 'api' }, async (tx) => {
    const [owner] = await tx.select({ status: tenant.status }).from(tenant).where(eq(tenant.id, tenantId))
    if (!owner) throw new AppError('NOT_FOUND', 'There is no such tenant.')
    if (owner.status !== 'active') throw new AppError('TENANT_NOT_ACTIVE', 'This tenant is not active.')
    return insertApiKey(tx, {
      tenantId,
      name: parsed.data.name,
      scopes: wanted,
      expiresAt,
      actor: auth.actor,
      requestId: context.requestId,
    })
  })
}

function wantedScopes(auth: Auth, tenantId: string, input: z.output<typeof inputShape>): readonly Scope[] {
  if (input.scopes && input.role)
    throw new AppError('BAD_INPUT', 'A key is made for scopes or for a role, not for both.')
  const named = input.scopes ?? (input.role ? roleScopes[input.role] : undefined)
  const isOfPlatform = tenantId === platformTenantId
  // What a key of the platform may do is never left to a default.
  if (!named && isOfPlatform) throw new AppError('BAD_INPUT', 'A key of the platform needs scopes or a role.')
  if (!isOfPlatform && holds(auth, 'platform:admin') && named?.some((scope) => !tenantScopes.includes(scope)))
    throw new AppError('BAD_INPUT', 'A key of a tenant holds scopes of tenants only.')
  if (named) refuseMore(auth, tenantId, named)
  return named ?? grantable(auth, tenantId)
}

/** Writes a new key and its audit row in the caller's transaction. */
export async function insertApiKey(
  tx: Tx,
  key: {
    tenantId: string
    name: string
    scopes: readonly Scope[]
    expiresAt: Date | null
    actor: string
    requestId: string
  },
): Promise<{ apiKey: ApiKeyRow; token: string }> {
  const made = await makeApiKey()
  const [row] = await tx
    .insert(apiKey)
    .values({
      tenantId: key.tenantId,
      id: made.id,
      name: key.name,
      secretHash: made.secretHash,
      scopes: [...key.scopes],
      createdBy: key.actor,
      expiresAt: key.expiresAt,
    })
    .returning()
  if (!row) throw new Error('an insert answered no row')
  await audit(tx, {
    tenantId: key.tenantId,
    actor: key.actor,
    action: 'api_key.created',
    target: made.id,
    requestId: key.requestId,
    details: { name: key.name, scopes: key.scopes },
  })
  return { apiKey: row, token: made.token }
}
