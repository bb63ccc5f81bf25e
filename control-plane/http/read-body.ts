import { AppError } from '../../shared/errors.ts'

/** The body of a request as text. Throws TOO_LARGE after `bytesMax`, having read no further, and BAD_INPUT for bytes that are no UTF-8. */
export async function readText(request: Request, bytesMax: number): Promise<string> {
  if (request.body === null) return ''
  if (Number(request.headers.get('content-length') ?? 0) > bytesMax) throw tooLarge(bytesMax)
  const decoder = new TextDecoder('utf-8', { fatal: true })
  const parts: string[] = []
  let bytes = 0
  const reader = request.body.getReader()
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    bytes += part.value.byteLength
    if (bytes > bytesMax) {
      await reader.cancel()
      throw tooLarge(bytesMax)
    }
    parts.push(decoded(() => decoder.decode(part.value, { stream: true })))
  }
  parts.push(decoded(() => decoder.decode()))
  return parts.join('')
}

function decoded(decode: () => string): string {
  try {
    return decode()
  } catch {
    throw new AppError('BAD_INPUT', 'The body is not UTF-8.')
  }
}

const tooLarge = (bytesMax: number): AppError => new AppError('TOO_LARGE', `The body is larger than ${bytesMax} bytes.`)
