import { AppError } from '../../shared/errors.ts'

/** The request with its body in memory. Throws TOO_LARGE after `bytesMax`, having read no further. */
export async function withBody(request: Request, bytesMax: number): Promise<Request> {
  if (request.body === null) return request
  if (Number(request.headers.get('content-length') ?? 0) > bytesMax) throw tooLarge(bytesMax)
  const parts: Uint8Array<ArrayBuffer>[] = []
  let bytes = 0
  const reader = request.body.getReader()
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    bytes += part.value.byteLength
    if (bytes > bytesMax) {
      await reader.cancel()
      throw tooLarge(bytesMax)
    }
    parts.push(part.value)
  }
  const { method, headers, signal } = request
  return new Request(request.url, { method, headers, signal, body: await new Blob(parts).arrayBuffer() })
}

const tooLarge = (bytesMax: number): AppError => new AppError('TOO_LARGE', `The body is larger than ${bytesMax} bytes.`)
