import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { AppError } from '../../shared/errors.ts'
import { abortedError } from '../aborted.ts'

/** What a file holds: its size and SHA-256 in hexadecimal. */
export type FileDigest = { bytes: number; sha256: string }

/** Reads a local file once, in pieces of 1 MiB. Throws FILE_MISSING when it is gone, the signal's error on abort. */
export async function hashFile(path: string, signal: AbortSignal): Promise<FileDigest> {
  const hash = createHash('sha256')
  let bytes = 0
  try {
    for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20, signal })) {
      hash.update(chunk)
      bytes += chunk.length
    }
  } catch (cause) {
    if (signal.aborted) throw abortedError(signal)
    if (cause instanceof Error && 'code' in cause && cause.code === 'ENOENT')
      throw new AppError('FILE_MISSING', 'A file of this step is no longer there.', { cause })
    throw cause
  }
  return { bytes, sha256: hash.digest('hex') }
}
