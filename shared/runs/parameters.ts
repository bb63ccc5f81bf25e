import { patternedCharsMax } from '../../schema/config/pattern.ts'
import type { Parameter, Pipeline } from '../../schema/config/pipeline.ts'
import type { Value, Values } from '../../schema/config/variables.ts'
import { readDate } from '../config/filters.ts'
import { suggest } from '../config/suggest.ts'
import { AppError } from '../errors.ts'

const charsMax = 10_000

/**
 * The parameters of a run, checked and in their declared types (text such as "5" or "true" is read as its type). Defaults
 * are filled in. Beside the declared ones a run may give `date` and any variable of the pipeline; nothing else.
 * Throws one PARAMETER_INVALID that names every faulty field; its place is the first.
 */
export function parameterValues(pipeline: Pipeline, given: Readonly<Record<string, unknown>>): Values {
  const values: Record<string, Value> = {}
  const faults: [name: string, fault: string][] = []
  const take = (name: string, parameter: Rule, value: unknown): void => {
    const read = coerce(parameter, value)
    const fault = read === undefined ? expected[parameter.type] : valueFault(parameter, read)
    if (read !== undefined && fault === undefined) values[name] = read
    else faults.push([name, fault ?? expected[parameter.type]])
  }
  for (const [name, parameter] of Object.entries(pipeline.parameters)) {
    const value = Object.hasOwn(given, name) && given[name] !== null ? given[name] : undefined
    if (value !== undefined || parameter.default !== undefined) take(name, parameter, value ?? parameter.default)
    else if (parameter.required) faults.push([name, 'is required'])
    else values[name] = null
  }
  for (const [name, value] of Object.entries(given)) {
    if (Object.hasOwn(pipeline.parameters, name)) continue
    if (name === 'date') take(name, { type: 'date' }, value)
    else if (Object.hasOwn(pipeline.variables, name)) take(name, { type: typeOf(pipeline.variables[name]) }, value)
    else faults.push([name, unknownFault(name, pipeline)])
  }
  const first = faults[0]
  if (!first) return values
  throw new AppError('PARAMETER_INVALID', `${faults.map(([name, fault]) => `${name}: ${fault}`).join('; ')}.`, {
    place: { path: first[0] },
  })
}

/** Why a value does not fit a declared parameter; undefined when it does. */
export function parameterFault(parameter: Parameter, value: unknown): string | undefined {
  const read = coerce(parameter, value)
  return read === undefined ? expected[parameter.type] : valueFault(parameter, read)
}

type Rule = Pick<Parameter, 'type'> & Partial<Parameter>

const expected = {
  string: 'expected text',
  integer: 'expected a whole number',
  number: 'expected a number',
  boolean: 'expected true or false',
  date: 'expected a day such as 2024-11-01',
} as const satisfies Record<Parameter['type'], string>

function coerce(parameter: Rule, value: unknown): string | number | boolean | undefined {
  if (parameter.type === 'string') return typeof value === 'object' || value === undefined ? undefined : String(value)
  if (parameter.type === 'boolean') {
    if (value === 'true' || value === 'false') return value === 'true'
    return typeof value === 'boolean' ? value : undefined
  }
  if (parameter.type === 'date')
    return typeof value === 'string' && value.length === 10 && readDate(value) ? value : undefined
  const isText = typeof value === 'string' && /^-?\d{1,15}(\.\d{1,15})?$/.test(value)
  const number = isText ? Number(value) : value
  if (typeof number !== 'number' || !Number.isFinite(number)) return undefined
  return parameter.type === 'number' || Number.isSafeInteger(number) ? number : undefined
}

function valueFault(parameter: Rule, value: string | number | boolean): string | undefined {
  const text = String(value)
  if (text.length > charsMax) return `expected at most ${charsMax} characters`
  if (text.includes('\0') || !text.isWellFormed()) return 'NUL and broken Unicode are not allowed'
  if (parameter.enum && !parameter.enum.some((option) => String(option) === text))
    return `expected one of ${parameter.enum.join(', ')}`
  if (parameter.pattern !== undefined) {
    if (text.length > patternedCharsMax) return `expected at most ${patternedCharsMax} characters`
    if (!new RegExp(`^(?:${parameter.pattern})$`, 'u').test(text)) return `expected a match of ${parameter.pattern}`
  }
  return rangeFault(parameter, value)
}

// Numbers by size, days by the calendar, text by its length.
function rangeFault(parameter: Rule, value: string | number | boolean): string | undefined {
  const isLength = parameter.type === 'string'
  const size = isLength ? String(value).length : value
  const bound = (limit: string | number): string | number => (typeof size === 'number' ? Number(limit) : limit)
  const unit = isLength ? ' characters' : ''
  if (parameter.min !== undefined && size < bound(parameter.min)) return `expected at least ${parameter.min}${unit}`
  if (parameter.max !== undefined && size > bound(parameter.max)) return `expected at most ${parameter.max}${unit}`
  return undefined
}

function typeOf(value: Value | undefined): Parameter['type'] {
  if (typeof value === 'number') return 'number'
  return typeof value === 'boolean' ? 'boolean' : 'string'
}

function unknownFault(name: string, pipeline: Pipeline): string {
  const near = suggest(name, [...Object.keys(pipeline.parameters), ...Object.keys(pipeline.variables), 'date'])
  return near ? `there is no such parameter, did you mean "${near}"?` : 'there is no such parameter'
}
