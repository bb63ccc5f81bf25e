import type { Values } from '../../schema/config/variables.ts'
import { AppError } from '../errors.ts'
import { placeholderValue } from './variables.ts'
import { dialectRules, type SqlDialect } from './sql-dialects.ts'
import { type SqlSlot, splitSql } from './sql-slots.ts'

/** SQL ready to run: the text has `$1 … $n` (BigQuery: `@p1 … @pn`) where values go, `values` are bound. */
export type BoundSql = { text: string; values: (string | number | boolean | null)[] }

/**
 * The placeholders of a SQL text, by place; no value ever becomes SQL text.
 * - `'{date}'`: a bound value, `$n`, always text (or NULL); `DATE '{date}'` becomes `CAST($n AS DATE)`.
 * - `"{column}"`, and bare after FROM, JOIN, INTO, TABLE, SELECT, BY, AS or beside a dot: a name, checked against
 *   `[A-Za-z_][A-Za-z0-9_$]*` and quoted; `crm.orders` becomes `"crm"."orders"` unless it stands beside a dot.
 * - bare anywhere else: a bound number or boolean.
 * In BigQuery a text may stand in double quotes, names in backticks, and their parts may have hyphens.
 * Placeholders in comments stay as they are. Every other place throws SQL_INTERPOLATION with line and column in the text.
 * Throws VARIABLE_UNKNOWN for a name without a value.
 */
export function bindSql(text: string, values: Values, dialect: SqlDialect = 'standard'): BoundSql {
  const { parameter, namePart } = dialectRules[dialect]
  const bound: BoundSql['values'] = []
  const bind = (value: BoundSql['values'][number]): string => parameter(bound.push(value))
  const rendered = splitSql(text, dialect).map((part) =>
    typeof part === 'string' ? part : renderSlot(part, values, text, bind, namePart),
  )
  return { text: rendered.join(''), values: bound }
}

/** Line and column, both from 1, of an offset in a text. */
export function placeIn(text: string, offset: number): { line: number; column: number } {
  const before = text.slice(0, offset)
  return { line: before.split('\n').length, column: offset - before.lastIndexOf('\n') }
}

type Bind = (value: BoundSql['values'][number]) => string

function renderSlot(slot: SqlSlot, values: Values, text: string, bind: Bind, namePart: RegExp): string {
  const refuse = (why: string): AppError =>
    new AppError('SQL_INTERPOLATION', `${slot.placeholder.raw} cannot stand here: ${why}.`, {
      place: placeIn(text, slot.start),
    })
  if (slot.place === 'refused') throw refuse(slot.why)
  const value = placeholderValue(slot.placeholder, values)
  if (typeof value === 'object' && value !== null) throw refuse('it stands for a list or a group of values')
  if (slot.place === 'literal') {
    const parameter = bind(value === null ? null : String(value))
    return slot.cast ? `CAST(${parameter} AS ${slot.cast})` : parameter
  }
  const isNumber = typeof value === 'number' || typeof value === 'boolean'
  if (slot.place === 'value' || (slot.place === 'column' && isNumber)) {
    if (isNumber) return bind(value)
    throw refuse(`a value is written '${slot.placeholder.raw}' and a name "${slot.placeholder.raw}", with the quotes`)
  }
  const parts = typeof value === 'string' ? value.split('.') : []
  if (parts.length === 0 || parts.length > (slot.dotted ? 1 : 3) || !parts.every((part) => namePart.test(part)))
    throw refuse('its value is no name of a table or a column')
  return parts.map((part) => `${slot.quote}${part}${slot.quote}`).join('.')
}
