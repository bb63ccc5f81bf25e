import { scryptSync } from 'node:crypto'
import { expect, test } from 'vitest'
import { passwords, refuseWeak } from '../../control-plane/auth/password.ts'
import { systemClock } from '../../shared/clock.ts'
import { AppError } from '../../shared/errors.ts'

const cheap = { ln: 4, r: 1, p: 1 }

test('a hash is scrypt at 2^14·8·5, with its cost and a salt of its own', async () => {
  const real = passwords(systemClock)
  const hash = await real.hash('correct horse battery')
  const [, name, cost, salt = '', made = ''] = hash.split('$')
  expect([name, cost]).toEqual(['scrypt', 'ln=14,r=8,p=5'])
  const byNode = scryptSync('correct horse battery', Buffer.from(salt, 'base64'), 32, { N: 2 ** 14, r: 8, p: 5 })
  expect(made).toBe(byNode.toString('base64'))
  expect(await real.verify('correct horse battery', hash)).toEqual({ isRight: true, isOutdated: false })
  expect(await real.verify('correct horse batterz', hash)).toEqual({ isRight: false, isOutdated: false })
  expect(await real.hash('correct horse battery')).not.toBe(hash)
})

test('a hash of a lower cost is still right, and outdated', async () => {
  const hash = await passwords(systemClock, cheap).hash('correct horse battery')
  for (const more of [{ ln: 5 }, { r: 2 }, { p: 2 }])
    expect(await passwords(systemClock, { ...cheap, ...more }).verify('correct horse battery', hash)).toEqual({
      isRight: true,
      isOutdated: true,
    })
})

test('without a hash nothing is right', async () => {
  for (const password of ['', 'correct horse battery'])
    expect((await passwords(systemClock, cheap).verify(password, undefined)).isRight).toBe(false)
})

test('a fifth at once waits for its turn, and gives up when it comes too late', async () => {
  let asleep = 0
  const waits: number[] = []
  const counted = passwords(
    { now: () => new Date(), sleep: async (ms) => void (waits.push(ms), asleep++, await new Promise(setImmediate)) },
    { ln: 12, r: 8, p: 1 },
  )
  expect(new Set(await Promise.all(Array.from({ length: 6 }, () => counted.hash('x')))).size).toBe(6)
  expect(asleep).toBeGreaterThan(0)
  const hasty = passwords({ now: () => new Date(), sleep: async () => undefined }, { ln: 15, r: 8, p: 1 })
  const outcomes = await Promise.allSettled(Array.from({ length: 5 }, () => hasty.hash('x')))
  expect(outcomes.map(({ status }) => status)).toEqual([...Array.from({ length: 4 }, () => 'fulfilled'), 'rejected'])
  expect(outcomes.at(-1)).toMatchObject({ reason: { code: 'UNAVAILABLE' } })
})

test.each([
  ['eleven characters', 'x'.repeat(11), false],
  ['twelve', 'x'.repeat(12), true],
  ['twelve that are one letter each of two units', '😀'.repeat(12), true],
  ['six of those', '😀'.repeat(6), false],
  ['256 bytes', 'x'.repeat(256), true],
  ['257 bytes', 'x'.repeat(257), false],
  ['129 letters of two bytes', 'ä'.repeat(129), false],
  ['one letter that unfolds to many', '\ufdfa', true],
  ['what unfolds beyond 256 bytes', '\ufdfa'.repeat(20), false],
])('%s', (_name, password, isGood) => {
  let refusal: unknown
  try {
    refuseWeak(password, 'password')
  } catch (error) {
    refusal = error
  }
  expect(refusal instanceof AppError ? refusal.place : 'good').toEqual(isGood ? 'good' : { path: 'password' })
})
