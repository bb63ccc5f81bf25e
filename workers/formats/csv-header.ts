import { open } from 'node:fs/promises'
import { AppError } from '../../shared/errors.ts'

const headerBytesMax = 1 << 20

/**
 * The column names of a UTF-8 CSV file. Throws FILE_INVALID when a name is missing, stands there twice (in whatever
 * case), or when the whole header is one column that holds another usual delimiter.
 */
export async function readHeader(
  path: string,
  file: string,
  options: { delimiter: string; quote: string },
): Promise<string[]> {
  const names = splitRecord(await firstBytes(path), options)
  if (!names)
    throw new AppError('FILE_INVALID', `The header of ${file} does not end within 1 MiB: check quote and delimiter.`)
  if (names.length === 1) {
    const other = [';', '\t', '|', ','].find((mark) => mark !== options.delimiter && names[0]?.includes(mark))
    if (other)
      throw new AppError(
        'FILE_INVALID',
        `The header of ${file} is one column that holds ${JSON.stringify(other)}: set delimiter to ${JSON.stringify(other)}.`,
      )
  }
  checkNames(names, file)
  return names
}

/** Throws FILE_INVALID unless the names can be those of columns: not empty, no control character, none twice. */
export function checkNames(names: readonly string[], file: string): void {
  const seen = new Map<string, number>()
  for (const [index, name] of names.entries()) {
    const column = `column ${index + 1} of ${file}`
    if (name.trim() === '') throw new AppError('FILE_INVALID', `The ${column} has no name.`)
    // oxlint-disable-next-line no-control-regex -- control characters are what is refused
    if (/[\u0000-\u001f\u007f]/.test(name) || name.length > 255 || name.toLowerCase() === '__row')
      throw new AppError('FILE_INVALID', `The name of ${column} cannot be used.`)
    const before = seen.get(name.toLowerCase())
    if (before !== undefined)
      throw new AppError(
        'FILE_INVALID',
        `The columns ${before + 1} and ${index + 1} of ${file} have the same name ${JSON.stringify(name)}.`,
      )
    seen.set(name.toLowerCase(), index)
  }
}

async function firstBytes(path: string): Promise<string> {
  const handle = await open(path)
  try {
    const buffer = Buffer.alloc(headerBytesMax)
    const { bytesRead } = await handle.read(buffer, 0, headerBytesMax, 0)
    const text = buffer.toString('utf8', 0, bytesRead)
    return text.charCodeAt(0) === 0xfeff ? text.slice(1) : text
  } finally {
    await handle.close()
  }
}

/** The fields of the first record of a text, or undefined when it does not end there. */
export function splitRecord(text: string, options: { delimiter: string; quote: string }): string[] | undefined {
  const fields: string[] = []
  let field = ''
  let isQuoted = false
  for (let at = 0; at < text.length; at++) {
    const char = text[at]
    if (isQuoted) {
      if (char !== options.quote) field += char
      else if (text[at + 1] === options.quote) {
        field += char
        at++
      } else isQuoted = false
    } else if (char === options.quote && field === '') isQuoted = true
    else if (char === options.delimiter) {
      fields.push(field)
      field = ''
    } else if (char === '\n' || char === '\r') return [...fields, field]
    else field += char
  }
  return isQuoted || text.length >= headerBytesMax ? undefined : [...fields, field]
}
