import { createReadStream, createWriteStream } from 'node:fs'
import { once } from 'node:events'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { crc32 } from 'node:zlib'
import { ZipArchive } from 'archiver'
import { type Entry, openPromise, type ZipFile } from 'yauzl'
import { AppError } from '../../shared/errors.ts'
import { abortedError } from '../aborted.ts'

/** One file of an archive: its name there, its size and CRC-32. */
export type ZipEntry = { name: string; bytes: number; crc32: number }

// The first moment that ZIP can express: with it, equal files always make equal archives.
const entryDate = new Date('1980-01-01T00:00:00Z')

/**
 * Writes the files into a new ZIP at `path`, in their order, and reports what went in. Equal files, names, level and
 * comment make equal bytes. `level` is zlib's, 0 to 9. Memory stays flat; `onBytes` is told of every piece read.
 */
export async function writeZip(
  path: string,
  files: readonly { name: string; path: string }[],
  options: { level: number; comment: string; signal: AbortSignal; onBytes(bytes: number): void },
): Promise<ZipEntry[]> {
  const archive = new ZipArchive({ zlib: { level: options.level }, comment: options.comment })
  const written = pipeline(archive, createWriteStream(path, { mode: 0o600 }), { signal: options.signal })
  // The loop below sees it at once; this only keeps Node from calling the rejection unhandled before that.
  written.catch(() => {})
  const entries: ZipEntry[] = []
  for (const file of files) {
    const entry: ZipEntry = { name: file.name, bytes: 0, crc32: 0 }
    const source = Readable.from(measured(file.path, entry, options.onBytes), { objectMode: false })
    source.once('error', (error) => archive.destroy(error))
    const added = once(archive, 'entry', { signal: options.signal })
    archive.append(source, { name: file.name, date: entryDate, mode: 0o644 })
    await Promise.race([added, written]).catch((error: unknown) => {
      added.catch(() => {})
      source.destroy()
      throw options.signal.aborted ? abortedError(options.signal) : error
    })
    entries.push(entry)
  }
  await Promise.race([archive.finalize(), written])
  await written
  return entries
}

async function* measured(path: string, entry: ZipEntry, onBytes: (bytes: number) => void): AsyncGenerator<Buffer> {
  for await (const piece of createReadStream(path, { highWaterMark: 1 << 18 })) {
    // A stream without an encoding gives Buffers.
    const chunk = piece as Buffer
    entry.bytes += chunk.length
    entry.crc32 = crc32(chunk, entry.crc32)
    onBytes(chunk.length)
    yield chunk
  }
}

/** What a local file would be as an entry of this name. Throws what reading it throws. */
export async function measureFile(path: string, name: string): Promise<ZipEntry> {
  const entry: ZipEntry = { name, bytes: 0, crc32: 0 }
  const pieces = measured(path, entry, () => {})
  while (!(await pieces.next()).done);
  return entry
}

/** The comment of a ZIP without reading its files; undefined when the file is not a ZIP. */
export async function zipComment(path: string): Promise<string | undefined> {
  const zip = await openPromise(path).catch(() => undefined)
  zip?.close()
  return zip?.comment
}

/**
 * Reads a ZIP back, every byte of it: each file is unpacked and its size and CRC-32 compared with what the archive says.
 * Throws VERIFY_FAILED when anything differs or the archive cannot be read.
 */
export async function readZip(path: string, signal: AbortSignal): Promise<ZipEntry[]> {
  const entries: ZipEntry[] = []
  try {
    const zip = await openPromise(path, { strictFileNames: true })
    for await (const entry of zip.eachEntry()) entries.push(await readEntry(zip, entry, signal))
  } catch (cause) {
    if (signal.aborted) throw abortedError(signal)
    throw new AppError('VERIFY_FAILED', 'The archive does not read back as it was written.', {
      cause,
      hint: 'Retry the step; if it fails again, check the disk of the worker.',
    })
  }
  return entries
}

async function readEntry(zip: ZipFile, entry: Entry, signal: AbortSignal): Promise<ZipEntry> {
  let bytes = 0
  let sum = 0
  // yauzl compares sizes and leaves the checksum to its user.
  for await (const chunk of await zip.openReadStreamPromise(entry)) {
    signal.throwIfAborted()
    bytes += chunk.length
    sum = crc32(chunk, sum)
  }
  if (sum !== entry.crc32) throw new Error(`CRC-32 of ${entry.fileName} differs`)
  return { name: entry.fileName, bytes, crc32: sum }
}
