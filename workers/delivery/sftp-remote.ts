import { createHash } from 'node:crypto'
import type { FileEntryWithStats, Stats } from 'ssh2'
import { AppError } from '../../shared/errors.ts'
import { type SftpSession, statusOf, Unsupported } from './sftp-session.ts'

/** Reads or writes that are asked for before the first is answered. */
export const inFlight = 16

/** Status numbers of SFTP; the last two are of later versions than 3, and used nevertheless. */
export const sftpStatus = { endOfFile: 1, noSuchFile: 2, permissionDenied: 3, noSpace: 14, quotaExceeded: 15 } as const

/**
 * SHA-256 of exactly `bytes` bytes of a remote file; undefined when it has fewer or more. Holds 16 chunks in memory.
 * Throws VERIFY_FAILED when the server does not let it be read.
 */
export async function hashRemote(
  session: SftpSession,
  remote: string,
  bytes: number,
  chunkBytes: number,
): Promise<string | undefined> {
  const hash = createHash('sha256')
  try {
    const found = await readRemote(session, remote, { bytes, chunkBytes, take: (piece) => void hash.update(piece) })
    return found === 'whole' ? hash.digest('hex') : undefined
  } catch (error) {
    if (statusOf(error) === undefined) throw error
    throw new AppError('VERIFY_FAILED', `The server does not give ${remote} back.`, { cause: error })
  }
}

/**
 * Hands over the first `bytes` bytes of a remote file, piece after piece in their order, and never more, whatever the
 * server sends. Holds 16 chunks in memory. Answers whether the file has that many bytes, fewer, or more.
 * A refusal of the server is thrown as it came.
 */
export async function readRemote(
  session: SftpSession,
  remote: string,
  { bytes, chunkBytes, take }: { bytes: number; chunkBytes: number; take(piece: Buffer): Promise<void> | void },
): Promise<'whole' | 'shorter' | 'longer'> {
  const handle = await session.call<Buffer>((done) => session.sftp.open(remote, 'r', done))
  const window: Promise<Buffer>[] = []
  let read = 0
  for (let asked = 0; read < bytes;) {
    for (; asked < bytes && window.length < inFlight; asked += chunkBytes) {
      const piece = readFully(session, handle, asked, Math.min(chunkBytes, bytes - asked))
      // A rejection is seen when its turn comes; those behind a first one are dropped.
      piece.catch(() => {})
      window.push(piece)
    }
    const wanted = Math.min(chunkBytes, bytes - read)
    const piece = (await window.shift()) ?? Buffer.alloc(0)
    await take(piece)
    read += piece.length
    if (piece.length < wanted) break
  }
  const beyond = read < bytes ? undefined : await readFully(session, handle, bytes, 1)
  await session.call((done) => session.sftp.close(handle, done))
  if (beyond === undefined) return 'shorter'
  return beyond.length === 0 ? 'whole' : 'longer'
}

/** Up to `length` bytes from `position`; fewer only at the end of the file. */
async function readFully(session: SftpSession, handle: Buffer, position: number, length: number): Promise<Buffer> {
  const buffer = Buffer.alloc(length)
  let read = 0
  while (read < length) {
    const got = await session.call<number>((done) =>
      session.sftp.read(handle, buffer, read, length - read, position + read, done),
    )
    if (got === 0) break
    read += got
  }
  return buffer.subarray(0, read)
}

/**
 * Gives a file its final name, over a file of that name if there is one. In one step where the server has OpenSSH's
 * posix-rename; plain SFTP 3 refuses to rename over a file, so that the old one is first set aside (`<from>.replaced`),
 * put back if the renaming fails, and removed after it.
 */
export async function renameOver(session: SftpSession, from: string, to: string): Promise<void> {
  const { sftp } = session
  const move = (a: string, b: string): Promise<void> => session.call((done) => sftp.rename(a, b, done))
  try {
    return await session.call((done) => sftp.ext_openssh_rename(from, to, done))
  } catch (error) {
    if (!(error instanceof Unsupported)) throw error
  }
  if (!(await statRemote(session, to))) return await move(from, to)
  const aside = `${from}.replaced`
  await move(to, aside)
  try {
    await move(from, to)
  } catch (error) {
    await move(aside, to)
    throw error
  }
  await session.call((done) => sftp.unlink(aside, done))
}

/** Makes a directory and those above it, where they are missing. */
export async function makeDirectories(session: SftpSession, directory: string): Promise<void> {
  const parts = directory.split('/')
  for (let depth = 1; depth <= parts.length; depth++) {
    const path = parts.slice(0, depth).join('/')
    if (path === '' || path === '.' || (await statRemote(session, path))?.isDirectory()) continue
    try {
      await session.call((done) => session.sftp.mkdir(path, done))
    } catch (error) {
      // Another delivery may have made it in between.
      if (!(await statRemote(session, path))?.isDirectory()) throw error
    }
  }
}

/** Names of a directory, at most about `max`: a server could go on listing for ever. */
export async function listRemote(session: SftpSession, directory: string, max: number): Promise<FileEntryWithStats[]> {
  const { sftp } = session
  const handle = await session.call<Buffer>((done) => sftp.opendir(directory || '.', done))
  const found: FileEntryWithStats[] = []
  try {
    while (found.length < max) {
      const names = await session.call<FileEntryWithStats[]>((done) => sftp.readdir(handle, done))
      if (names.length === 0) break
      found.push(...names)
    }
  } catch (error) {
    if (statusOf(error) !== sftpStatus.endOfFile) throw error
  }
  await session.call((done) => sftp.close(handle, done))
  return found
}

/** What the server says of a path, links followed; undefined when there is nothing. */
export async function statRemote(session: SftpSession, path: string): Promise<Stats | undefined> {
  try {
    return await session.call<Stats>((done) => session.sftp.stat(path, done))
  } catch (error) {
    if (statusOf(error) === sftpStatus.noSuchFile) return undefined
    throw refused(error, `look at ${path}`)
  }
}

/**
 * A server's refusal as DELIVERY_FAILED, with what was asked of it; any other error as it is. A place that is missing or
 * not permitted is not tried again.
 */
export function refused(error: unknown, what: string): unknown {
  const status = statusOf(error)
  if (status === undefined) return error
  if (status === sftpStatus.permissionDenied)
    return new AppError('DELIVERY_FAILED', `The server does not permit to ${what}.`, { cause: error, retry: 'never' })
  if (status === sftpStatus.noSuchFile)
    return new AppError('DELIVERY_FAILED', `The server finds no such place to ${what}.`, {
      cause: error,
      retry: 'never',
    })
  return new AppError('DELIVERY_FAILED', `The server refused to ${what}.`, { cause: error })
}

/** A name in a directory of the server; `` and `.` are the user's home. */
export const remoteJoin = (directory: string, name: string): string =>
  directory === '' || directory === '.' ? name : `${directory.replace(/\/+$/, '')}/${name}`
