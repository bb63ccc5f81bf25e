import { findPlaceholders, type Placeholder, wholePlaceholder } from './placeholders.ts'
import { dialectRules, type DialectRules, type SqlDialect } from './sql-dialects.ts'

/** A placeholder in a SQL text, and what its place makes of it. `start` is the offset of the place, quotes included. */
export type SqlSlot = { placeholder: Placeholder; start: number } & (
  | { place: 'literal'; cast: string | undefined }
  | { place: 'name' | 'column'; quote: '"' | '`'; dotted: boolean }
  | { place: 'value' }
  | { place: 'refused'; why: string }
)

/**
 * Splits a SQL text into pieces that stay as they are and placeholders with their places. Knows the quotes of texts and
 * names and the comments of the dialect; `{{` outside of comments is `{`.
 * Joining the pieces with anything in the places of the slots cannot change where a quote or a comment ends.
 */
export function splitSql(text: string, dialect: SqlDialect = 'standard'): (string | SqlSlot)[] {
  const rules = dialectRules[dialect]
  const parts: (string | SqlSlot)[] = []
  const tokens = tokenize(text, rules)
  const levels: Level[] = []
  let level: Level = { clause: 'none' }
  let previous: Token | undefined
  let cast: string | undefined
  for (const [index, token] of tokens.entries()) {
    if (token.kind === 'space') {
      parts.push(token.text)
      continue
    }
    if (token.kind === 'placeholder') parts.push(bareSlot(token, previous, tokens[index + 1], level, rules))
    else if (token.kind === 'quoted') parts.push(...quotedParts(token, previous, cast, nextWord(tokens, index), rules))
    else if (token.kind === 'parameter') parts.push(refusedParameter(token))
    else {
      cast = token.kind === 'word' ? castWord(tokens, index, rules) : undefined
      if (!cast) parts.push(token.text === '{{' ? '{' : token.text)
      if (token.text === '(') {
        levels.push(level)
        level = { clause: 'none' }
      } else if (token.text === ')') level = levels.pop() ?? level
      else if (token.kind === 'word') level.clause = clauseAfter(token.text.toUpperCase(), previous, level)
    }
    if (token.kind === 'quoted') cast = undefined
    previous = token
  }
  return parts
}

/** The slots of a SQL text, in order. */
export function sqlSlots(text: string, dialect: SqlDialect = 'standard'): SqlSlot[] {
  return splitSql(text, dialect).filter((part) => typeof part !== 'string')
}

type Token = { kind: 'space' | 'word' | 'quoted' | 'placeholder' | 'parameter' | 'other'; text: string; start: number }
// What the commas of this parenthesis separate: `SELECT {a}, {b}`, `FROM {a}, {b}`, `BY {a}, {b}`, or values.
type Level = { clause: 'none' | 'columns' | 'tables' | 'names' | 'values' }

function tokenize(text: string, rules: DialectRules): Token[] {
  const tokens: Token[] = []
  const bare = new Map(findPlaceholders(text).map((placeholder) => [placeholder.start, placeholder.raw]))
  for (let at = 0; at < text.length;) {
    const token = tokenAt(text, at, bare, rules)
    tokens.push(token)
    at += token.text.length
  }
  return tokens
}

function tokenAt(text: string, at: number, bare: ReadonlyMap<number, string>, rules: DialectRules): Token {
  const placeholder = bare.get(at)
  if (placeholder) return { kind: 'placeholder', text: placeholder, start: at }
  if (text.startsWith('/*', at))
    return { kind: 'space', text: text.slice(at, commentEnd(text, at, rules.nestsComments)), start: at }
  rules.token.lastIndex = at
  const groups = rules.token.exec(text)?.groups
  if (groups?.['dollar']) {
    const close = text.indexOf(groups['dollar'], at + groups['dollar'].length)
    const end = close < 0 ? text.length : close + groups['dollar'].length
    return { kind: 'quoted', text: text.slice(at, end), start: at }
  }
  if (groups?.['parameter']) return { kind: 'parameter', text: groups['parameter'], start: at }
  if (groups?.['space']) return { kind: 'space', text: groups['space'], start: at }
  if (groups?.['quoted']) return { kind: 'quoted', text: groups['quoted'], start: at }
  if (groups?.['word']) return { kind: 'word', text: groups['word'], start: at }
  if (text.startsWith('{{', at)) return { kind: 'other', text: '{{', start: at }
  return { kind: 'other', text: groups?.['number'] ?? String.fromCodePoint(text.codePointAt(at) ?? 0), start: at }
}

function commentEnd(text: string, start: number, nests: boolean): number {
  if (!nests) {
    const end = text.indexOf('*/', start + 2)
    return end < 0 ? text.length : end + 2
  }
  let depth = 0
  for (let at = start; at < text.length; at++) {
    const two = text.slice(at, at + 2)
    if (two === '/*' || two === '*/') {
      depth += two === '/*' ? 1 : -1
      at++
      if (depth === 0) return at + 1
    }
  }
  return text.length
}

const valueClauses = new Set(
  'WHERE ON HAVING SET VALUES LIMIT OFFSET QUALIFY FETCH WINDOW UNION EXCEPT INTERSECT RETURNING USING'.split(' '),
)

function clauseAfter(word: string, previous: Token | undefined, level: Level): Level['clause'] {
  if (word === 'SELECT') return 'columns'
  if (word === 'BY') return 'names'
  if (word === 'JOIN' || word === 'INTO' || word === 'TABLE') return 'tables'
  if (word === 'UPDATE') return previous ? level.clause : 'tables'
  if (word === 'FROM') return isTableFrom(previous, level) ? 'tables' : 'values'
  return valueClauses.has(word) ? 'values' : level.clause
}

// FROM also stands in `IS DISTINCT FROM`, `extract(day FROM …)` and `trim(… FROM …)`, where a value follows.
function isTableFrom(previous: Token | undefined, level: Level): boolean {
  const word = wordOf(previous)
  if (word === 'DISTINCT') return false
  return level.clause !== 'none' || !previous || previous.text === '(' || word === 'DELETE'
}

function bareSlot(
  token: Token,
  previous: Token | undefined,
  next: Token | undefined,
  level: Level,
  { nameQuote: quote }: DialectRules,
): SqlSlot {
  const slot = { placeholder: placeholderOf(token.text, token.start), start: token.start }
  if (previous?.text === '.' || next?.text === '.') return { ...slot, place: 'name', quote, dotted: true }
  const word = wordOf(previous)
  const isName =
    (level.clause === 'tables' && /^(FROM|JOIN|INTO|TABLE|ONLY|UPDATE|,)$/.test(word)) ||
    (level.clause === 'names' && /^(BY|,)$/.test(word)) ||
    (level.clause !== 'none' && word === 'AS')
  if (isName) return { ...slot, place: 'name', quote, dotted: false }
  if (level.clause === 'columns' && /^(SELECT|DISTINCT|ALL|,)$/.test(word))
    return { ...slot, place: 'column', quote, dotted: false }
  return { ...slot, place: 'value' }
}

function quotedParts(
  token: Token,
  previous: Token | undefined,
  cast: string | undefined,
  next: string,
  rules: DialectRules,
): (string | SqlSlot)[] {
  const inside = findPlaceholders(token.text)[0]
  if (!inside) return [token.text.replaceAll('{{', '{')]
  const quote = token.text[0] ?? ''
  const isText = rules.textQuotes.includes(quote)
  const placeholder = wholeQuoted(token.text)
  const refused = (why: string): SqlSlot[] => [{ placeholder: inside, start: token.start, place: 'refused', why }]
  // A prefix, dollars, three quotes: they bend what stands inside.
  if (isText ? token.text.startsWith(quote.repeat(3)) : quote !== '"' && quote !== '`')
    return refused("a value is written '{name}', in plain quotes")
  if (!placeholder) {
    return refused(
      isText ? "it shares the quotes with other text; join them: 'text' || '{name}'" : 'a name is one placeholder',
    )
  }
  if (!isText) {
    const dotted = !rules.quotesPaths || previous?.text === '.' || next === '.'
    // Neither a text quote nor refused above: one of the two quotes of names.
    return [{ placeholder, start: token.start, place: 'name', quote: quote as '"' | '`', dotted }]
  }
  if (previous?.kind === 'word' && previous.start + previous.text.length === token.start)
    return refused('a letter before the quote changes what the quote means')
  if (cast === 'INTERVAL' && /^(YEAR|QUARTER|MONTH|WEEK|DAY|HOUR|MINUTE|SECOND)S?$/.test(next))
    return refused("write {name} * INTERVAL '1 day', with a number")
  return [{ placeholder, start: token.start, place: 'literal', cast }]
}

// `DATE '{x}'` is one literal to SQL, so `DATE $1` would be no SQL: the word goes into a CAST.
function castWord(tokens: readonly Token[], index: number, rules: DialectRules): string | undefined {
  const word = wordOf(tokens[index])
  if (!rules.typeWords.test(word)) return undefined
  const next = tokens.slice(index + 1, index + 4).find((token) => token.kind !== 'space')
  const isText = next?.kind === 'quoted' && rules.textQuotes.includes(next.text[0] ?? '')
  return isText && wholeQuoted(next.text) && next !== tokens[index + 1] ? word : undefined
}

function nextWord(tokens: readonly Token[], index: number): string {
  return wordOf(tokens.slice(index + 1, index + 4).find((token) => token.kind !== 'space'))
}

function wholeQuoted(text: string): Placeholder | undefined {
  return wholePlaceholder(text.slice(1, -1).replaceAll("''", "'"))
}

function refusedParameter(token: Token): SqlSlot {
  const placeholder = { raw: token.text, name: '', filters: [], start: 0, end: token.text.length }
  return { placeholder, start: token.start, place: 'refused', why: 'values are written {name}, not as parameters' }
}

function placeholderOf(raw: string, start: number): Placeholder {
  return wholePlaceholder(raw) ?? { raw, name: '', filters: [], start, end: start + raw.length }
}

const wordOf = (token: Token | undefined): string => token?.text.toUpperCase() ?? ''
