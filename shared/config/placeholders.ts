/** A placeholder as it stands in a text: `{date | date_add:-1d}`. */
export type Placeholder = {
  /** The text itself, braces included. */
  raw: string
  /** `date`, or `steps.extract.rows`. */
  name: string
  filters: Filter[]
  /** Offsets in the text, end exclusive. */
  start: number
  end: number
}

/** A filter and what stands after its colon. */
export type Filter = { name: string; argument: string | undefined }

// No two neighbours of this expression can match the same character: it stays linear on hostile text.
const form = String.raw`\{([a-z_][a-z0-9_]*(?:\.[a-z0-9_]+)*)(?:\s*((?:\|\s*[a-z_]+\s*(?::[^{}|]*)?)+))?\}`
const pieces = new RegExp(`\\{\\{|${form}`, 'g')
const whole = new RegExp(`^${form}$`)

/**
 * Splits a text into literal pieces (`{{` already read as `{`) and placeholders, in order. A brace that opens neither is
 * literal, so that JSON and glob braces need no escape.
 */
export function splitPlaceholders(text: string): (string | Placeholder)[] {
  const parts: (string | Placeholder)[] = []
  let literal = ''
  let from = 0
  for (const match of text.matchAll(pieces)) {
    literal += text.slice(from, match.index)
    from = match.index + match[0].length
    if (match[0] === '{{') literal += '{'
    else {
      if (literal) parts.push(literal)
      literal = ''
      parts.push(read(match[0], match[1], match[2], match.index))
    }
  }
  literal += text.slice(from)
  if (literal) parts.push(literal)
  return parts
}

/** The placeholders of a text, in order. */
export function findPlaceholders(text: string): Placeholder[] {
  return text.includes('{') ? splitPlaceholders(text).filter((part) => typeof part !== 'string') : []
}

/** The placeholder that a text consists of; undefined when there is anything beside it. */
export function wholePlaceholder(text: string): Placeholder | undefined {
  const match = whole.exec(text)
  return match ? read(match[0], match[1], match[2], 0) : undefined
}

/** Things that look meant as placeholders and are literal text: `{ date }`, `{Date}`. */
export function nearPlaceholders(text: string): string[] {
  return text.replace(pieces, ' ').match(/\{\s*[A-Za-z_][\w.]*\s*\}/g) ?? []
}

function read(raw: string, name: string | undefined, filters: string | undefined, start: number): Placeholder {
  return {
    raw,
    name: name ?? '',
    filters: (filters ?? '')
      .split('|')
      .slice(1)
      .map((filter) => {
        const colon = filter.indexOf(':')
        return colon < 0
          ? { name: filter.trim(), argument: undefined }
          : { name: filter.slice(0, colon).trim(), argument: filter.slice(colon + 1).trim() }
      }),
    start,
    end: start + raw.length,
  }
}
