import { eq } from 'drizzle-orm'
import { z } from 'zod'
import { type Scope, tenantScopes } from '../../schema/roles.ts'
import { apiKey, tenant } from '../../schema/tables/index.ts'
import { audit } from '../../shared/audit.ts'
import { type Tx, withTenant } from '../../shared/db/db.ts'
import { AppError } from '../../shared/errors.ts'
import { makeApiKey } from '../../shared/secrets/api-key.ts'
import { authOf, type Context } from '../context.ts'
import type { ApiKeyRow } from './graphql.ts'

const inputShape = z.object({
  tenantId: z.string(),
  name: z.string().min(1).max(100),
  scopes: z
    .array(z.enum(tenantScopes as readonly [Scope, ...Scope[]]))
    .min(1)
    .nullish(),
  expiresAt: z.date().nullish(),
})

/**
 * Makes a key for an active tenant; default: every scope that a tenant's key can hold, no end. The token is in this
 * answer and nowhere else. Throws BAD_INPUT, NOT_FOUND, TENANT_NOT_ACTIVE.
 */
export async function createApiKey(
  context: Context,
  given: z.input<typeof inputShape>,
): Promise<{ apiKey: ApiKeyRow; token: string }> {
  const parsed = inputShape.safeParse(given)
  if (!parsed.success)
    throw new AppError('BAD_INPUT', 'A key needs a name of 1 to 100 characters and scopes of a tenant.')
  const input = parsed.data
  const { actor } = authOf(context)
  return withTenant(context.ports.db, { tenantId: input.tenantId, side: 'api' }, async (tx) => {
    const [owner] = await tx.select({ status: tenant.status }).from(tenant).where(eq(tenant.id, input.tenantId))
    if (!owner) throw new AppError('NOT_FOUND', 'There is no such tenant.')
    if (owner.status !== 'active') throw new AppError('TENANT_NOT_ACTIVE', 'This tenant is not active.')
    return insertApiKey(tx, {
      tenantId: input.tenantId,
      name: input.name,
      scopes: input.scopes ?? tenantScopes,
      expiresAt: input.expiresAt ?? null,
      actor,
      requestId: context.requestId,
    })
  })
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
