import type { Expression } from './expression.ts'

/** The columns that an expression names, each once. */
export function columnsOf(expression: Expression): string[] {
  const names = new Map<string, string>()
  const waiting: Expression[] = [expression]
  for (let next = waiting.pop(); next; next = waiting.pop()) {
    if (next.kind === 'column') names.set(next.name.toLowerCase(), next.name)
    waiting.push(...partsOf(next))
  }
  return [...names.values()].toReversed()
}

function partsOf(expression: Expression): Expression[] {
  switch (expression.kind) {
    case 'not':
    case 'minus':
    case 'is_null':
    case 'cast':
      return [expression.of]
    case 'binary':
      return [expression.left, expression.right]
    case 'in':
      return [expression.of, ...expression.list]
    case 'between':
      return [expression.of, expression.low, expression.high]
    case 'like':
      return [expression.of, expression.pattern]
    case 'case':
      return [
        ...expression.whens.flatMap(({ when, result }) => [when, result]),
        ...(expression.otherwise ? [expression.otherwise] : []),
      ]
    case 'call':
      return expression.args
    default:
      return []
  }
}
