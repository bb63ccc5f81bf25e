import { expect, test } from 'vitest'
import { isWanted } from '../../../shared/config/when.ts'

const values = { yes: true, no: 'no', zero: 0, rows: 12, text: 'eu', attack: '1 == 1', steps: { load: { rows: 9 } } }

test.each<[boolean | string | undefined, boolean]>([
  [undefined, true],
  [true, true],
  [false, false],
  ['{yes}', true],
  ['{no}', false],
  ['{zero}', false],
  ['{rows}', true],
  ['{gone | default:}', false],
  ['{steps.load.rows} > 10', false],
  ['{rows} > {steps.load.rows}', true],
  ['{rows} >= 12', true],
  ['{rows} <= 11', false],
  ['{rows} < 9', false],
  ['{rows} != 12', false],
  ["{text} == 'eu'", true],
  ['{text} == us', false],
  ['{text} == {attack}', false],
])('when %s: %s', (when, wanted) => {
  expect(isWanted(when, values)).toBe(wanted)
})

test('a name without a value is no false', () => {
  expect(() => isWanted('{steps.other.rows} > 0', values)).toThrow(
    expect.objectContaining({ code: 'VARIABLE_UNKNOWN' }),
  )
})
