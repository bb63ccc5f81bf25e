/**
 * SQL text with its parameters `$1 … $n` written as literals, for statements that take none. Text in quotes, dollar
 * quotes and comments stays as it is. `escape` is the driver's way to write a text.
 */
export function inlineValues(
  text: string,
  values: readonly (string | number | boolean | null)[],
  escape: (value: string) => string,
): string {
  return text.replace(token, (match: string, _tag: string | undefined, number: string | undefined) => {
    if (number === undefined) return match
    const value = values[Number(number) - 1]
    if (value === undefined) return match
    // A blank before it: `-` and a negative number would make a comment.
    return typeof value === 'string' ? ` ${escape(value)}` : ` ${value === null ? 'NULL' : String(value)}`
  })
}

// What must not be looked into, longest first: E'' with backslashes, '', "", $tag$…$tag$, comments; then a parameter.
const token =
  /\b[eE]'(?:[^'\\]|\\[\s\S]|'')*'|'(?:[^']|'')*'|"(?:[^"]|"")*"|\$([A-Za-z_]\w*)?\$[\s\S]*?\$\1\$|--[^\n]*|\/\*[\s\S]*?\*\/|(?<![\w$])\$(\d+)\b/g
