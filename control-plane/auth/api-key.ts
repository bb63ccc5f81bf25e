import { and, eq, sql } from 'drizzle-orm'
import { type Scope, scopes } from '../../schema/roles.ts'
import type { TenantState } from '../../schema/states.ts'
import { apiKey } from '../../schema/tables/index.ts'
import { rowsOf, type Tx, withLedger, withTenant } from '../../shared/db/db.ts'
import { AppError } from '../../shared/errors.ts'
import type { Ports } from '../../shared/ports.ts'
import { hashSecret, sameHash, splitApiKey } from '../../shared/secrets/api-key.ts'
import type { z } from 'zod'
import type { refusedKey } from '../audit/note-denials.ts'
import type { Auth } from '../context.ts'

type FoundKey = {
  tenant_id: string
  secret_hash: string
  scopes: string[]
  is_revoked: boolean
  expires_ms: number | null
  tenant_status: TenantState
}

/**
 * The authority behind the request's key, from `Authorization: Bearer` or `x-api-key`. Throws UNAUTHENTICATED with one
 * and the same text for a key that is malformed, unknown, wrong, revoked or expired; TENANT_NOT_ACTIVE for a good key of
 * a tenant that is not there yet. A key of a suspended tenant keeps the scopes that read.
 */
export async function authenticate(ports: Pick<Ports, 'db' | 'clock'>, headers: Headers): Promise<Auth> {
  const token = presentedKey(headers)
  if (token === undefined) throw new AppError('UNAUTHENTICATED', 'This request carries no API key.')
  const key = splitApiKey(token)
  if (!key) throw refused()
  const [found] = await withLedger(ports.db, 'api', (tx) =>
    rowsOf<FoundKey>(
      tx,
      sql`select tenant_id, secret_hash, scopes, tenant_status, revoked_at is not null as is_revoked,
        (extract(epoch from expires_at) * 1000)::float8 as expires_ms from app.find_api_key(${key.id})`,
    ),
  )
  // An unknown id costs the same hash as a known one.
  const isRight = sameHash(await hashSecret(key.secret), found?.secret_hash ?? '')
  if (!found) throw refused()
  const isEnded = found.expires_ms !== null && found.expires_ms <= ports.clock.now().getTime()
  if (!isRight || found.is_revoked || isEnded || found.tenant_status === 'offboarded')
    throw refused({ tenantId: found.tenant_id, keyId: key.id })
  const isSuspended = found.tenant_status === 'suspended'
  if (found.tenant_status !== 'active' && !isSuspended)
    throw new AppError('TENANT_NOT_ACTIVE', 'The tenant of this key is not active.')
  return {
    tenantId: found.tenant_id,
    keyId: key.id,
    actor: `key:${key.id}`,
    expiresAt: found.expires_ms === null ? undefined : new Date(found.expires_ms),
    scopes: new Set(scopes.filter((scope) => found.scopes.includes(scope) && (!isSuspended || isReading(scope)))),
    isSuspended,
  }
}

/**
 * Throws UNAUTHENTICATED when the key has been revoked or has ended since the request began. For work that outlives its
 * first answer; `tx` is bound to the key's tenant.
 */
export async function refuseEnded(tx: Tx, auth: Auth, now: Date): Promise<void> {
  const [row] = await tx
    .select({ revokedAt: apiKey.revokedAt, expiresAt: apiKey.expiresAt })
    .from(apiKey)
    .where(and(eq(apiKey.tenantId, auth.tenantId), eq(apiKey.id, auth.keyId)))
  if (!row || row.revokedAt !== null || (row.expiresAt !== null && row.expiresAt <= now)) throw refused()
}

const isReading = (scope: Scope): boolean => scope.endsWith(':read')

/** Notes that keys are in use, each at most once a minute. */
export type KeyUse = (ports: Pick<Ports, 'db' | 'clock'>, auth: Auth) => Promise<void>

// Beyond this many keys a minute the memory is dropped; the database still refuses to write more often.
const rememberedMax = 10_000

/** A `KeyUse` that spares the database the keys which this process has noted within the minute. */
export function keyUse(): KeyUse {
  const noted = new Map<string, number>()
  return async ({ db, clock }, auth) => {
    const now = clock.now().getTime()
    if (now - (noted.get(auth.keyId) ?? 0) < 60_000) return
    if (noted.size >= rememberedMax) noted.clear()
    noted.set(auth.keyId, now)
    const at = new Date(now).toISOString()
    await withTenant(db, { tenantId: auth.tenantId, side: 'api' }, (tx) =>
      tx.execute(sql`
        update app.api_key set last_used_at = ${at}::timestamptz
        where tenant_id = ${auth.tenantId} and id = ${auth.keyId}
          and (last_used_at is null or last_used_at <= ${at}::timestamptz - interval '1 minute')`),
    )
  }
}

/** True when the authority holds this scope, or any one of several. */
export function holds(auth: Auth, wanted: Scope | readonly Scope[]): boolean {
  return typeof wanted === 'string' ? auth.scopes.has(wanted) : wanted.some((scope) => auth.scopes.has(scope))
}

function presentedKey(headers: Headers): string | undefined {
  const authorization = headers.get('authorization')
  if (authorization !== null) return /^Bearer +(\S+)$/i.exec(authorization.trim())?.[1] ?? ''
  return headers.get('x-api-key')?.trim()
}

// A key that is known is named to the audit log of its tenant; the answer is the same.
const refused = (known: Partial<z.output<typeof refusedKey>> = {}): AppError =>
  new AppError('UNAUTHENTICATED', 'This API key is not valid.', { context: known })
