import { buildSchema } from 'graphql'
import { expect, test } from 'vitest'
import { contractFaults, noticeDays, releaseFaults } from '../../scripts/contract.ts'

const today = new Date('2027-03-02T12:00:00Z')
const faults = (released: string, current: string, day = today): string[] =>
  contractFaults(buildSchema(released), buildSchema(current), day)
const short = (released: string, current: string): string[] =>
  releaseFaults(buildSchema(released), buildSchema(current), today)

const api = (fields: string, more = ''): string => `type Query { a: Int ${fields} } ${more}`
const gone = '@deprecated(reason: "use a; remove after 2027-03-01")'
const stays = '@deprecated(reason: "use a; remove after 2027-03-02")'

test('what only adds breaks nobody', () => {
  expect(faults(api(''), api('b(c: Int): T', 'type T { a: Int } enum E { A }'))).toEqual([])
  expect(faults(api('b: E', 'enum E { A }'), api('b: E', 'enum E { A B }'))).toEqual([])
})

test.each([
  ['a field that went', api('b: Int'), api(''), 'Query.b: '],
  ['a field of another type', api('b: Int'), api('b: String'), 'Query.b: '],
  ['a field that may be null now', api('b: Int!'), api('b: Int'), 'Query.b: '],
  ['an argument that went', api('b(c: Int, d: Int): Int'), api('b(c: Int): Int'), 'Query.b(d:): '],
  ['an argument that is required now', api('b: Int'), api('b(c: Int!): Int'), 'Query.b(c:): '],
  ['an enum value that went', api('b: E', 'enum E { A B }'), api('b: E', 'enum E { A }'), 'E.B: '],
  [
    'an input that demands more',
    api('b(c: I): Int', 'input I { a: Int }'),
    api('b(c: I): Int', 'input I { a: Int d: Int! }'),
    'I.d: ',
  ],
  ['a type that went', api('', 'type T { a: Int }'), api(''), 'T: '],
  [
    'a member that left a union',
    api('b: U', 'union U = T | Query type T { a: Int }'),
    api('b: U', 'union U = Query type T { a: Int }'),
    'T: ',
  ],
])('%s is refused by name', (_what, released, current, name) => {
  const [fault, ...more] = faults(released, current)
  expect(more).toEqual([])
  expect(fault?.slice(0, name.length)).toBe(name)
  expect(fault).toContain('deprecate it first')
})

test('what was deprecated goes when its day is over in UTC, and not on the day', () => {
  expect(faults(api(`b: Int ${gone}`), api(''))).toEqual([])
  expect(faults(api(`b: Int ${stays}`), api(''))).toEqual([
    'Query.b: Field Query.b was removed. This breaks callers of the released API: it was promised to stay until 2027-03-02.',
  ])
  expect(faults(api(`b(c: Int ${gone}): Int`), api('b: Int'))).toEqual([])
  expect(faults(api('b: E', `enum E { A B ${gone} }`), api('b: E', 'enum E { A }'))).toEqual([])
})

test('a deprecation counts when it was released, not when it comes with the removal', () => {
  expect(faults(api('b: Int c: Int'), api(`c: Int ${gone}`))).toHaveLength(1)
})

test('with a field go its arguments, and with all its fields a type', () => {
  expect(faults(api(`b(c: Int): Int ${gone}`), api('b: Int'))).toEqual([])
  expect(faults(api(`b: T ${gone}`, 'type T { a: Int }'), api(''))).toEqual([])
  expect(faults(api(`b: T ${gone} c: T`, 'type T { a: Int }'), api('c: Int', ''))).toHaveLength(2)
})

test('a deprecation without a day is refused', () => {
  expect(faults(api('b: Int'), api('b: Int @deprecated(reason: "use a")'))).toEqual([
    'Query.b is deprecated without a day: end its reason with "remove after YYYY-MM-DD"',
  ])
  expect(faults(api('b: Int'), api('b: Int @deprecated(reason: "remove after 2027-13-01")'))).toHaveLength(1)
})

test(`a release gives callers ${noticeDays} days, and does not take back what was given`, () => {
  const until = (day: string): string => api(`b: Int @deprecated(reason: "remove after ${day}")`)
  expect(short(api('b: Int'), until('2027-05-30'))).toEqual([
    'Query.b may be removed after 2027-05-30: callers have 90 days, until 2027-05-31 at least',
  ])
  expect(short(api('b: Int'), until('2027-05-31'))).toEqual([])
  expect(short(until('2027-05-31'), until('2027-03-05'))).toHaveLength(1)
  expect(short(until('2027-03-05'), until('2027-03-05'))).toEqual([])
  expect(short(api(''), until('2027-03-05'))).toEqual([])
})
