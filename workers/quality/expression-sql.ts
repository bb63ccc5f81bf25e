import { AppError } from '../../shared/errors.ts'
import { type Expression, parseExpression } from '../../shared/quality/expression.ts'
import { ExpressionError } from '../../shared/quality/tokens.ts'
import type { BoundSql, Column } from '../define.ts'
import { literal, quoted } from '../lake/names.ts'

/**
 * The condition of a rule as SQL over `columns`, written anew from what was read: nothing of the tenant's text gets into
 * it but names of columns and literals. Throws CONFIG_INVALID for what cannot be read and for a column that is not there.
 */
export function conditionSql(bound: BoundSql, columns: readonly Column[]): { sql: string; expression: Expression } {
  try {
    const expression = parseExpression(bound.text)
    return { sql: writer(bound.values, columns)(expression), expression }
  } catch (error) {
    if (!(error instanceof ExpressionError)) throw error
    throw new AppError('CONFIG_INVALID', `The expression cannot be read: ${error.message}.`)
  }
}

function writer(values: BoundSql['values'], columns: readonly Column[]): (expression: Expression) => string {
  const names = new Map(columns.map(({ name }) => [name.toLowerCase(), name]))
  const write = (expression: Expression): string => {
    switch (expression.kind) {
      case 'value':
        return valueSql(expression.value)
      case 'number':
        return expression.text
      case 'parameter':
        return parameterSql(values, expression.number)
      case 'column': {
        const name = names.get(expression.name.toLowerCase())
        if (name === undefined)
          throw new AppError('CONFIG_INVALID', `There is no column ${JSON.stringify(expression.name)}.`)
        return quoted(name)
      }
      case 'not':
        return `(NOT ${write(expression.of)})`
      case 'minus':
        return `(- ${write(expression.of)})`
      case 'binary':
        return `(${write(expression.left)} ${expression.operator} ${write(expression.right)})`
      case 'is_null':
        return `(${write(expression.of)} IS ${not(expression.negated)}NULL)`
      case 'in':
        return `(${write(expression.of)} ${not(expression.negated)}IN (${expression.list.map(write).join(', ')}))`
      case 'between':
        return `(${write(expression.of)} ${not(expression.negated)}BETWEEN ${write(expression.low)} AND ${write(expression.high)})`
      case 'like':
        return `(${write(expression.of)} ${not(expression.negated)}${expression.operator} ${write(expression.pattern)})`
      case 'case': {
        const whens = expression.whens.map(({ when, result }) => `WHEN ${write(when)} THEN ${write(result)}`).join(' ')
        return `CASE ${whens}${expression.otherwise ? ` ELSE ${write(expression.otherwise)}` : ''} END`
      }
      case 'cast':
        return `TRY_CAST(${write(expression.of)} AS ${expression.type})`
      case 'call':
        return `${expression.name}(${expression.args.map(write).join(', ')})`
    }
  }
  return write
}

const not = (negated: boolean): string => (negated ? 'NOT ' : '')

function parameterSql(values: BoundSql['values'], number: number): string {
  const value = values[number - 1]
  if (value === undefined)
    throw new AppError('CONFIG_INVALID', `The expression names a value $${number} that it has not.`)
  return typeof value === 'number' ? String(value) : valueSql(value)
}

const valueSql = (value: string | boolean | null): string =>
  value === null ? 'NULL' : typeof value === 'boolean' ? String(value) : literal(value)
