import { buildSchema } from 'graphql'
import { expect, test } from 'vitest'
import { schema } from '../../control-plane/graphql/schema.ts'
import { accessOf } from './access.ts'
import { placesOf, targetsOf } from './targets.ts'
import { kindOf, likeness } from './values.ts'

const targets = (sdl: string) => targetsOf(buildSchema(sdl), () => false)
const kinds = (sdl: string) => targets(sdl).flatMap(placesOf).map(kindOf)

test('the proof goes to every root field, and to every field that answers an object or takes arguments', () => {
  const names = targetsOf(schema, () => false).map(({ name }) => name)
  const missing = Object.values(schema.getTypeMap()).flatMap((type) =>
    ['Query', 'Mutation', 'Subscription'].includes(type.name) && 'getFields' in type
      ? Object.keys(type.getFields()).filter((field) => !names.includes(`${type.name}.${field}`))
      : [],
  )
  expect(missing).toEqual([])
  expect(names).toContain('PipelineRun.events')
  expect(new Set(names).size).toBe(names.length)
})

test('every ID of the API is known to be of something', () => {
  expect(() =>
    targetsOf(schema, () => false)
      .flatMap(placesOf)
      .map(kindOf),
  ).not.toThrow()
})

test('a new ID of which nothing says whose it is fails the proof', () => {
  expect(() => kinds('type Query { thing(id: ID!): String }')).toThrow(
    'Query.thing.id: nothing says what this ID is of',
  )
  expect(() => kinds('input Deep { thing: ID } type Query { a(in: Deep): String }')).toThrow('Deep.thing: nothing says')
})

test('an ID whose description says what it begins with, tenants, cursors and words are known by themselves', () => {
  const arg = '"The run, `run_…`." of: ID, tenantId: ID, after: String, word: String, count: Int'
  expect(kinds(`type Query { thing(${arg}): String }`)).toEqual([
    { finds: { field: 'PipelineRun.id' } },
    { finds: 'tenant' },
    { finds: 'cursor' },
    { finds: 'text' },
    undefined,
  ])
})

test('a root field that names no rule fails the proof', () => {
  const [target] = targets('type Query { open: String }')
  if (!target) throw new Error('no target')
  expect(() => accessOf(target)).toThrow('Query.open: its root says not who may ask')
})

test('what nobody has looks like what somebody has, and is something else', () => {
  for (const value of ['run_01a1fcc8eca571a2b1157d40282c45aa', 'key:key_01a1', 'WyJ0enFi', 'acme_corp_1']) {
    expect(likeness(value)).toHaveLength(value.length)
    expect(likeness(value)).not.toBe(value)
  }
  expect(likeness('run_01a1fcc8eca571a2b1157d40282c45aa')).toMatch(/^run_[0-9a-f]{32}$/)
})
