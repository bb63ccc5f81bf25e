import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { Clock } from '../../shared/clock.ts'
import type { Bucket, RateLimit } from '../../shared/rate-limit.ts'

/** A clock that stands still until it is moved. */
export const clockAt = (start = 0): Pick<Clock, 'now'> & { forward(ms: number): void } => {
  let now = start
  return { now: () => new Date(now), forward: (ms) => void (now += ms) }
}

/** Limits by a clock that a test moves. Buckets of two calls share nothing. */
export type Limits = (clock: Pick<Clock, 'now'>) => RateLimit

let made = 0
/** The buckets of a tenant that no other test has. */
export function bucketsOf(): { tenant: Bucket; key: Bucket } {
  const tenantId = `t_${crypto.randomUUID().slice(0, 8)}_${++made}`
  return {
    tenant: { kind: 'tenant', tenantId, name: tenantId, pointsPerMinute: 60 },
    key: { kind: 'key', tenantId, name: 'k', pointsPerMinute: 30 },
  }
}

/** What every driver of `RateLimit` keeps to. */
export function rateLimitContract(limits: Limits, { runs, calls }: { runs: number; calls: number }): void {
  test('points come back evenly, up to the limit', async () => {
    const clock = clockAt()
    const limit = limits(clock)
    const { tenant } = bucketsOf()
    expect(await limit.take([tenant], 60)).toMatchObject({ isAllowed: true, remaining: 0, retryAfterMs: 0 })
    expect(await limit.take([tenant], 2)).toMatchObject({ isAllowed: false, retryAfterMs: 2_000 })
    clock.forward(2_000)
    expect(await limit.take([tenant], 2)).toMatchObject({ isAllowed: true, remaining: 0 })
    clock.forward(600_000)
    expect(await limit.take([tenant], 1)).toMatchObject({ limit: 60, remaining: 59 })
  })

  test('who is out of one bucket takes from none, and hears of that one', async () => {
    const limit = limits(clockAt())
    const { tenant, key } = bucketsOf()
    expect(await limit.take([tenant, key], 30)).toMatchObject({ isAllowed: true, kind: 'key', remaining: 0 })
    expect(await limit.take([tenant, key], 1)).toMatchObject({ isAllowed: false, kind: 'key', limit: 30 })
    expect(await limit.take([tenant], 0)).toMatchObject({ remaining: 30 })
  })

  test('what costs more than a bucket holds is given when it is full', async () => {
    const clock = clockAt()
    const limit = limits(clock)
    const { key } = bucketsOf()
    expect(await limit.take([key], 100)).toMatchObject({ isAllowed: true, remaining: 0 })
    clock.forward(59_000)
    expect(await limit.take([key], 100)).toMatchObject({ isAllowed: false })
    clock.forward(1_000)
    expect(await limit.take([key], 100)).toMatchObject({ isAllowed: true })
  })

  test('to ask for nothing takes nothing, and a refusal neither', async () => {
    const limit = limits(clockAt())
    const { tenant } = bucketsOf()
    expect(await limit.take([tenant], 0)).toMatchObject({ isAllowed: true, remaining: 60 })
    await limit.take([tenant], 50)
    expect(await limit.take([tenant], 11)).toMatchObject({ isAllowed: false, remaining: 10 })
    expect(await limit.take([tenant], 10)).toMatchObject({ isAllowed: true, remaining: 0 })
  })

  test('a clock that goes back gives nobody the same points twice', async () => {
    const clock = clockAt(60_000)
    const limit = limits(clock)
    const { tenant } = bucketsOf()
    await limit.take([tenant], 60)
    clock.forward(-30_000)
    expect(await limit.take([tenant], 1)).toMatchObject({ isAllowed: false, remaining: 0 })
    clock.forward(30_000)
    expect(await limit.take([tenant], 1)).toMatchObject({ isAllowed: false, remaining: 0 })
    clock.forward(1_000)
    expect(await limit.take([tenant], 1)).toMatchObject({ isAllowed: true, remaining: 0 })
  })

  test('what one tenant takes is not missing to another, however alike their names are', async () => {
    const limit = limits(clockAt())
    const one = { kind: 'user', tenantId: 'a', name: `b ${bucketsOf().tenant.name}`, pointsPerMinute: 10 } as const
    const others: Bucket[] = [
      { ...one, tenantId: 'a_b' },
      { ...one, tenantId: 'b' },
      { kind: 'user', name: one.name, pointsPerMinute: 10 },
      { ...one, kind: 'key' },
      { ...one, name: `${one.name} ` },
    ]
    await limit.take([one], 10)
    expect(await limit.take([one], 1)).toMatchObject({ isAllowed: false })
    for (const other of others) expect(await limit.take([other], 0)).toMatchObject({ remaining: 10 })
  })

  test('of many who ask at once only as many are let in as there are points', async () => {
    const limit = limits(clockAt())
    const { tenant, key } = bucketsOf()
    const answers = await Promise.all(Array.from({ length: 50 }, () => limit.take([tenant, key], 1)))
    expect(answers.filter(({ isAllowed }) => isAllowed)).toHaveLength(30)
  })

  test('however the calls fall, nobody gets more than a full bucket and what a minute gives', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.record({ ms: fc.nat(5_000), points: fc.integer({ min: 1, max: 40 }) }), { maxLength: calls }),
        async (all) => {
          const clock = clockAt()
          const limit = limits(clock)
          const { tenant } = bucketsOf()
          let taken = 0
          let passed = 0
          for (const { ms, points } of all) {
            clock.forward(ms)
            passed += ms
            if ((await limit.take([tenant], points)).isAllowed) taken += points
            expect(taken).toBeLessThanOrEqual(60 + passed / 1000 + 1e-6)
          }
        },
      ),
      { numRuns: runs },
    )
  })
}

/** That a driver answers to the point as another does, whatever is asked. */
export function sameAnswers(limits: Limits, model: Limits, { runs, calls }: { runs: number; calls: number }): void {
  test('it answers to the point as the limits of one process do', async () => {
    const call = fc.record({
      ms: fc.integer({ min: -2_000, max: 40_000 }),
      points: fc.nat(70),
      which: fc.constantFrom('tenant', 'key', 'both'),
      limit: fc.constantFrom(60, 7, 1000),
    })
    await fc.assert(
      fc.asyncProperty(fc.array(call, { maxLength: calls }), async (all) => {
        const clock = clockAt(1_700_000_000_000)
        const [one, other] = [limits(clock), model(clock)]
        const { tenant, key } = bucketsOf()
        for (const { ms, points, which, limit } of all) {
          clock.forward(ms)
          const sized = { ...tenant, pointsPerMinute: limit }
          const buckets: [Bucket, ...Bucket[]] = which === 'both' ? [sized, key] : which === 'key' ? [key] : [sized]
          expect(await one.take(buckets, points)).toEqual(await other.take(buckets, points))
        }
      }),
      { numRuns: runs },
    )
  })
}
