import { describe, expect, test } from 'vitest'
import { AppError } from '../../../shared/errors.ts'
import { parsePipeline } from '../../../shared/config/parse.ts'
import { parameterValues } from '../../../shared/runs/parameters.ts'
import { sampleCatalog } from '../config/sample-catalog.ts'

const text = `
pipeline_id: p
variables: { source_table: billing_export, limit: 10, dry: false }
parameters:
  since: { type: date, default: "1970-01-01", max: "2030-12-31" }
  rows: { type: integer, min: 1, max: 1000 }
  share: { type: number, min: 0, max: 1 }
  full: { type: boolean, default: false }
  region: { type: string, required: true, enum: [eu, us] }
  code: { type: string, pattern: "[A-Z]{2,4}" }
  note: { type: string, max: 10 }
steps:
  - { step_id: a, ps_type: quality.check, table: t, rules: [{ rule: not_null, column: c }] }
`
const parsed = parsePipeline(text, { catalog: sampleCatalog })
if (!('pipeline' in parsed)) throw new Error(JSON.stringify(parsed.problems))
const { pipeline } = parsed

test('defaults are filled in, and what is neither given nor defaulted is null', () => {
  expect(parameterValues(pipeline, { region: 'eu' })).toEqual({
    since: '1970-01-01',
    rows: null,
    share: null,
    full: false,
    region: 'eu',
    code: null,
    note: null,
  })
})

test('text of a command line is read as the declared type', () => {
  const given = { region: 'us', rows: '12', share: '0.5', full: 'true', since: '2024-11-01', code: 'ABC', note: 5 }
  expect(parameterValues(pipeline, given)).toEqual({ ...given, rows: 12, share: 0.5, full: true, note: '5' })
})

test('a run may give the day and any variable, in the type of the variable', () => {
  const given = { region: 'eu', date: '2024-11-01', source_table: 'other', limit: '5', dry: 'true' }
  expect(parameterValues(pipeline, given)).toMatchObject({
    date: '2024-11-01',
    source_table: 'other',
    limit: 5,
    dry: true,
  })
})

describe('refused, by name', () => {
  test.each<[string, unknown, RegExp]>([
    ['region', 'asia', /^region: expected one of eu, us\.$/],
    ['region', null, /^region: is required\.$/],
    ['rows', 0, /^rows: expected at least 1\.$/],
    ['rows', 1.5, /^rows: expected a whole number\.$/],
    ['rows', '12 or 1=1', /^rows: expected a whole number\.$/],
    ['rows', '1e3', /^rows: expected a whole number\.$/],
    ['rows', Number.NaN, /^rows: expected a whole number\.$/],
    ['share', 1.1, /^share: expected at most 1\.$/],
    ['full', 'yes', /^full: expected true or false\.$/],
    ['since', '2024-02-30', /^since: expected a day such as 2024-11-01\.$/],
    ['since', "2024-11-01'; DROP TABLE t; --", /^since: expected a day/],
    ['since', '2031-01-01', /^since: expected at most 2030-12-31\.$/],
    ['code', 'ABCDE', /^code: expected a match of/],
    ['code', 'AB\n', /^code: expected a match of/],
    ['code', 'A'.repeat(257), /^code: expected at most 256 characters\.$/],
    ['note', 'x'.repeat(11), /^note: expected at most 10 characters\.$/],
    ['note', 'a\0b', /^note: NUL and broken Unicode are not allowed\.$/],
    ['note', '\ud800', /^note: NUL and broken Unicode are not allowed\.$/],
    ['note', { a: 1 }, /^note: expected text\.$/],
    ['note', ['a'], /^note: expected text\.$/],
    ['date', '01.11.2024', /^date: expected a day/],
    ['limit', 'ten', /^limit: expected a number\.$/],
    ['source_table', 'x'.repeat(10_001), /^source_table: expected at most 10000 characters\.$/],
    ['tenant_id', 'other', /^tenant_id: there is no such parameter\.$/],
    ['rowz', 5, /^rowz: there is no such parameter, did you mean "rows"\?\.$/],
    ['__proto__', 'x', /^__proto__: there is no such parameter\.$/],
    ['constructor', 'x', /^constructor: there is no such parameter\.$/],
  ])('%s %j', (name, value, message) => {
    const given = Object.fromEntries([
      ['region', 'eu'],
      [name, value],
    ])
    const error = refusalOf(given)
    expect(error.message).toMatch(message)
    expect([error.code, error.place]).toEqual(['PARAMETER_INVALID', { path: name }])
  })

  test('all at once', () => {
    expect(refusalOf({ rows: 0, share: 2, zzzz: 1 }).message).toBe(
      'rows: expected at least 1; share: expected at most 1; region: is required; zzzz: there is no such parameter.',
    )
  })
})

function refusalOf(given: Record<string, unknown>): AppError {
  try {
    parameterValues(pipeline, given)
  } catch (error) {
    if (error instanceof AppError) return error
    throw error
  }
  throw new Error('nothing was refused')
}
