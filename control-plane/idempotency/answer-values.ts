/**
 * An answer as JSON that comes back as it was: moments are marked, and what looks like a mark without being one is marked
 * as that.
 */
export function valuesOfAnswer(value: unknown): unknown {
  if (value instanceof Date) return { [mark]: 'moment', value: value.toISOString() }
  if (Array.isArray(value)) return value.map(valuesOfAnswer)
  if (typeof value !== 'object' || value === null) return value
  const values = Object.fromEntries(Object.entries(value).map(([name, part]) => [name, valuesOfAnswer(part)]))
  return Object.hasOwn(value, mark) ? { [mark]: 'object', value: values } : values
}

/** The answer of such values. */
export function answerOfValues(values: unknown): object {
  const answer = valueOf(values)
  return typeof answer === 'object' && answer !== null ? answer : {}
}

const mark = '$is'

function valueOf(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(valueOf)
  if (typeof value !== 'object' || value === null) return value
  const inner = Reflect.get(value, 'value')
  const kind = Reflect.get(value, mark)
  if (kind === 'moment' && typeof inner === 'string') return new Date(inner)
  return partsOf(kind === 'object' ? inner : value)
}

const partsOf = (value: unknown): object =>
  Object.fromEntries(Object.entries(Object(value)).map(([name, part]) => [name, valueOf(part)]))
