import type { Value, Values } from '../../schema/config/variables.ts'
import { AppError } from '../errors.ts'
import { renderText, resolveSettings } from './variables.ts'

const comparison = /^(.*\S)\s+(==|!=|<=|>=|<|>)\s+(\S.*)$/

/**
 * Whether a step's `when` lets it run; a step without one runs. Text with ` == != < <= > >= ` between spaces is a
 * comparison of both sides, as numbers when both are. Anything else stands for itself: false, 0, empty, null, `false`,
 * `no` and `0` pass the step over. Placeholders are filled after the operator was found, so that no value can bring one.
 * Throws VARIABLE_UNKNOWN for a name without a value.
 */
export function isWanted(when: boolean | string | undefined, values: Values): boolean {
  if (when === undefined || typeof when === 'boolean') return when ?? true
  const parts = comparison.exec(when.trim())
  if (!parts) return isTrue(resolveSettings({ when }, [], values)['when'])
  const [left, right] = [renderText(parts[1] ?? '', values), renderText(parts[3] ?? '', values)]
  return compare(left, parts[2] ?? '', right)
}

function compare(left: string, operator: string, right: string): boolean {
  const numbers = [left, right].map((side) => (side.trim() === '' ? Number.NaN : Number(side)))
  const [a, b] = numbers.some(Number.isNaN) ? [unquoted(left), unquoted(right)] : numbers
  if (a === undefined || b === undefined) return false
  if (operator === '==') return a === b
  if (operator === '!=') return a !== b
  if (operator === '<') return a < b
  if (operator === '<=') return a <= b
  if (operator === '>') return a > b
  if (operator === '>=') return a >= b
  throw new AppError('CONFIG_INVALID', `"${operator}" compares nothing.`)
}

const unquoted = (text: string): string => text.replace(/^(['"])(.*)\1$/s, '$2')

function isTrue(value: unknown): boolean {
  const text: Value = typeof value === 'string' ? value.trim().toLowerCase() : ''
  return typeof value === 'string' ? text !== '' && !['false', 'no', '0'].includes(text) : Boolean(value)
}
