import type { sql } from 'drizzle-orm'
import type { Role, Scope } from '../schema/roles.ts'
import { type Db, readOnce, readRows, type Tx, withTenant } from '../shared/db/db.ts'
import { AppError } from '../shared/errors.ts'
import type { Ports } from '../shared/ports.ts'
import type { Identity } from './auth/identity.ts'
import type { KeyCache } from './auth/key-cache.ts'
import type { KnownKeys, Pledge } from './auth/pledge.ts'
import type { BatchLoader } from './graphql/batch.ts'
import type { Spending } from './http/admit.ts'
import type { Params } from './http/read-params.ts'

/** What the request carries: a key, the token of a session, or that of a tenant's identity provider. */
export type Bearer =
  | { kind: 'key'; keyId: string }
  | { kind: 'session'; userId: string; sessionId: string; roles: readonly Role[] }
  | {
      kind: 'provider'
      userId: string
      issuer: string
      subject: string
      issuedAt: Date
      tokenEndsAt: Date
      roles: readonly Role[]
    }

/** Who is behind the request. `actor` is what audit rows and runs name: `key:…` or `user:…`. */
export type Auth = {
  tenantId: string
  actor: string
  bearer: Bearer
  scopes: ReadonlySet<Scope>
  /** Its tenant is suspended: `scopes` are those that read, whatever the key or the person may do else. */
  isSuspended: boolean
  /** The end of a key, if it has one; what it makes ends no later. A person has none. */
  expiresAt: Date | undefined
}

/** Times that a deployment may shorten; milliseconds. */
export type Waits = {
  /** How long `onboardTenant` waits for a worker to prepare the tenant. */
  provisionMs: number
  /** How long one subscription stream lives; the client then resumes after its last event. */
  streamMs: number
  /** How long a query or mutation may run; one that waits for a worker has `provisionMs` for each wait beside it. */
  executionMs: number
}

/** What a resolver may use. One per request. */
export type Context = {
  ports: Ports
  /** The database without the limits of this request: for what serves other requests, too, and outlives this one. */
  lastingDb: Db
  requestId: string
  /** Kept for its signal, which in Node hears of an abort only as long as the request itself is in memory. */
  request: Request
  /** Undefined when the request carries nothing valid; `refusal` then says why. */
  auth: Auth | undefined
  /** While there is one, `auth` is what the key was when it was last read; `ports.db` sees to it that nothing is done by that alone. */
  pledge: Pledge | undefined
  refusal: AppError | undefined
  waits: Waits
  identity: Identity
  /** What is remembered of keys; undefined where each is looked up. */
  keyCache: KeyCache | undefined
  /** Keys that this process has read before. */
  knownKeys: KnownKeys
  /** Where the request comes from, if the host says so. */
  address: string | undefined
  /** The place after which an interrupted event stream goes on (`Last-Event-ID`), empty without one. */
  lastEventId: string
  /** The place of the event that is being sent; it becomes the `id:` line of the stream. */
  event: { id: number | string | undefined }
  /** Batch loaders of this request, by name. */
  loaders: Map<string, BatchLoader<string, unknown>>
  /** What the request asks for; undefined where that is not GraphQL. */
  asked: Params | undefined
  /** The key by which the mutation of this request has its effect once, and whether this is a repeat of it. */
  idempotency: { key: string | undefined; isReplay: boolean }
  /** What the request costs, and how the limits stand. */
  spending: Spending
  /** Aborts when the client is gone, and with TIMED_OUT as its reason when the request has taken too long. */
  signal: AbortSignal
  /** Ends the request's work for this reason. */
  stop(reason: AppError): void
  /** Runs `work` after the answer. A failure is logged and changes nothing: only hints go this way. */
  later(work: () => Promise<void>): void
}

/** The authority of a request. Throws UNAUTHENTICATED, or what kept it from being accepted. */
export function authOf(context: Context): Auth {
  if (context.auth) return context.auth
  throw context.refusal ?? new AppError('UNAUTHENTICATED', noBearer)
}

/** What a request is told that carries nothing. */
export const noBearer = 'This request carries no key or token.'

/** The person behind a request; undefined for a key. */
export const userIdOf = ({ bearer }: Auth): string | undefined => (bearer.kind === 'key' ? undefined : bearer.userId)

/** One transaction that sees the rows of the caller's own tenant. */
export function inTenant<T>(context: Context, work: (tx: Tx, auth: Auth) => Promise<T>): Promise<T> {
  const auth = authOf(context)
  return withTenant(context.ports.db, { tenantId: auth.tenantId, side: 'api' }, (tx) => work(tx, auth))
}

/** What one query reads of the caller's own tenant: one trip where the driver can, and never a write. */
export function readInTenant<T>(context: Context, build: (db: Db, auth: Auth) => PromiseLike<T>): Promise<T> {
  const auth = authOf(context)
  return readOnce(context.ports.db, { tenantId: auth.tenantId, side: 'api' }, (db) => build(db, auth))
}

/** Rows of a raw statement that reads; as `readInTenant`. */
export function rowsInTenant<R extends Record<string, unknown>>(
  context: Context,
  statement: ReturnType<typeof sql>,
): Promise<R[]> {
  return readRows(context.ports.db, { tenantId: authOf(context).tenantId, side: 'api' }, statement)
}
