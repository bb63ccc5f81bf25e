import { and, asc, eq } from 'drizzle-orm'
import { z } from 'zod'
import { type Role, systemRoles, tenantRoles } from '../../schema/roles.ts'
import { identityProvider } from '../../schema/tables/index.ts'
import { audit } from '../../shared/audit.ts'
import { AppError } from '../../shared/errors.ts'
import { type Context, inTenant, readInTenant } from '../context.ts'
import { lockPeople, refuseBeyond, refuseForeignRole } from '../users/change-user.ts'
import type { Provider } from './authenticate-provider.ts'
import { providerUrl } from './provider-url.ts'

const role = z.enum([...tenantRoles, ...systemRoles])
const inputShape = z.object({
  issuer: z.string().max(500),
  audience: z.string().min(1).max(255),
  keysUrl: z.string().max(500).nullish(),
  roleClaim: z.string().min(1).max(200).nullish(),
  roles: z
    .array(z.object({ value: z.string().min(1).max(200), role }))
    .max(100)
    .nullish(),
  defaultRole: role.nullish(),
  emailDomains: z
    .array(z.string().regex(/^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/i))
    .max(50)
    .nullish(),
  createsPeople: z.boolean().nullish(),
})

/** A provider to accept tokens of. */
export type ProviderInput = z.input<typeof inputShape>

const providersMax = 5

/**
 * Accepts tokens of an identity provider for the caller's tenant, or changes how. No role is mapped that may do more than the
 * caller. Throws BAD_INPUT that names the field, FORBIDDEN for such a role, CONFLICT for a sixth provider.
 */
export function configureProvider(context: Context, given: ProviderInput): Promise<Provider> {
  const input = checked(context, given)
  return inTenant(context, async (tx, auth) => {
    const { tenantId, actor } = auth
    await lockPeople(tx, tenantId)
    for (const one of [...Object.values(input.roleMap), ...(input.defaultRole ? [input.defaultRole] : [])]) {
      refuseForeignRole(tenantId, one)
      refuseBeyond(auth, [one])
    }
    const known = await tx
      .select({ issuer: identityProvider.issuer })
      .from(identityProvider)
      .where(eq(identityProvider.tenantId, tenantId))
    const isNew = !known.some(({ issuer }) => issuer === input.issuer)
    if (isNew && known.length >= providersMax)
      throw new AppError('CONFLICT', `A tenant has at most ${providersMax} identity providers.`)
    const [row] = await tx
      .insert(identityProvider)
      .values({ tenantId, ...input })
      .onConflictDoUpdate({
        target: [identityProvider.tenantId, identityProvider.issuer],
        set: { ...input, updatedAt: context.ports.clock.now() },
      })
      .returning()
    if (!row) throw new Error('an insert answered no row')
    const { issuer, ...details } = input
    await audit(tx, {
      tenantId,
      actor,
      action: isNew ? 'identity_provider.created' : 'identity_provider.changed',
      target: issuer,
      requestId: context.requestId,
      details,
    })
    return row
  })
}

/** Accepts no token of this issuer any more, and forgets whom its subjects stood for. Throws NOT_FOUND. */
export function removeProvider(context: Context, issuer: string): Promise<Provider> {
  return inTenant(context, async (tx, { tenantId, actor }) => {
    const [row] = await tx
      .delete(identityProvider)
      .where(and(eq(identityProvider.tenantId, tenantId), eq(identityProvider.issuer, issuer)))
      .returning()
    if (!row) throw new AppError('NOT_FOUND', 'There is no such identity provider.', { place: { path: 'issuer' } })
    const { requestId } = context
    await audit(tx, { tenantId, actor, action: 'identity_provider.removed', target: issuer, requestId })
    return row
  })
}

/** The providers of the caller's tenant, by issuer. */
export function listProviders(context: Context): Promise<Provider[]> {
  return readInTenant(context, (db, { tenantId }) =>
    db
      .select()
      .from(identityProvider)
      .where(eq(identityProvider.tenantId, tenantId))
      .orderBy(asc(identityProvider.issuer)),
  )
}

function checked(context: Context, given: ProviderInput) {
  const parsed = inputShape.safeParse(given)
  if (!parsed.success) throw unusable(String(parsed.error.issues[0]?.path[0] ?? 'input'))
  const { issuer, audience, keysUrl = null, roleClaim = null, roles, defaultRole = null } = parsed.data
  const { allowsLocalProviders } = context.identity
  if (providerUrl(issuer, allowsLocalProviders, 'issuer').search !== '') throw unusable('issuer')
  if (keysUrl !== null) providerUrl(keysUrl, allowsLocalProviders, 'keysUrl')
  if (roles && roles.length > 0 && roleClaim === null) throw unusable('roleClaim')
  const roleMap: Record<string, Role> = Object.fromEntries((roles ?? []).map(({ value, role }) => [value, role]))
  const emailDomains = [...new Set((parsed.data.emailDomains ?? []).map((domain) => domain.toLowerCase()))]
  const createsPeople = parsed.data.createsPeople ?? false
  return { issuer, audience, keysUrl, roleClaim, roleMap, defaultRole, emailDomains, createsPeople }
}

const unusable = (field: string): AppError =>
  new AppError('BAD_INPUT', `${field} is not usable.`, { place: { path: field } })
