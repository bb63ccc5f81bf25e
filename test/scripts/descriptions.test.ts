import { buildSchema } from 'graphql'
import { expect, test } from 'vitest'
import { undescribed } from '../../scripts/descriptions.ts'
import { schema } from '../../control-plane/graphql/schema.ts'

test('every public type, field, argument and enum value has a description', () => {
  expect(undescribed(schema)).toEqual([])
})

test('what has none is named', () => {
  const planted = buildSchema(`
    "Root." type Query { "Told." told("Told too." a: Int, b: Int): State silent: Int }
    "States." enum State { "On." ON OFF }
    input Bare { "Told." x: Int }`)
  expect(undescribed(planted)).toEqual(['Query.told(b)', 'Query.silent', 'State.OFF', 'Bare'])
})
