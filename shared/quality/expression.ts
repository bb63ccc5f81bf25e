import { ExpressionError, type Token, tokensOf } from './tokens.ts'

/** A condition or a value over the columns of one row. Numbers stay as they were written. */
export type Expression =
  | { kind: 'value'; value: string | boolean | null }
  | { kind: 'number'; text: string }
  | { kind: 'parameter'; number: number }
  | { kind: 'column'; name: string }
  | { kind: 'not' | 'minus'; of: Expression }
  | { kind: 'binary'; operator: string; left: Expression; right: Expression }
  | { kind: 'is_null'; of: Expression; negated: boolean }
  | { kind: 'in'; of: Expression; list: Expression[]; negated: boolean }
  | { kind: 'between'; of: Expression; low: Expression; high: Expression; negated: boolean }
  | { kind: 'like'; operator: 'LIKE' | 'ILIKE'; of: Expression; pattern: Expression; negated: boolean }
  | { kind: 'case'; whens: { when: Expression; result: Expression }[]; otherwise: Expression | undefined }
  | { kind: 'cast'; of: Expression; type: string }
  | { kind: 'call'; name: string; args: Expression[] }

/** Functions that an expression may call, with the least and the greatest number of arguments. */
export const expressionFunctions: Readonly<Record<string, readonly [number, number]>> = {
  abs: [1, 1],
  ceil: [1, 1],
  coalesce: [1, 20],
  contains: [2, 2],
  date_diff: [3, 3],
  day: [1, 1],
  ends_with: [2, 2],
  floor: [1, 1],
  greatest: [1, 20],
  hour: [1, 1],
  isodow: [1, 1],
  least: [1, 20],
  left: [2, 2],
  length: [1, 1],
  lower: [1, 1],
  ltrim: [1, 2],
  month: [1, 1],
  nullif: [2, 2],
  regexp_full_match: [2, 2],
  regexp_matches: [2, 2],
  right: [2, 2],
  round: [1, 2],
  rtrim: [1, 2],
  sign: [1, 1],
  starts_with: [2, 2],
  strpos: [2, 2],
  substr: [2, 3],
  trim: [1, 2],
  upper: [1, 1],
  year: [1, 1],
}

/** Types that CAST may name. */
export const castTypes =
  /^(VARCHAR|TEXT|BOOLEAN|SMALLINT|INTEGER|BIGINT|HUGEINT|DOUBLE|DECIMAL\(\d{1,2},\d{1,2}\)|DATE|TIME|TIMESTAMP|TIMESTAMPTZ|UUID)$/

const depthMax = 40

/**
 * Reads an expression: columns, literals, `AND OR NOT`, comparisons, `+ - * / % ||`, `IN`, `BETWEEN`, `LIKE`, `ILIKE`,
 * `IS NULL`, `CASE`, `CAST` and the functions of the list. Subqueries, other functions and anything else are no part of
 * it. Throws ExpressionError.
 */
export function parseExpression(text: string): Expression {
  const reader = readerOf(tokensOf(text), text.length)
  const expression = disjunction(reader, 0)
  const rest = reader.peek()
  if (rest) throw new ExpressionError(`${shown(rest)} is not expected here`, rest.offset)
  return expression
}

type Reader = {
  peek(): Token | undefined
  /** Takes the next token when it is one of these words or signs. */
  take(...texts: string[]): string | undefined
  need(text: string): void
  next(): Token
}

function readerOf(tokens: readonly Token[], end: number): Reader {
  let at = 0
  const peek = (): Token | undefined => tokens[at]
  const fits = (token: Token | undefined, texts: readonly string[]): boolean =>
    token !== undefined && (token.kind === 'word' || token.kind === 'sign') && texts.includes(token.upper)
  return {
    peek,
    take(...texts) {
      const token = peek()
      if (!token || !fits(token, texts)) return undefined
      at++
      return token.upper
    },
    need(text) {
      const token = peek()
      if (!fits(token, [text])) throw new ExpressionError(`${text} is expected`, token?.offset ?? end)
      at++
    },
    next() {
      const token = peek()
      if (!token) throw new ExpressionError('the expression ends too early', end)
      at++
      return token
    },
  }
}

const shown = (token: Token): string => JSON.stringify(token.text.slice(0, 40))

function disjunction(reader: Reader, depth: number): Expression {
  if (depth > depthMax) throw new ExpressionError('the expression is nested too deeply', reader.peek()?.offset ?? 0)
  let left = conjunction(reader, depth + 1)
  while (reader.take('OR')) left = { kind: 'binary', operator: 'OR', left, right: conjunction(reader, depth + 1) }
  return left
}

function conjunction(reader: Reader, depth: number): Expression {
  let left = negation(reader, depth)
  while (reader.take('AND')) left = { kind: 'binary', operator: 'AND', left, right: negation(reader, depth) }
  return left
}

function negation(reader: Reader, depth: number): Expression {
  if (depth > depthMax) throw new ExpressionError('the expression is nested too deeply', reader.peek()?.offset ?? 0)
  return reader.take('NOT') ? { kind: 'not', of: negation(reader, depth + 1) } : comparison(reader, depth)
}

function comparison(reader: Reader, depth: number): Expression {
  const of = sum(reader, depth)
  if (reader.take('IS')) {
    const negated = reader.take('NOT') !== undefined
    if (reader.take('DISTINCT')) {
      reader.need('FROM')
      const operator = negated ? 'IS NOT DISTINCT FROM' : 'IS DISTINCT FROM'
      return { kind: 'binary', operator, left: of, right: sum(reader, depth) }
    }
    reader.need('NULL')
    return { kind: 'is_null', of, negated }
  }
  const operator = reader.take('=', '<>', '!=', '<=', '>=', '<', '>')
  if (operator) return { kind: 'binary', operator, left: of, right: sum(reader, depth) }
  const negated = reader.take('NOT') !== undefined
  if (reader.take('IN')) {
    reader.need('(')
    const list = [disjunction(reader, depth + 1)]
    while (reader.take(',')) list.push(disjunction(reader, depth + 1))
    reader.need(')')
    return { kind: 'in', of, list, negated }
  }
  if (reader.take('BETWEEN')) {
    const low = sum(reader, depth)
    reader.need('AND')
    return { kind: 'between', of, low, high: sum(reader, depth), negated }
  }
  const like = reader.take('LIKE', 'ILIKE')
  if (like)
    return { kind: 'like', operator: like === 'LIKE' ? like : 'ILIKE', of, pattern: sum(reader, depth), negated }
  if (negated) reader.need('IN')
  return of
}

function sum(reader: Reader, depth: number): Expression {
  let left = product(reader, depth)
  for (let operator = reader.take('+', '-', '||'); operator; operator = reader.take('+', '-', '||'))
    left = { kind: 'binary', operator, left, right: product(reader, depth) }
  return left
}

function product(reader: Reader, depth: number): Expression {
  let left = signed(reader, depth)
  for (let operator = reader.take('*', '/', '%'); operator; operator = reader.take('*', '/', '%'))
    left = { kind: 'binary', operator, left, right: signed(reader, depth) }
  return left
}

function signed(reader: Reader, depth: number): Expression {
  if (depth > depthMax) throw new ExpressionError('the expression is nested too deeply', reader.peek()?.offset ?? 0)
  return reader.take('-') ? { kind: 'minus', of: signed(reader, depth + 1) } : primary(reader, depth)
}

const reserved = new Set('AND OR NOT IN BETWEEN LIKE ILIKE IS SELECT FROM WHERE WHEN THEN ELSE END DISTINCT'.split(' '))

function primary(reader: Reader, depth: number): Expression {
  if (reader.take('(')) {
    const inner = disjunction(reader, depth + 1)
    reader.need(')')
    return inner
  }
  const token = reader.next()
  switch (token.kind) {
    case 'text':
      return { kind: 'value', value: token.value }
    case 'number':
      return { kind: 'number', text: token.value }
    case 'name':
      return { kind: 'column', name: token.value }
    case 'parameter':
      return { kind: 'parameter', number: Number(token.value) }
    case 'sign':
      throw new ExpressionError(`${shown(token)} is not expected here`, token.offset)
    case 'word':
      return word(reader, token, depth)
  }
}

function word(reader: Reader, token: Token, depth: number): Expression {
  if (token.upper === 'TRUE' || token.upper === 'FALSE') return { kind: 'value', value: token.upper === 'TRUE' }
  if (token.upper === 'NULL') return { kind: 'value', value: null }
  if (token.upper === 'CASE') return choice(reader, depth)
  if (token.upper === 'CAST') return cast(reader, depth)
  if (reserved.has(token.upper)) throw new ExpressionError(`${shown(token)} is not expected here`, token.offset)
  const after = reader.peek()
  if (after?.kind === 'text' && /^(DATE|TIMESTAMP|TIMESTAMPTZ|TIME)$/.test(token.upper)) {
    reader.next()
    return { kind: 'cast', of: { kind: 'value', value: after.value }, type: token.upper }
  }
  if (!reader.take('(')) return { kind: 'column', name: token.text }
  const name = token.text.toLowerCase()
  const bounds = Object.hasOwn(expressionFunctions, name) ? expressionFunctions[name] : undefined
  if (!bounds)
    throw new ExpressionError(
      `the function ${name} is not available; there are ${Object.keys(expressionFunctions).join(', ')}`,
      token.offset,
    )
  const args: Expression[] = []
  if (!reader.take(')')) {
    do args.push(disjunction(reader, depth + 1))
    while (reader.take(','))
    reader.need(')')
  }
  if (args.length < bounds[0] || args.length > bounds[1])
    throw new ExpressionError(`${name} takes ${bounds[0]} to ${bounds[1]} arguments`, token.offset)
  return { kind: 'call', name, args }
}

function choice(reader: Reader, depth: number): Expression {
  const whens: { when: Expression; result: Expression }[] = []
  reader.need('WHEN')
  do {
    const when = disjunction(reader, depth + 1)
    reader.need('THEN')
    whens.push({ when, result: disjunction(reader, depth + 1) })
  } while (reader.take('WHEN'))
  const otherwise = reader.take('ELSE') ? disjunction(reader, depth + 1) : undefined
  reader.need('END')
  return { kind: 'case', whens, otherwise }
}

function cast(reader: Reader, depth: number): Expression {
  reader.need('(')
  const of = disjunction(reader, depth + 1)
  reader.need('AS')
  const first = reader.next()
  let type = first.upper
  if (reader.take('(')) {
    type += `(${reader.next().text}`
    reader.need(',')
    type += `,${reader.next().text})`
    reader.need(')')
  }
  if (!castTypes.test(type)) throw new ExpressionError(`${type} is no type that can be cast to`, first.offset)
  reader.need(')')
  return { kind: 'cast', of, type }
}
