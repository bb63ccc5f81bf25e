import { expect, test } from 'vitest'
import { type Bucket, inProcessRateLimit } from '../../shared/rate-limit.ts'
import { bucketsOf, clockAt, rateLimitContract } from '../contracts/rate-limit.ts'

rateLimitContract((clock) => inProcessRateLimit(clock), { runs: 50, calls: 100 })

test('many names of one kind push out each other, and none of another kind', async () => {
  const limit = inProcessRateLimit(clockAt(), 100)
  const { tenant } = bucketsOf()
  await limit.take([tenant], 60)
  const first: Bucket = { kind: 'address', name: '0', pointsPerMinute: 10 }
  await limit.take([first], 10)
  for (let i = 1; i <= 100; i++) await limit.take([{ ...first, name: String(i) }], 1)
  expect(await limit.take([first], 1)).toMatchObject({ isAllowed: true, remaining: 9 })
  expect(await limit.take([tenant], 1)).toMatchObject({ isAllowed: false })
})

test('who is refused is in use, and not pushed out for it', async () => {
  const limit = inProcessRateLimit(clockAt(), 10)
  const busy: Bucket = { kind: 'address', name: 'busy', pointsPerMinute: 10 }
  await limit.take([busy], 10)
  for (let i = 0; i < 100; i++) {
    await limit.take([{ ...busy, name: String(i) }], 1)
    expect(await limit.take([busy], 1)).toMatchObject({ isAllowed: false })
  }
})
