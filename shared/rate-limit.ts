import type { Clock } from './clock.ts'

/** What a limit is kept for. */
export type BucketKind = 'tenant' | 'key' | 'user' | 'address'

/** Points that may be taken: a store of `pointsPerMinute` that fills again evenly, to the full in a minute. */
export type Bucket = { kind: BucketKind; name: string; pointsPerMinute: number }

/** How the scarcest of the buckets stands after a call. */
export type Standing = {
  isAllowed: boolean
  kind: BucketKind
  limit: number
  remaining: number
  /** When it is full again, if nothing more is taken. */
  resetsAt: Date
  /** How long until what was refused would be given; 0 when nothing was. */
  retryAfterMs: number
}

/**
 * Limits by tokens. One call is one round trip of a driver, and all or nothing: who is out of one bucket takes from none.
 * A driver may throw; its callers then let the request pass.
 */
export type RateLimit = { take(buckets: readonly [Bucket, ...Bucket[]], points: number): Promise<Standing> }

const bucketsOfKindMax = 20_000

type Level = { points: number; at: number }

/**
 * Limits of this process alone: with n processes a caller may have n times as much. Its memory is bounded for each kind of
 * bucket, so that many addresses push out no tenant; the one that was used least recently goes, and is full when it returns.
 */
export function inProcessRateLimit(clock: Pick<Clock, 'now'>, bucketsMax = bucketsOfKindMax): RateLimit {
  const levels = new Map<BucketKind, Map<string, Level>>()
  const levelsOf = (kind: BucketKind): Map<string, Level> => {
    const known = levels.get(kind) ?? new Map<string, Level>()
    levels.set(kind, known)
    return known
  }
  const pointsNow = ({ kind, name, pointsPerMinute }: Bucket, now: number): number => {
    const level = levelsOf(kind).get(name)
    if (!level) return pointsPerMinute
    return Math.min(pointsPerMinute, level.points + ((now - level.at) * pointsPerMinute) / 60_000)
  }
  const keep = ({ kind, name }: Bucket, level: Level): void => {
    const known = levelsOf(kind)
    // A Map keeps the order of insertion: what is put in anew is the newest.
    known.delete(name)
    known.set(name, level)
    if (known.size <= bucketsMax) return
    const [oldest] = known.keys()
    if (oldest !== undefined) known.delete(oldest)
  }
  return {
    async take(buckets, points) {
      const now = clock.now().getTime()
      const found = buckets.map((bucket) => {
        const has = pointsNow(bucket, now)
        // What costs more than a bucket holds is given when it is full.
        const wanted = Math.min(points, bucket.pointsPerMinute)
        return { bucket, has, wanted, isAllowed: has >= wanted }
      })
      const isAllowed = found.every((one) => one.isAllowed)
      const left = found.map((one) => ({ ...one, has: isAllowed ? one.has - one.wanted : one.has }))
      for (const { bucket, has } of left) keep(bucket, { points: has, at: now })
      const scarcest = left.reduce((a, b) => (scarcity(b) < scarcity(a) ? b : a))
      const { kind, pointsPerMinute: limit } = scarcest.bucket
      const msFor = (missing: number): number => Math.ceil((missing * 60_000) / limit)
      return {
        isAllowed,
        kind,
        limit,
        remaining: Math.floor(scarcest.has),
        resetsAt: new Date(now + msFor(limit - scarcest.has)),
        retryAfterMs: isAllowed ? 0 : msFor(scarcest.wanted - scarcest.has),
      }
    },
  }
}

// What refuses comes before what has little left.
const scarcity = ({ bucket, has, isAllowed }: { bucket: Bucket; has: number; isAllowed: boolean }): number =>
  isAllowed ? has / bucket.pointsPerMinute : has / bucket.pointsPerMinute - 2
