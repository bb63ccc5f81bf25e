/** Whose SQL a text is written in: `standard` is what PostgreSQL and DuckDB read. */
export const sqlDialects = ['standard', 'bigquery'] as const
/** A dialect of the closed list. */
export type SqlDialect = (typeof sqlDialects)[number]

/** How a dialect is cut into tokens, and how names and values are written in it. */
export type DialectRules = {
  /** One token from `lastIndex`. Comments count as space. An open quote or comment runs to the end: the database refuses it. */
  token: RegExp
  /** Whether a comment within a comment has an end of its own. */
  nestsComments: boolean
  /** Quotes of texts; what is quoted otherwise is a name. */
  textQuotes: string
  /** Words that make a typed literal with the text behind them. */
  typeWords: RegExp
  nameQuote: '"' | '`'
  /** One part of a dotted name. It cannot hold the quote. */
  namePart: RegExp
  /** Whether quotes around a whole path quote each of its parts. */
  quotesPaths: boolean
  /** The nth bound value, from 1. */
  parameter(n: number): string
}

const word = String.raw`(?<word>[\p{L}_][\p{L}\p{M}\p{N}_$]*)`

const standard: DialectRules = {
  token: tokens(
    String.raw`(?<space>\s+|--[^\n]*)`,
    String.raw`(?<quoted>[eE]'(?:[^'\\]|\\[\s\S]|'')*(?:'|$)|'(?:[^']|'')*(?:'|$)|"(?:[^"]|"")*(?:"|$)|${'`'}[^${'`'}]*(?:${'`'}|$))`,
    String.raw`(?<parameter>\$\d+)`,
    String.raw`(?<dollar>\$(?:[A-Za-z_\u0080-\uffff][\w\u0080-\uffff]*)?\$)`,
    word,
    String.raw`(?<number>\d[\w.]*)`,
  ),
  nestsComments: true,
  textQuotes: "'",
  typeWords: /^(DATE|TIME|TIMESTAMP|TIMESTAMPTZ|INTERVAL)$/,
  nameQuote: '"',
  namePart: /^[A-Za-z_][A-Za-z0-9_$]{0,62}$/,
  quotesPaths: false,
  parameter: (n) => `$${n}`,
}

// A backslash takes the next character along in every quote, raw ones included; there are no doubled quotes.
const escaped = (quote: string): string => String.raw`${quote}(?:[^${quote}\\]|\\[\s\S])*(?:${quote}|$)`
const tripled = (quote: string): string =>
  String.raw`${quote}{3}(?:[^${quote}\\]|\\[\s\S]|${quote}(?!${quote}${quote}))*(?:${quote}{3}|$)`

const bigquery: DialectRules = {
  token: tokens(
    String.raw`(?<space>\s+|--[^\n]*|#[^\n]*)`,
    `(?<quoted>(?:[rR][bB]?|[bB][rR]?)?(?:${tripled("'")}|${tripled('"')}|${escaped("'")}|${escaped('"')})|${escaped('`')})`,
    String.raw`(?<parameter>@[A-Za-z_]\w*|\?)`,
    word,
    // Two at-signs are a variable of the system, not a parameter.
    String.raw`(?<number>\d[\w.]*|@@[\w.]*)`,
  ),
  nestsComments: false,
  textQuotes: `'"`,
  typeWords: /^(DATE|DATETIME|TIME|TIMESTAMP|NUMERIC|BIGNUMERIC|INTERVAL)$/,
  nameQuote: '`',
  // Projects have hyphens, tables may begin with a digit.
  namePart: /^[A-Za-z0-9_][A-Za-z0-9_-]{0,254}$/,
  quotesPaths: true,
  // By name, not by place: a question mark of the text itself would shift all that follow.
  parameter: (n) => `@p${n}`,
}

/** The rules of each dialect. */
export const dialectRules: Readonly<Record<SqlDialect, DialectRules>> = { standard, bigquery }

function tokens(...forms: string[]): RegExp {
  return new RegExp(forms.join('|'), 'uy')
}
