import type { Scope } from '../schema/roles.ts'
import { type Tx, withTenant } from '../shared/db/db.ts'
import { AppError } from '../shared/errors.ts'
import type { Ports } from '../shared/ports.ts'
import type { BatchLoader } from './graphql/batch.ts'

/** Whose key the request carries. `actor` is what audit rows and runs name; a key without `expiresAt` has no end. */
export type Auth = {
  tenantId: string
  keyId: string
  actor: string
  scopes: ReadonlySet<Scope>
  /** Its tenant is suspended: `scopes` are those that read, whatever the key may do else. */
  isSuspended: boolean
  expiresAt: Date | undefined
}

/** Times that a deployment may shorten; milliseconds. */
export type Waits = {
  /** How long `onboardTenant` waits for a worker to prepare the tenant. */
  provisionMs: number
  /** How long one subscription stream lives; the client then resumes after its last event. */
  streamMs: number
}

/** What a resolver may use. One per request. */
export type Context = {
  ports: Ports
  requestId: string
  /** Undefined when the request carries no valid key; `refusal` then says why. */
  auth: Auth | undefined
  refusal: AppError | undefined
  waits: Waits
  /** The number after which an interrupted event stream goes on (`Last-Event-ID`), 0 without one. */
  lastEventId: number
  /** The number of the event that is being sent; it becomes the `id:` line of the stream. */
  event: { id: number | undefined }
  /** Batch loaders of this request, by name. */
  loaders: Map<string, BatchLoader<string, unknown>>
  /** Aborts when the client is gone. */
  signal: AbortSignal
  /** Runs `work` after the answer. A failure is logged and changes nothing: only hints go this way. */
  later(work: () => Promise<void>): void
}

/** The authority of a request. Throws UNAUTHENTICATED, or what kept the key from being accepted. */
export function authOf(context: Context): Auth {
  if (context.auth) return context.auth
  throw context.refusal ?? new AppError('UNAUTHENTICATED', 'This request carries no API key.')
}

/** One transaction that sees the rows of the key's own tenant. */
export function inTenant<T>(context: Context, work: (tx: Tx, auth: Auth) => Promise<T>): Promise<T> {
  const auth = authOf(context)
  return withTenant(context.ports.db, { tenantId: auth.tenantId, side: 'api' }, (tx) => work(tx, auth))
}
