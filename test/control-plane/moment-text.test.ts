import { expect, test } from 'vitest'
import { momentText } from '../../control-plane/graphql/moment-text.ts'

test('a moment is written as the language writes it, in any order and far from today', () => {
  const day = 86_400_000
  const moments = [0, -1, 1, day - 1, day, -day, -62_167_219_200_001, 253_402_300_800_000, 8.64e15, -8.64e15]
  for (let n = 0; n < 2000; n++) moments.push(Date.UTC(2026, 10, 21) + (n % 7) * 0.37 * day * n - n)
  for (const ms of moments) {
    const moment = new Date(ms)
    expect(momentText(moment)).toBe(moment.toISOString())
  }
})

test('what is no moment has no text', () => {
  expect(() => momentText(new Date(Number.NaN))).toThrow('Invalid time value')
})
