import { expect, test } from 'vitest'
import { hasOddQuotes } from '../../../workers/sources/odd-quotes.ts'

test('quotes are counted right at every offset and length, next to bytes that differ in one bit', () => {
  const alike = [0x22, 0x22, 0x23, 0xa2, 0x21, 0x00, 0xff, 0x02, 0x62]
  let state = 7
  const next = (below: number): number => {
    state = (state * 1_103_515_245 + 12_345) % 2_147_483_648
    return Math.floor((state / 2_147_483_648) * below)
  }
  for (let round = 0; round < 5000; round++) {
    const whole = Buffer.from(Array.from({ length: 64 }, () => alike[next(alike.length)] ?? 0))
    const start = next(8)
    const bytes = whole.subarray(start, start + next(48))
    const quotes = [...bytes].filter((byte) => byte === 0x22).length
    expect({ start, bytes, isOdd: hasOddQuotes(bytes) }).toEqual({ start, bytes, isOdd: quotes % 2 === 1 })
  }
})
