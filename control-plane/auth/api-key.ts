import { sql } from 'drizzle-orm'
import type { Scope } from '../../schema/roles.ts'
import type { TenantState } from '../../schema/states.ts'
import { callOnce, readRows } from '../../shared/db/db.ts'
import { AppError } from '../../shared/errors.ts'
import type { Ports } from '../../shared/ports.ts'
import { hashSecret, sameHash, splitApiKey } from '../../shared/secrets/api-key.ts'
import type { Auth } from '../context.ts'
import type { KeyCache, KeyFacts } from './key-cache.ts'
import { refused, rightsIn } from './person.ts'
import type { KnownKey, KnownKeys } from './pledge.ts'

type FoundKey = {
  tenant_id: string
  secret_hash: string
  scopes: string[]
  is_revoked: boolean
  expires_ms: number | null
  tenant_status: TenantState
  record: string
}

/**
 * The authority behind a key; `cache` may know it without the database, up to 5 s late. Throws UNAUTHENTICATED with the
 * one text for a key that is malformed, unknown, wrong, revoked or expired; TENANT_NOT_ACTIVE for a good key of a tenant
 * that is not there yet. A key of a suspended tenant keeps the scopes that read. What the database said goes to `known`.
 */
export async function authenticateKey(
  ports: Pick<Ports, 'db' | 'clock'>,
  token: string,
  { cache, known }: { cache?: Pick<KeyCache, 'find' | 'keep'> | undefined; known?: KnownKeys } = {},
): Promise<Auth> {
  const key = splitApiKey(token)
  if (!key) throw refused()
  const cached = await cache?.find(key)
  if (cached && !hasEnded(cached, ports.clock)) return authOf(key.id, cached)
  known?.forget(key.id)
  const readAt = ports.clock.now()
  const read = await readKey(ports, key)
  known?.keep(key.id, read)
  await cache?.keep(key, read.facts, readAt)
  return authOf(key.id, read.facts)
}

/** What is known of a key as it is presented, and not at its end; undefined when nothing is. */
export async function knownKey(
  { clock }: Pick<Ports, 'clock'>,
  token: string,
  known: KnownKeys,
): Promise<{ key: KnownKey; auth: Auth; id: string } | undefined> {
  const { id, secret } = splitApiKey(token) ?? {}
  if (id === undefined || secret === undefined) return undefined
  const key = known.find(id, await hashSecret(secret))
  return key && !hasEnded(key.facts, clock) ? { key, auth: authOf(id, key.facts), id } : undefined
}

function authOf(keyId: string, { tenantId, tenantStatus, scopes, expiresMs }: KeyFacts): Auth {
  return {
    tenantId,
    actor: `key:${keyId}`,
    bearer: { kind: 'key', keyId },
    expiresAt: expiresMs === null ? undefined : new Date(expiresMs),
    ...rightsIn(tenantStatus, scopes),
  }
}

const hasEnded = ({ expiresMs }: Pick<KeyFacts, 'expiresMs'>, clock: Ports['clock']): boolean =>
  expiresMs !== null && expiresMs <= clock.now().getTime()

async function readKey(ports: Pick<Ports, 'db' | 'clock'>, key: { id: string; secret: string }): Promise<KnownKey> {
  const [found] = await readRows<FoundKey>(
    ports.db,
    { tenantId: '', side: 'api' },
    sql`select tenant_id, secret_hash, scopes, tenant_status, revoked_at is not null as is_revoked,
      (extract(epoch from expires_at) * 1000)::float8 as expires_ms, f::text as record from app.find_api_key(${key.id}) f`,
  )
  // An unknown id costs the same hash as a known one.
  const isRight = sameHash(await hashSecret(key.secret), found?.secret_hash ?? '')
  if (!found) throw refused()
  const facts = {
    tenantId: found.tenant_id,
    scopes: found.scopes,
    tenantStatus: found.tenant_status,
    expiresMs: found.expires_ms,
  }
  if (!isRight || found.is_revoked || hasEnded(facts, ports.clock) || found.tenant_status === 'offboarded')
    throw refused({ tenantId: found.tenant_id, actor: `key:${key.id}` })
  if (found.tenant_status !== 'active' && found.tenant_status !== 'suspended')
    throw new AppError('TENANT_NOT_ACTIVE', 'The tenant of this key is not active.')
  return { facts, secretHash: found.secret_hash, record: found.record }
}

/** Notes that keys are in use, each at most once a minute. */
export type KeyUse = (ports: Pick<Ports, 'db' | 'clock'>, auth: Auth) => Promise<void>

// Beyond this many keys a minute the memory is dropped; the database still refuses to write more often.
const rememberedMax = 10_000

/** A `KeyUse` that spares the database the keys which this process has noted within the minute. */
export function keyUse(): KeyUse {
  const noted = new Map<string, number>()
  return async ({ db, clock }, { tenantId, bearer }) => {
    if (bearer.kind !== 'key') return
    const { keyId } = bearer
    const now = clock.now().getTime()
    if (now - (noted.get(keyId) ?? 0) < 60_000) return
    if (noted.size >= rememberedMax) noted.clear()
    noted.set(keyId, now)
    const at = new Date(now).toISOString()
    await callOnce(
      db,
      { tenantId, side: 'api' },
      sql`update app.api_key set last_used_at = ${at}::timestamptz
        where tenant_id = ${tenantId} and id = ${keyId}
          and (last_used_at is null or last_used_at <= ${at}::timestamptz - interval '1 minute')`,
    )
  }
}

/** True when the authority holds this scope, or any one of several. */
export function holds(auth: Auth, wanted: Scope | readonly Scope[]): boolean {
  return typeof wanted === 'string' ? auth.scopes.has(wanted) : wanted.some((scope) => auth.scopes.has(scope))
}
