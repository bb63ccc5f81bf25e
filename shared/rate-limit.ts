import type { Clock } from './clock.ts'

/** What a limit is kept for. */
export type BucketKind = 'tenant' | 'key' | 'user' | 'address'

/** Points that may be taken: a store of `pointsPerMinute` that fills again evenly, to the full in a minute. */
export type Bucket = {
  kind: BucketKind
  /** Whose it is; an address is nobody's. Buckets of the same name are different ones in different tenants. */
  tenantId?: string
  name: string
  pointsPerMinute: number
}

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
export type RateLimit = {
  /** It asks nobody, so that it always answers at once. */
  isOfProcess?: boolean
  take(buckets: readonly [Bucket, ...Bucket[]], points: number, signal?: AbortSignal): Promise<Standing>
}

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
  const pointsNow = (bucket: Bucket, now: number): Level => {
    const { pointsPerMinute } = bucket
    const level = levelsOf(bucket.kind).get(nameIn(bucket))
    if (!level) return { points: pointsPerMinute, at: now }
    // A clock that goes back gives nobody the same points twice.
    const at = Math.max(now, level.at)
    return { points: Math.min(pointsPerMinute, level.points + ((at - level.at) * pointsPerMinute) / 60_000), at }
  }
  const keep = (bucket: Bucket, level: Level): void => {
    const known = levelsOf(bucket.kind)
    const name = nameIn(bucket)
    // A Map keeps the order of insertion: what is put in anew is the newest.
    known.delete(name)
    known.set(name, level)
    if (known.size <= bucketsMax) return
    const [oldest] = known.keys()
    if (oldest !== undefined) known.delete(oldest)
  }
  // A level from which nothing is taken rises by itself; one that is not there is full.
  const touch = (bucket: Bucket): void => {
    const level = levelsOf(bucket.kind).get(nameIn(bucket))
    if (level) keep(bucket, level)
  }
  return {
    isOfProcess: true,
    async take(buckets, points) {
      const now = clock.now().getTime()
      const found = buckets.map((bucket) => ({ bucket, level: pointsNow(bucket, now) }))
      const isAllowed = found.every(({ bucket, level }) => level.points >= wantedOf(bucket, points))
      for (const { bucket, level } of found)
        if (isAllowed && points > 0) keep(bucket, { ...level, points: level.points - wantedOf(bucket, points) })
        else touch(bucket)
      const [first, ...others] = found.map(({ bucket, level }) => ({ bucket, has: level.points }))
      if (!first) throw new Error('no bucket was asked for')
      return standingOf([first, ...others], points, now)
    },
  }
}

/** A bucket and the points that it had before a call. */
export type Found = { bucket: Bucket; has: number }

/** What a call for `points` comes to: for all drivers the same. */
export function standingOf(found: readonly [Found, ...Found[]], points: number, now: number): Standing {
  const isAllowed = found.every(({ bucket, has }) => has >= wantedOf(bucket, points))
  const left = found.map(({ bucket, has }) => {
    const wanted = wantedOf(bucket, points)
    return { bucket, wanted, isEnough: has >= wanted, has: isAllowed ? has - wanted : has }
  })
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
}

// What costs more than a bucket holds is given when it is full.
const wantedOf = (bucket: Bucket, points: number): number => Math.min(points, bucket.pointsPerMinute)

const nameIn = ({ tenantId = '', name }: Bucket): string => `${tenantId}\n${name}`

// What refuses comes before what has little left.
const scarcity = ({ bucket, has, isEnough }: { bucket: Bucket; has: number; isEnough: boolean }): number =>
  isEnough ? has / bucket.pointsPerMinute : has / bucket.pointsPerMinute - 2
