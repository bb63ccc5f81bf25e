/**
 * How many ways a backtracking engine may have to try `pattern` on 256 characters: the product of what each variable
 * quantifier and each alternative adds. Infinity for what can explode: a repeated group, a back reference.
 * Tenants write these patterns and the edge runs them, so a costly one must be refused before it meets a value.
 */
export function patternCost(pattern: string): number {
  let cost = 1
  for (let i = 0; i < pattern.length; i++) {
    const char = pattern[i]
    if (char === '\\') {
      if (/[1-9k]/.test(pattern[i + 1] ?? '')) return Infinity
      i++
    } else if (char === '[') {
      i = classEnd(pattern, i)
    } else if (char === '|') cost *= 2
    else if (char === ')' && /[*+?{]/.test(pattern[i + 1] ?? '')) return Infinity
    else if (char === '*' || char === '+') cost *= 256
    else if (char === '?' && pattern[i - 1] !== '(') cost *= 2
    else if (char === '{') cost *= rangeCost(pattern.slice(i))
  }
  return cost
}

/** Patterns above this are refused: about 10^8 steps, half a second at worst. */
export const patternCostMax = 2 ** 27

/** A parameter with a pattern takes no longer value. */
export const patternedCharsMax = 256

// The character class that opens at `start`: everything in it is literal.
function classEnd(pattern: string, start: number): number {
  for (let i = start + 1; i < pattern.length; i++) {
    if (pattern[i] === '\\') i++
    else if (pattern[i] === ']') return i
  }
  return pattern.length
}

function rangeCost(rest: string): number {
  const range = /^\{(\d+)(,(\d*))?\}/.exec(rest)
  if (!range || range[2] === undefined) return 1
  return range[3] === '' ? 256 : Math.min(256, Math.max(1, Number(range[3]) - Number(range[1]) + 1))
}
