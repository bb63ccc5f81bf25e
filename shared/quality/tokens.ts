/** A piece of an expression. `value` is a text or name without its quotes, `upper` the text in capitals. */
export type Token = {
  kind: 'word' | 'name' | 'text' | 'number' | 'parameter' | 'sign'
  text: string
  value: string
  upper: string
  offset: number
}

/** What is wrong with an expression, and at which offset of its text. */
export class ExpressionError extends Error {
  override readonly name = 'ExpressionError'
  readonly offset: number

  constructor(message: string, offset: number) {
    super(message)
    this.offset = offset
  }
}

const pattern =
  /\s+|(?<word>[A-Za-z_][A-Za-z0-9_]*)|"(?<name>(?:[^"]|"")+)"|'(?<text>(?:[^']|'')*)'|(?<number>\d{1,18}(?:\.\d{1,18})?(?:[eE][+-]?\d{1,3})?)|\$(?<parameter>\d{1,4})|(?<sign><>|!=|<=|>=|\|\||[()<>=,+\-*/%])/y

/** Cuts an expression into its pieces. Throws ExpressionError for a sign that is no part of one. */
export function tokensOf(text: string): Token[] {
  const tokens: Token[] = []
  pattern.lastIndex = 0
  for (let offset = 0; offset < text.length; offset = pattern.lastIndex) {
    pattern.lastIndex = offset
    const found = pattern.exec(text)
    if (!found) throw new ExpressionError(`${JSON.stringify(text[offset])} is not expected here`, offset)
    const groups = found.groups ?? {}
    for (const kind of ['word', 'name', 'text', 'number', 'parameter', 'sign'] as const) {
      const value = groups[kind]
      if (value === undefined) continue
      const plain =
        kind === 'name' ? value.replaceAll('""', '"') : kind === 'text' ? value.replaceAll("''", "'") : value
      tokens.push({ kind, text: found[0], value: plain, upper: found[0].toUpperCase(), offset })
    }
  }
  return tokens
}
