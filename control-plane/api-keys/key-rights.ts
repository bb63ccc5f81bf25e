import { platformTenantId, type Scope, scopes, tenantScopes } from '../../schema/roles.ts'
import { AppError } from '../../shared/errors.ts'
import { holds } from '../auth/api-key.ts'
import { type Auth, authOf, type Context } from '../context.ts'

/**
 * The tenant whose keys the request is about: the given one, or that of the key. Only the platform names another: for
 * everybody else it is FORBIDDEN, whether there is such a tenant or not.
 */
export function keyOwner(context: Context, given: string | null | undefined): string {
  const auth = authOf(context)
  const tenantId = given ?? auth.tenantId
  if (tenantId === auth.tenantId || holds(auth, 'platform:admin')) return tenantId
  throw new AppError('FORBIDDEN', 'This key has no say over keys of another tenant.')
}

/** The scopes that the key can give to keys of this tenant: its own; the platform's, every one of a tenant. */
export function grantable(auth: Auth, tenantId: string): readonly Scope[] {
  if (tenantId === platformTenantId) return scopes.filter((scope) => auth.scopes.has(scope))
  return holds(auth, 'platform:admin') ? tenantScopes : tenantScopes.filter((scope) => auth.scopes.has(scope))
}

/** Throws FORBIDDEN when the key cannot give all of these scopes to keys of this tenant. */
export function refuseMore(auth: Auth, tenantId: string, wanted: readonly string[]): void {
  const own: readonly string[] = grantable(auth, tenantId)
  if (wanted.every((scope) => own.includes(scope))) return
  throw new AppError('FORBIDDEN', 'A key gives no scope that it has not itself.', {
    hint: 'Ask for fewer scopes, or use a key that has them all.',
  })
}

/** The end of a key that this one makes: the wanted one, but never later than its own. Throws BAD_INPUT for the past. */
export function endOf(context: Context, wanted: Date | null | undefined): Date | null {
  const end = wanted ?? null
  if (end !== null && end <= context.ports.clock.now())
    throw new AppError('BAD_INPUT', 'expiresAt must be in the future.', { place: { path: 'expiresAt' } })
  const own = authOf(context).expiresAt
  return own !== undefined && (end === null || own < end) ? own : end
}
