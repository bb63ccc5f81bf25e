import { expect, test } from 'vitest'
import { proveHistories } from '../../lake/histories.ts'

test('in random histories, counts, changed fields, state, every past state and a restore are those of the generator', async () => {
  expect(await proveHistories(15)).toBe(15)
})
