import { v7 } from 'uuid'

/** Kinds of ids; an id says what it names: `run_…`, `pip_…`. */
export const idPrefixes = {
  user: 'usr',
  apiKey: 'key',
  credential: 'crd',
  pipeline: 'pip',
  run: 'run',
  schedule: 'sch',
  backfill: 'bkf',
  trigger: 'trg',
  webhook: 'whk',
  audit: 'aud',
  outbox: 'out',
  worker: 'wrk',
  request: 'req',
  session: 'ses',
  token: 'tok',
} as const
/** A kind of id. */
export type IdKind = keyof typeof idPrefixes

/** A new id: prefix and UUIDv7 in hexadecimal. Sorts by time of creation, cannot be guessed (74 random bits). */
export function newId(kind: IdKind): string {
  return `${idPrefixes[kind]}_${v7().replaceAll('-', '')}`
}

/** True when `value` has the form of an id of this kind. */
export function isId(kind: IdKind, value: string): boolean {
  return new RegExp(`^${idPrefixes[kind]}_[0-9a-f]{32}$`).test(value)
}

/** Tenant ids are chosen at onboarding: `guru_232342`. They name a schema-like space, so the form is strict. */
export const tenantIdPattern = /^[a-z][a-z0-9_]{1,47}$/
/** Names that no tenant may take: the platform's own and those with a meaning in a database. */
export const reservedTenantIds: readonly string[] = [
  'platform',
  'public',
  'information_schema',
  'pg_catalog',
  'main',
  'temp',
  'system',
  'lake',
]
/** True when onboarding may use this id. */
export const isTenantId = (value: string): boolean =>
  tenantIdPattern.test(value) && !reservedTenantIds.includes(value) && !value.startsWith('pg_')
