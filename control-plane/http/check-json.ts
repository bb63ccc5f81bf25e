import { AppError } from '../../shared/errors.ts'
import { limits } from '../graphql/limits.ts'

const brace = { open: 0x7b, close: 0x7d }
const bracket = { open: 0x5b, close: 0x5d }
const [comma, quote, backslash] = [0x2c, 0x22, 0x5c]
// Around the variables stand the body and `variables` itself.
const depthMax = limits.valueDepth + 2

/**
 * Refuses a text that, as JSON, holds too many values, lists that are too long or values nested too deeply, before anything
 * is made of it: a parser would be done with a quarter of a megabyte of braces only after milliseconds. What is no JSON at all is the
 * parser's to say. Throws TOO_LARGE with the figure and the limit.
 */
export function checkJson(text: string, what: string): void {
  // How many items each open list has so far; an object has none.
  const open: number[] = []
  let values = 1
  const refuse = (is: number, max: number, of: string): void => {
    if (is > max) throw new AppError('TOO_LARGE', `${what} has ${is} ${of}; ${max} is the limit.`)
  }
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at)
    if (code === quote) at = endOfString(text, at)
    else if (code === comma) {
      const items = open.at(-1)
      if (items !== undefined && items > 0) {
        open[open.length - 1] = items + 1
        refuse(items + 1, limits.listItems, 'items in a list')
      }
      values++
    } else if (code === bracket.open || code === brace.open) {
      open.push(code === bracket.open ? 1 : 0)
      values++
      refuse(open.length, depthMax, 'levels of values')
    } else if (code === bracket.close || code === brace.close) open.pop()
    refuse(values, limits.values, 'values')
  }
}

// Where the string that begins here ends: at the next quote that an even number of backslashes stands before.
function endOfString(text: string, from: number): number {
  for (let end = text.indexOf('"', from + 1); end >= 0; end = text.indexOf('"', end + 1)) {
    let before = end - 1
    while (text.charCodeAt(before) === backslash) before--
    if ((end - before) % 2 === 1) return end
  }
  return text.length
}
