import { expect, test } from 'vitest'
import { patternCost, patternCostMax, patternedCharsMax } from '../../schema/config/pattern.ts'
import { leastMs } from '../support/timing.ts'

test.each([
  '[a-z][a-z0-9_]{0,62}',
  String.raw`\d{4}-\d{2}-\d{2}`,
  '(eu|us|asia)-[a-z]+-[0-9]+',
  '[^@]+@[^@]+\\.[a-z]+',
  '[(a+)+]*',
  String.raw`\(a\)+`,
])('%s is cheap enough', (pattern) => {
  expect(patternCost(pattern)).toBeLessThanOrEqual(patternCostMax)
})

test.each([
  '(a+)+$',
  '(a|a)*b',
  '(?:a?){30}a{30}',
  '(a)\\1+',
  'a*a*a*a*b',
  `${'a?'.repeat(40)}b`,
  '(a|a)'.repeat(40),
  '(?<x>a)\\k<x>',
])('%s is refused', (pattern) => {
  expect(patternCost(pattern)).toBeGreaterThan(patternCostMax)
})

test('the costliest pattern that is taken answers in less than two seconds on the longest value', async () => {
  const pattern = 'a*a*a*b'
  expect(patternCost(pattern)).toBeLessThanOrEqual(patternCostMax)
  const answer = (): void => expect(new RegExp(`^(?:${pattern})$`, 'u').test('a'.repeat(patternedCharsMax))).toBe(false)
  expect(await leastMs(2000, answer)).toBeLessThan(2000)
})
