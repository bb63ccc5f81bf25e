import { createHash } from 'node:crypto'
import { type FileHandle, open } from 'node:fs/promises'
import { setTimeout as wait } from 'node:timers/promises'
import type { Stats } from 'ssh2'
import { AppError } from '../../shared/errors.ts'
import { throwIfAborted } from '../aborted.ts'
import { entriesMax, filePattern, tooMany } from '../watches/file-source.ts'
import { safeEntryName } from './entry-name.ts'
import type { FileDigest } from './hash-file.ts'
import { listRemote, makeDirectories, readRemote, remoteJoin, sftpStatus } from './sftp-remote.ts'
import { type SftpSession, statusOf } from './sftp-session.ts'

/** One file by its path, or those that a pattern means: `*` and `?` may stand in the name. */
export type Wanted = { path: string } | { pattern: string; filesMax: number }

/** A regular file on a server, with a name that is safe here. `modifiedAt` in seconds, as the server says. */
export type RemoteFile = { name: string; remotePath: string; bytes: number; modifiedAt: number }

/** What becomes of a file on its server once it stands here for good. */
export type After = 'keep' | 'delete' | { moveTo: string; suffix: string }

// The largest packet that OpenSSH takes; a server that gives less at once is asked again.
const chunkBytes = 258_048
const partPattern = /\.part-\d+(\.replaced)?$/

/**
 * Finds the files that are meant, sorted by name; none when nothing is there. Files that are being delivered under a part
 * name are none of them. Each has kept its size and time for `settleMs`.
 * Throws PATH_INVALID for links and for names that are not safe here, TOO_LARGE for more files than wanted and for folders
 * of more than 10,000 entries, SOURCE_FAILED for what the server refuses and for a file that is still changing.
 */
export async function findRemote(
  session: SftpSession,
  wanted: Wanted,
  { settleMs, signal }: { settleMs: number; signal: AbortSignal },
): Promise<RemoteFile[]> {
  const paths = 'path' in wanted ? [wanted.path] : await matching(session, wanted)
  const taken = new Set<string>()
  const files: RemoteFile[] = []
  for (const remotePath of paths) {
    const name = safeName(remotePath, taken)
    const there = await lookAt(session, remotePath)
    if (there) files.push({ name, remotePath, ...there })
  }
  if (files.length === 0) return files
  await wait(settleMs, undefined, { signal }).catch(() => throwIfAborted(signal))
  for (const file of files) await refuseChanged(session, file)
  return files
}

/**
 * Reads a file into a new local one, `part`, and returns when it is on the disk. Writes at most as many bytes as the
 * server said that the file has. Throws SOURCE_FAILED when it gives fewer or more, or another file meanwhile, DISK_FULL,
 * and the session's errors; the part is left to the caller.
 */
export async function fetchFile(
  session: SftpSession,
  file: RemoteFile,
  part: string,
  onBytes: (bytes: number) => void,
): Promise<FileDigest> {
  const hash = createHash('sha256')
  const out = await open(part, 'wx', 0o600)
  try {
    const found = await readRemote(session, file.remotePath, {
      bytes: file.bytes,
      chunkBytes,
      async take(piece) {
        hash.update(piece)
        await write(out, piece)
        onBytes(piece.length)
      },
    })
    if (found !== 'whole')
      throw new AppError(
        'SOURCE_FAILED',
        `${file.remotePath} is ${found} than the ${file.bytes} bytes that the server says it has.`,
        { hint: 'It may still be written: try again later, then ask the owner of the server.' },
      )
    await refuseChanged(session, file)
    await out.sync()
    const { size } = await out.stat()
    if (size !== file.bytes) throw new AppError('INTERNAL', `${size} of ${file.bytes} bytes were written.`)
    return { bytes: size, sha256: hash.digest('hex') }
  } catch (error) {
    throw diskFull(refusedRead(error, `give ${file.remotePath}`))
  } finally {
    await out.close()
  }
}

/**
 * Deletes a fetched file on its server or moves it to a folder there, which is made when it is missing; a file of that
 * name in it stays, and the newer one gets the suffix. Answers false, and does nothing, when another file stands there
 * by now; a file that is gone is done. Throws SOURCE_FAILED when the server refuses, or says that it did and did not.
 */
export async function clearRemote(session: SftpSession, file: RemoteFile, after: After): Promise<boolean> {
  if (after === 'keep') return true
  const there = await lookAt(session, file.remotePath)
  if (!there) return true
  if (there.bytes !== file.bytes || there.modifiedAt !== file.modifiedAt) return false
  const verb = after === 'delete' ? 'delete' : 'move'
  try {
    if (after === 'delete') await session.call((done) => session.sftp.unlink(file.remotePath, done))
    else await moveAway(session, file, after)
  } catch (error) {
    throw refusedRead(error, `${verb} ${file.remotePath}`)
  }
  if (!(await lookAt(session, file.remotePath))) return true
  throw new AppError('SOURCE_FAILED', `The server says that it did ${verb} ${file.remotePath}, and it is still there.`)
}

async function moveAway(session: SftpSession, file: RemoteFile, to: Exclude<After, string>): Promise<void> {
  await makeDirectories(session, to.moveTo)
  const plain = remoteJoin(to.moveTo, file.name)
  const target = (await lstat(session, plain)) ? `${plain}.${to.suffix}` : plain
  // A plain rename of SFTP 3 replaces nothing.
  await session.call((done) => session.sftp.rename(file.remotePath, target, done))
  if ((await lstat(session, target))?.size !== file.bytes)
    throw new AppError('SOURCE_FAILED', `The server moved ${file.remotePath}, but ${target} is not that file.`)
}

async function matching(
  session: SftpSession,
  { pattern, filesMax }: Extract<Wanted, { pattern: string }>,
): Promise<string[]> {
  const { folder: above, matches } = filePattern(pattern)
  const folder = above === '' && pattern.startsWith('/') ? '/' : above
  const entries = await listRemote(session, folder, entriesMax + 1).catch((error: unknown) => {
    if (statusOf(error) === sftpStatus.noSuchFile) return []
    throw refusedRead(error, `list ${folder || '.'}`)
  })
  if (entries.length > entriesMax) throw tooMany(folder)
  const found = entries
    .filter(({ filename, attrs }) => matches(filename) && !attrs.isDirectory() && !partPattern.test(filename))
    .map(({ filename }) => {
      if (filename.includes('/')) throw unsafe(filename, 'it leads to another folder')
      if (filename.includes('\ufffd')) throw unsafe(filename, 'it is not valid Unicode')
      return remoteJoin(folder, filename)
    })
  if (found.length > filesMax)
    throw new AppError('TOO_LARGE', `${found.length} files match ${pattern}; ${filesMax} are taken at most.`, {
      hint: 'Raise files_max, make the pattern narrower, or move fetched files away (after).',
    })
  return found.sort()
}

function safeName(remotePath: string, taken: Set<string>): string {
  const name = remotePath.slice(remotePath.lastIndexOf('/') + 1)
  if (partPattern.test(name)) throw unsafe(name, 'it is the name of a part that is being delivered')
  try {
    return safeEntryName(name, taken)
  } catch (error) {
    if (error instanceof AppError) throw unsafe(name, 'it is not safe on every system, or like another one', error)
    throw error
  }
}

const unsafe = (name: string, why: string, cause?: unknown): AppError =>
  new AppError('PATH_INVALID', `The file ${JSON.stringify(name.slice(0, 300))} of the server is not taken: ${why}.`, {
    cause,
    hint: 'Have it renamed on the server, or make the pattern narrower.',
  })

async function refuseChanged(session: SftpSession, file: RemoteFile): Promise<void> {
  const there = await lookAt(session, file.remotePath)
  if (there?.bytes === file.bytes && there.modifiedAt === file.modifiedAt) return
  throw new AppError('SOURCE_FAILED', `${file.remotePath} is still changing.`, {
    hint: 'Try again when its sender has finished, or raise settle.',
  })
}

async function lookAt(session: SftpSession, path: string): Promise<{ bytes: number; modifiedAt: number } | undefined> {
  const there = await lstat(session, path)
  if (!there) return undefined
  if (!there.isFile()) throw unsafe(path, there.isSymbolicLink() ? 'it is a link' : 'it is no file')
  const { size, mtime } = there
  if (!Number.isSafeInteger(size) || size < 0 || !Number.isSafeInteger(mtime))
    throw new AppError('SOURCE_FAILED', `The server gives no usable size or time for ${path}.`)
  return { bytes: size, modifiedAt: mtime }
}

async function lstat(session: SftpSession, path: string): Promise<Stats | undefined> {
  try {
    return await session.call<Stats>((done) => session.sftp.lstat(path, done))
  } catch (error) {
    if (statusOf(error) === sftpStatus.noSuchFile) return undefined
    throw refusedRead(error, `look at ${path}`)
  }
}

function refusedRead(error: unknown, what: string): unknown {
  const status = statusOf(error)
  if (status === undefined) return error
  const isFinal = status === sftpStatus.permissionDenied || status === sftpStatus.noSuchFile
  return new AppError('SOURCE_FAILED', `The server ${isFinal ? 'does not permit' : 'refused'} to ${what}.`, {
    cause: error,
    ...(isFinal ? { retry: 'never' } : {}),
  })
}

async function write(out: FileHandle, piece: Buffer): Promise<void> {
  for (let done = 0; done < piece.length;) done += (await out.write(piece, done, piece.length - done)).bytesWritten
}

function diskFull(error: unknown): unknown {
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  if (code !== 'ENOSPC' && code !== 'EDQUOT' && code !== 'EFBIG') return error
  return new AppError('DISK_FULL', 'There is no space left for the files.', { cause: error })
}
