import { AppError } from '../../shared/errors.ts'

/** Bytes of one answer at most. */
export const answerBytesMax = 4 * 2 ** 20
// Lists of an answer stand this far down at least: below it the engine's own writer is quicker than pieces.
const depthOfPieces = 4
// Items of such a list are written together: each call of the writer has its price.
const itemsOfPiece = 16

/**
 * A result as JSON, written piece by piece and measured as it goes: what is too large is given up there, and never stands
 * whole in memory as text. Throws TOO_LARGE with the figure of the limit.
 */
export function writeJson(result: unknown, bytesMax = answerBytesMax): string {
  const pieces: string[] = []
  let chars = 0
  let bytes = 0
  let counted = 0
  const put = (piece: string): void => {
    pieces.push(piece)
    chars += piece.length
    // No character takes more than 3 bytes: most answers are never counted.
    if (chars * 3 <= bytesMax) return
    for (; counted < pieces.length; counted++) bytes += byteLength(pieces[counted] ?? '')
    if (bytes > bytesMax)
      throw new AppError('TOO_LARGE', `The answer is larger than ${bytesMax} bytes.`, {
        hint: 'Ask for fewer fields or smaller pages.',
      })
  }
  const write = (value: unknown, depth: number): void => {
    if (depth >= depthOfPieces || !isPlain(value)) return put(JSON.stringify(value) ?? 'null')
    if (Array.isArray(value)) {
      put('[')
      if (depth + 1 >= depthOfPieces) {
        for (let at = 0; at < value.length; at += itemsOfPiece)
          put(`${at > 0 ? ',' : ''}${JSON.stringify(value.slice(at, at + itemsOfPiece)).slice(1, -1)}`)
        return put(']')
      }
      value.forEach((item, index) => {
        if (index > 0) put(',')
        write(item, depth + 1)
      })
      return put(']')
    }
    put('{')
    let isFirst = true
    for (const [key, part] of Object.entries(value)) {
      if (part === undefined || typeof part === 'function') continue
      put(`${isFirst ? '' : ','}${JSON.stringify(key)}:`)
      isFirst = false
      write(part, depth + 1)
    }
    put('}')
  }
  write(result, 0)
  return pieces.join('')
}

// What says itself how it is written (errors, dates) is left to the engine.
const isPlain = (value: unknown): value is object =>
  typeof value === 'object' && value !== null && !('toJSON' in value && typeof value.toJSON === 'function')

// UTF-8 of what JSON.stringify gives; lone surrogates are escaped there.
function byteLength(text: string): number {
  let bytes = text.length
  for (let index = 0; index < text.length; index++) {
    const code = text.charCodeAt(index)
    // Each half of a pair counts 2: 4 bytes for the two.
    if (code > 0x7f) bytes += code > 0x7ff && (code < 0xd800 || code > 0xdfff) ? 2 : 1
  }
  return bytes
}
