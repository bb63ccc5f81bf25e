import fc from 'fast-check'
import { expect, test } from 'vitest'
import { type Bucket, inProcessRateLimit } from '../../shared/rate-limit.ts'

const clockAt = (start = 0) => {
  let now = start
  return { now: () => new Date(now), forward: (ms: number) => void (now += ms) }
}
const tenant: Bucket = { kind: 'tenant', name: 't', pointsPerMinute: 60 }
const key: Bucket = { kind: 'key', name: 'k', pointsPerMinute: 30 }

test('points come back evenly, up to the limit', async () => {
  const clock = clockAt()
  const limit = inProcessRateLimit(clock)
  expect(await limit.take([tenant], 60)).toMatchObject({ isAllowed: true, remaining: 0, retryAfterMs: 0 })
  expect(await limit.take([tenant], 2)).toMatchObject({ isAllowed: false, retryAfterMs: 2_000 })
  clock.forward(2_000)
  expect(await limit.take([tenant], 2)).toMatchObject({ isAllowed: true, remaining: 0 })
  clock.forward(600_000)
  expect(await limit.take([tenant], 1)).toMatchObject({ limit: 60, remaining: 59 })
})

test('who is out of one bucket takes from none, and hears of that one', async () => {
  const limit = inProcessRateLimit(clockAt())
  expect(await limit.take([tenant, key], 30)).toMatchObject({ isAllowed: true, kind: 'key', remaining: 0 })
  expect(await limit.take([tenant, key], 1)).toMatchObject({ isAllowed: false, kind: 'key', limit: 30 })
  expect(await limit.take([tenant], 0)).toMatchObject({ remaining: 30 })
})

test('what costs more than a bucket holds is given when it is full', async () => {
  const clock = clockAt()
  const limit = inProcessRateLimit(clock)
  expect(await limit.take([key], 100)).toMatchObject({ isAllowed: true, remaining: 0 })
  clock.forward(59_000)
  expect(await limit.take([key], 100)).toMatchObject({ isAllowed: false })
  clock.forward(1_000)
  expect(await limit.take([key], 100)).toMatchObject({ isAllowed: true })
})

test('many names of one kind push out each other, and none of another kind', async () => {
  const limit = inProcessRateLimit(clockAt(), 100)
  await limit.take([tenant], 60)
  const first: Bucket = { kind: 'address', name: '0', pointsPerMinute: 10 }
  await limit.take([first], 10)
  for (let i = 1; i <= 100; i++) await limit.take([{ ...first, name: String(i) }], 1)
  expect(await limit.take([first], 1)).toMatchObject({ isAllowed: true, remaining: 9 })
  expect(await limit.take([tenant], 1)).toMatchObject({ isAllowed: false })
})

test('however the calls fall, nobody gets more than a full bucket and what a minute gives', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.record({ ms: fc.nat(5_000), points: fc.integer({ min: 1, max: 40 }) }), { maxLength: 100 }),
      async (calls) => {
        const clock = clockAt()
        const limit = inProcessRateLimit(clock)
        let taken = 0
        let passed = 0
        for (const { ms, points } of calls) {
          clock.forward(ms)
          passed += ms
          if ((await limit.take([tenant], points)).isAllowed) taken += points
          expect(taken).toBeLessThanOrEqual(60 + passed / 1000 + 1e-6)
        }
      },
    ),
    { numRuns: 50 },
  )
})
