import { createHash, randomBytes } from 'node:crypto'
import { basename } from 'node:path'
import type { FileEntryWithStats, Stats } from 'ssh2'
import { AppError } from '../../shared/errors.ts'
import { safeEntryName } from './entry-name.ts'
import { type FileDigest, hashFile } from './hash-file.ts'
import {
  openSftp,
  type SftpSecret,
  type SftpSession,
  type SftpSurroundings,
  statusOf,
  Unsupported,
} from './sftp-session.ts'

/** How files are put on the server; the settings of a step, all of them given. */
export type SftpDestination = {
  /** Relative to the user's home, or absolute. */
  directory: string
  createDirectories: boolean
  /** Sent under `<name>.part-<fence>` and renamed once verified; without it, a reader may see an unfinished file. */
  atomicRename: boolean
  /** `size` trusts the server to have kept the bytes; `size_and_sha256` reads them back. */
  verify: 'size' | 'size_and_sha256'
  /** Whether a file of that name with other content is replaced. */
  overwrite: boolean
}

/** A file that stands on the server under its final name, verified. */
export type Delivered = FileDigest & { path: string; remotePath: string }

/** A file to deliver: how the tenant calls it and where it is. */
export type ToDeliver = { path: string; absolute: string }

type Job = {
  session: SftpSession
  to: SftpDestination
  fence: bigint
  chunkBytes: number
  signal: AbortSignal
  onBytes(bytes: number, note: string): void
}

// 16 x 258,048 bytes in flight: the largest packet that OpenSSH takes, 166 MB/s against 95 with 32 KiB packets.
const inFlight = 16
const largeChunkBytes = 258_048
const smallChunkBytes = 32_768
const listedMax = 10_000

/**
 * Delivers files in their order and returns only when each stands under its final name with the size and, unless
 * `verify` is `size`, the SHA-256 of the local one. A file that already stands there with the same content is not sent
 * again; what older attempts left as `.part-<fence>` is removed. On an error nothing new stands under the name of the
 * file that failed, files before it stay, and its part is removed if the server still answers.
 * Throws REMOTE_FULL, VERIFY_FAILED, DELIVERY_FAILED, ALREADY_EXISTS, PATH_INVALID and what `openSftp` throws.
 */
export async function deliverFiles(
  secret: SftpSecret,
  files: readonly ToDeliver[],
  to: SftpDestination,
  around: SftpSurroundings & { fence: bigint; onBytes(bytes: number, note: string): void },
): Promise<Delivered[]> {
  const taken = new Set<string>()
  for (const file of files) safeEntryName(basename(file.path), taken)
  try {
    return await deliverWith(largeChunkBytes)
  } catch (error) {
    if (!(error instanceof FirstPacketRefused)) throw error
    return await deliverWith(smallChunkBytes)
  }

  async function deliverWith(chunkBytes: number): Promise<Delivered[]> {
    await using session = await openSftp(secret, around)
    const job: Job = { ...around, session, to, chunkBytes }
    await prepareDirectory(job, files)
    const delivered: Delivered[] = []
    for (const file of files) delivered.push(await deliver(job, file))
    return delivered
  }
}

/**
 * Proves that files could be delivered: connects, lists the directory, writes a probe file and removes it.
 * Throws what `deliverFiles` throws.
 */
export async function checkSftp(secret: SftpSecret, directory: string, around: SftpSurroundings): Promise<void> {
  await using session = await openSftp(secret, around)
  const probe = remoteJoin(directory, `.check-${randomBytes(8).toString('hex')}`)
  try {
    await list(session, directory, 1)
    const handle = await session.call<Buffer>((done) => session.sftp.open(probe, 'w', done))
    await session.call((done) => session.sftp.write(handle, Buffer.from('probe'), 0, 5, 0, done))
    await session.call((done) => session.sftp.close(handle, done))
    await session.run(session.client.delete(probe))
  } catch (error) {
    throw refused(error, `use ${directory}`)
  }
}

// A server that takes no large packet says so by a failure, or by hanging up, at the first one.
class FirstPacketRefused extends Error {}

async function deliver(job: Job, file: ToDeliver): Promise<Delivered> {
  const name = basename(file.path)
  const digest = await hashFile(file.absolute, job.signal)
  const remotePath = remoteJoin(job.to.directory, name)
  const delivered = { ...digest, path: file.path, remotePath }
  const there = await statRemote(job.session, remotePath)
  if (there?.size === digest.bytes && (await isSame(job, remotePath, digest))) {
    job.onBytes(digest.bytes, `${name} is already there`)
    return delivered
  }
  if (there && !job.to.overwrite)
    throw new AppError('ALREADY_EXISTS', `${remotePath} exists on the server and may not be replaced.`)
  const written = job.to.atomicRename ? `${remotePath}.part-${job.fence}` : remotePath
  try {
    await send(job, file, written, digest)
    await verify(job, written, digest)
    if (written !== remotePath) await moveIntoPlace(job, written, remotePath, digest)
  } catch (error) {
    await removeSoon(job, written)
    throw error
  }
  return delivered
}

async function send(job: Job, file: ToDeliver, remote: string, digest: FileDigest): Promise<void> {
  const { session, chunkBytes } = job
  let sent = 0
  const step = (total: number): void => {
    session.touch()
    job.onBytes(total - sent, `sending ${basename(file.path)}`)
    sent = total
  }
  try {
    await session.run(
      session.client.fastPut(file.absolute, remote, { concurrency: inFlight, chunkSize: chunkBytes, step }),
    )
  } catch (error) {
    const status = statusOf(error)
    if (status === undefined && !(error instanceof AppError && error.code === 'CONNECTION_FAILED')) throw error
    if (status !== undefined && (await isFull(job, error, digest.bytes - sent)))
      throw new AppError('REMOTE_FULL', `The server has no room for ${basename(file.path)}.`, { cause: error })
    const wasFirst =
      sent === 0 && digest.bytes > smallChunkBytes && status !== permissionDenied && status !== noSuchFile
    if (wasFirst && chunkBytes > smallChunkBytes) throw new FirstPacketRefused(undefined, { cause: error })
    throw refused(error, `write ${remote}`)
  }
}

async function verify(job: Job, remote: string, digest: FileDigest): Promise<void> {
  const there = await statRemote(job.session, remote)
  if (there?.size !== digest.bytes)
    throw new AppError('VERIFY_FAILED', `The server holds ${there?.size ?? 0} of ${digest.bytes} bytes of ${remote}.`)
  if (job.to.verify === 'size') return
  job.onBytes(0, `reading back ${basename(remote)}`)
  if ((await readBack(job, remote, digest)) !== digest.sha256)
    throw new AppError('VERIFY_FAILED', `The server holds other bytes of ${remote} than were sent.`)
}

// A server that takes files and gives none back is no fault here: the file is sent.
async function isSame(job: Job, remote: string, digest: FileDigest): Promise<boolean> {
  try {
    return (await readBack(job, remote, digest)) === digest.sha256
  } catch (error) {
    if (error instanceof AppError && error.code === 'VERIFY_FAILED') return false
    throw error
  }
}

/** SHA-256 of exactly `bytes` bytes of a remote file; undefined when it has fewer or more. */
async function readBack(job: Job, remote: string, { bytes }: FileDigest): Promise<string | undefined> {
  const { session, chunkBytes } = job
  const hash = createHash('sha256')
  try {
    const handle = await session.call<Buffer>((done) => session.sftp.open(remote, 'r', done))
    const window: Promise<Buffer>[] = []
    for (let asked = 0, read = 0; read < bytes;) {
      for (; asked < bytes && window.length < inFlight; asked += chunkBytes) {
        const piece = readFully(session, handle, asked, Math.min(chunkBytes, bytes - asked))
        // A rejection is seen when its turn comes; those behind a first one are dropped.
        piece.catch(() => {})
        window.push(piece)
      }
      const piece = await window.shift()
      if (!piece?.length) break
      hash.update(piece)
      read += piece.length
    }
    const beyond = await readFully(session, handle, bytes, 1)
    await session.call((done) => session.sftp.close(handle, done))
    return beyond.length === 0 ? hash.digest('hex') : undefined
  } catch (error) {
    if (statusOf(error) === undefined) throw error
    throw new AppError('VERIFY_FAILED', `The server does not give ${remote} back.`, { cause: error })
  }
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

async function moveIntoPlace(job: Job, part: string, remote: string, digest: FileDigest): Promise<void> {
  const { session } = job
  try {
    if (!(await posixRename(session, part, remote))) {
      // Plain SFTP 3 does not rename over a file: for a moment there is none under the final name.
      if (await statRemote(session, remote)) await session.run(session.client.delete(remote))
      await session.run(session.client.rename(part, remote))
    }
  } catch (error) {
    throw refused(error, `rename ${part}`)
  }
  const there = await statRemote(session, remote)
  const isMoved = !(await statRemote(session, part))
  if (there?.size === digest.bytes && isMoved) return
  // Only what this delivery put there is taken away: without a move it is the file of before.
  if (isMoved) await removeSoon(job, remote)
  throw new AppError('VERIFY_FAILED', `The server renamed ${part}, but ${remote} is not what was sent.`)
}

async function posixRename(session: SftpSession, from: string, to: string): Promise<boolean> {
  try {
    await session.call((done) => session.sftp.ext_openssh_rename(from, to, done))
    return true
  } catch (error) {
    if (error instanceof Unsupported || statusOf(error) !== undefined) return false
    throw error
  }
}

async function prepareDirectory(job: Job, files: readonly ToDeliver[]): Promise<void> {
  const { session, to } = job
  try {
    if (to.createDirectories) await makeDirectories(session, to.directory)
    const names = new Set(files.map((file) => basename(file.path)))
    for (const { filename } of await list(session, to.directory, listedMax)) {
      const [, name = '', fence = ''] = /^(.+)\.part-(\d{1,19})$/.exec(filename) ?? []
      if (names.has(name) && BigInt(fence) < job.fence)
        await session.run(session.client.delete(remoteJoin(to.directory, filename), true))
    }
  } catch (error) {
    throw refused(error, `use ${to.directory}`)
  }
}

async function makeDirectories(session: SftpSession, directory: string): Promise<void> {
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
async function list(session: SftpSession, directory: string, max: number): Promise<FileEntryWithStats[]> {
  const { sftp } = session
  const handle = await session.call<Buffer>((done) => sftp.opendir(directory || '.', done))
  const found: FileEntryWithStats[] = []
  try {
    while (found.length < max)
      found.push(...(await session.call<FileEntryWithStats[]>((done) => sftp.readdir(handle, done))))
  } catch (error) {
    if (statusOf(error) !== endOfFile) throw error
  }
  await session.call((done) => sftp.close(handle, done))
  return found
}

async function statRemote(session: SftpSession, path: string): Promise<Stats | undefined> {
  try {
    return await session.call<Stats>((done) => session.sftp.stat(path, done))
  } catch (error) {
    if (statusOf(error) === noSuchFile) return undefined
    throw refused(error, `look at ${path}`)
  }
}

// OpenSSH answers a full disk with the same bare failure as anything else, and tells the free space when asked.
async function isFull(job: Job, error: unknown, bytesLeft: number): Promise<boolean> {
  const status = statusOf(error)
  if (status === noSpace || status === quotaExceeded) return true
  if (error instanceof Error && /no space|quota|disk (is )?full/i.test(error.message)) return true
  try {
    const { session } = job
    const free = await session.call<{ f_bavail: number; f_frsize: number }>((done) =>
      session.sftp.ext_openssh_statvfs(job.to.directory || '.', done),
    )
    return Number(free.f_bavail) * Number(free.f_frsize) < bytesLeft
  } catch {
    return false
  }
}

// The session may already be cancelled or cut: this asks past it, waits shortly and leaves the rest to the next attempt.
async function removeSoon(job: Job, remote: string): Promise<void> {
  const removed = new Promise<void>((resolve) => {
    setTimeout(resolve, 500).unref()
    job.session.client.delete(remote, true).then(
      () => resolve(),
      () => resolve(),
    )
  })
  await removed
}

const endOfFile = 1
const noSuchFile = 2
const permissionDenied = 3
const noSpace = 14
const quotaExceeded = 15

function refused(error: unknown, what: string): unknown {
  const status = statusOf(error)
  if (status === undefined) return error
  if (status === permissionDenied)
    return new AppError('DELIVERY_FAILED', `The server does not permit to ${what}.`, { cause: error, retry: 'never' })
  if (status === noSuchFile)
    return new AppError('DELIVERY_FAILED', `The server finds no such place to ${what}.`, {
      cause: error,
      retry: 'never',
    })
  return new AppError('DELIVERY_FAILED', `The server refused to ${what}.`, { cause: error })
}

const remoteJoin = (directory: string, name: string): string =>
  directory === '' || directory === '.' ? name : `${directory.replace(/\/+$/, '')}/${name}`
