import { eq } from 'drizzle-orm'
import { plans } from '../../schema/config/tenant.ts'
import { tenantLimit } from '../../schema/tables/index.ts'
import { readOnce } from '../../shared/db/db.ts'
import { AppError } from '../../shared/errors.ts'
import type { Ports } from '../../shared/ports.ts'
import { describeError, rarely } from '../../shared/log.ts'
import type { Bucket, RateLimit, Standing } from '../../shared/rate-limit.ts'
import { networkOf } from '../auth/attempts.ts'
import type { Auth, Context } from '../context.ts'

/**
 * What a request costs, the points that it has taken, and how the scarcest of its limits stands; undefined when no limit
 * could be asked. `retryAfterSeconds` is the longest wait that a refusal inside its answer asks for.
 */
export type Spending = {
  cost: number
  points: number
  standing: Standing | undefined
  retryAfterSeconds?: number | undefined
}

/** Lets requests in as long as their limits last. */
export type Admission = {
  /** Refuses an address that has failed too often to say who it is, before anything is looked up for it. */
  openTo(context: Context): Promise<void>
  /** Takes points of the caller's tenant and of its key or person; of a stranger's address where there is none. */
  take(context: Context, points: number): Promise<void>
}

// One key or person leaves half of a tenant's points to the others.
const shareOfOne = 0.5
const addressPointsPerMinute = 300
const waitMs = 250
const rememberMs = 60_000
const rememberedMax = 10_000

/**
 * Admission by `limit`, which has 250 ms to answer: one that fails or is late stops nobody, and the log says once a
 * minute how often that was. Throws RATE_LIMITED with the seconds to wait.
 */
export function admission(limit: RateLimit): Admission {
  const tenantPoints = pointsOfTenants()
  const failing = recentNames()
  let unasked: ReturnType<typeof rarely> | undefined
  const ask = async (
    context: Context,
    buckets: [Bucket, ...Bucket[]],
    points: number,
  ): Promise<Standing | undefined> => {
    const { ports, requestId, spending } = context
    // What is counted here cannot be late.
    const asked = limit.isOfProcess
      ? limit.take(buckets, points)
      : inTime(ports, (signal) => limit.take(buckets, points, signal))
    const standing = await asked.catch((error: unknown) => {
      unasked ??= rarely(ports.clock)
      unasked((times) => ports.log.warn('rate_limit.open', { times, requestId, error: describeError(error) }))
      return undefined
    })
    if (!standing) return undefined
    spending.standing = standing
    if (!standing.isAllowed) throw limited(standing)
    spending.points += points
    return standing
  }
  return {
    async openTo(context) {
      const bucket = bucketOfAddress(context)
      // Nearly all requests are of somebody: only addresses that have failed here cost a question.
      if (!bucket || !failing.has(bucket.name, context.ports.clock.now().getTime())) return
      const standing = await ask(context, [bucket], 0)
      if (standing && standing.remaining < 1) throw limited({ ...standing, retryAfterMs: 60_000 / standing.limit })
    },
    async take(context, points) {
      const { auth, ports } = context
      if (auth) return void (await ask(context, bucketsOf(auth, await tenantPoints(ports, auth.tenantId)), points))
      const bucket = bucketOfAddress(context)
      if (!bucket) return
      failing.add(bucket.name, ports.clock.now().getTime())
      await ask(context, [bucket], points)
    },
  }
}

/** The five headers that say how the limits stand, and `retry-after` when a refusal asks for a wait. */
export function rateHeaders({ standing, retryAfterSeconds }: Spending): Record<string, string> {
  const wait: Record<string, string> =
    retryAfterSeconds === undefined ? {} : { 'retry-after': String(retryAfterSeconds) }
  if (!standing) return wait
  const { limit, remaining, resetsAt, kind } = standing
  return {
    ...wait,
    'x-ratelimit-limit': String(limit),
    'x-ratelimit-remaining': String(remaining),
    'x-ratelimit-used': String(limit - remaining),
    'x-ratelimit-reset': String(Math.ceil(resetsAt.getTime() / 1000)),
    'x-ratelimit-resource': kind,
  }
}

function limited({ retryAfterMs, kind }: Standing): AppError {
  const retryAfterSeconds = Math.max(1, Math.ceil(retryAfterMs / 1000))
  return new AppError('RATE_LIMITED', `The ${kind} has no points left. Try again in ${retryAfterSeconds} s.`, {
    figures: { retryAfterSeconds },
  })
}

function bucketsOf({ tenantId, bearer }: Auth, pointsPerMinute: number): [Bucket, ...Bucket[]] {
  const own = Math.max(1, Math.floor(pointsPerMinute * shareOfOne))
  return [
    { kind: 'tenant', tenantId, name: '', pointsPerMinute },
    bearer.kind === 'key'
      ? { kind: 'key', tenantId, name: bearer.keyId, pointsPerMinute: own }
      : { kind: 'user', tenantId, name: bearer.userId, pointsPerMinute: own },
  ]
}

const bucketOfAddress = ({ address }: Context): Bucket | undefined =>
  address === undefined
    ? undefined
    : { kind: 'address', name: networkOf(address), pointsPerMinute: addressPointsPerMinute }

async function inTime<T>({ clock }: Ports, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const answered = new AbortController()
  const late = new AbortController()
  const answer = (async () => work(late.signal))()
  // Whoever loses the race may still fail, with nobody left to hear it.
  answer.catch(() => undefined)
  try {
    return await Promise.race([
      answer,
      clock.sleep(waitMs, answered.signal).then(() => {
        if (answered.signal.aborted) return answer
        late.abort()
        throw new Error(`no answer within ${waitMs} ms`)
      }),
    ])
  } finally {
    answered.abort('answered')
  }
}

// Names that were added within the last minutes.
function recentNames(): { add(name: string, now: number): void; has(name: string, now: number): boolean } {
  const until = new Map<string, number>()
  return {
    add(name, now) {
      if (until.size >= rememberedMax) until.clear()
      until.set(name, now + 2 * rememberMs)
    },
    has: (name, now) => (until.get(name) ?? 0) > now,
  }
}

// A plan changes rarely, and a request must not pay a look-up for it: a change counts within a minute.
function pointsOfTenants(): (ports: Ports, tenantId: string) => Promise<number> {
  const known = new Map<string, { points: number; until: number }>()
  return async ({ db, clock }, tenantId) => {
    const now = clock.now().getTime()
    const found = known.get(tenantId)
    if (found && found.until > now) return found.points
    const [row] = await readOnce(db, { tenantId, side: 'api' }, (one) =>
      one
        .select({ points: tenantLimit.apiPointsPerMinute })
        .from(tenantLimit)
        .where(eq(tenantLimit.tenantId, tenantId)),
    )
    // The platform's own tenant has no plan to speak of: it serves all others.
    const points = row?.points ?? plans.ENTERPRISE.apiPointsPerMinute
    if (known.size >= rememberedMax) known.clear()
    known.set(tenantId, { points, until: now + rememberMs })
    return points
  }
}
