import { randomBytes } from 'node:crypto'
import { basename } from 'node:path'
import { AppError } from '../../shared/errors.ts'
import {
  hashRemote,
  inFlight,
  listRemote,
  makeDirectories,
  refused,
  remoteJoin,
  renameOver,
  sftpStatus,
  statRemote,
} from './sftp-remote.ts'
import { safeEntryName } from './entry-name.ts'
import { type FileDigest, hashFile } from './hash-file.ts'
import { openSftp, type SftpSecret, type SftpSession, type SftpSurroundings, statusOf } from './sftp-session.ts'

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
    await listRemote(session, directory, 1)
    const handle = await session.call<Buffer>((done) => session.sftp.open(probe, 'w', done))
    await session.call((done) => session.sftp.write(handle, Buffer.from('probe'), 0, 5, 0, done))
    await session.call((done) => session.sftp.close(handle, done))
    await session.run(session.client.delete(probe))
  } catch (error) {
    throw refused(error, `use ${directory}`)
  }
}

/** A file or folder on the server. `modifiedAt` is what the server says. */
export type RemoteEntry = { name: string; isDirectory: boolean; bytes: number; modifiedAt: Date }

/**
 * What a directory of the server holds, sorted by name: at most 10,000 entries. Names that are no plain file name, such
 * as `../x` or one with a line break, are left out: no honest server has them. Throws what `deliverFiles` throws.
 */
export async function listSftp(
  secret: SftpSecret,
  directory: string,
  around: SftpSurroundings,
): Promise<RemoteEntry[]> {
  await using session = await openSftp(secret, around)
  try {
    const found = await listRemote(session, directory, listedMax)
    return found
      .filter(({ filename }) => isPlainName(filename))
      .slice(0, listedMax)
      .map(({ filename, attrs }) => ({
        name: filename,
        isDirectory: (attrs.mode & 0o170_000) === 0o040_000,
        bytes: attrs.size,
        modifiedAt: new Date(attrs.mtime * 1000),
      }))
      .sort((a, b) => (a.name < b.name ? -1 : 1))
  } catch (error) {
    throw refused(error, `list ${directory}`)
  }
}

const isPlainName = (name: string): boolean => name !== '.' && name !== '..' && !/[/\\\p{Cc}]/u.test(name)

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
      sent === 0 &&
      digest.bytes > smallChunkBytes &&
      status !== sftpStatus.permissionDenied &&
      status !== sftpStatus.noSuchFile
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
  if ((await hashRemote(job.session, remote, digest.bytes, job.chunkBytes)) !== digest.sha256)
    throw new AppError('VERIFY_FAILED', `The server holds other bytes of ${remote} than were sent.`)
}

// A server that takes files and gives none back is no fault here: the file is sent.
async function isSame(job: Job, remote: string, digest: FileDigest): Promise<boolean> {
  try {
    return (await hashRemote(job.session, remote, digest.bytes, job.chunkBytes)) === digest.sha256
  } catch (error) {
    if (error instanceof AppError && error.code === 'VERIFY_FAILED') return false
    throw error
  }
}

async function moveIntoPlace(job: Job, part: string, remote: string, digest: FileDigest): Promise<void> {
  const { session } = job
  try {
    await renameOver(session, part, remote)
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

async function prepareDirectory(job: Job, files: readonly ToDeliver[]): Promise<void> {
  const { session, to } = job
  try {
    if (to.createDirectories) await makeDirectories(session, to.directory)
    const names = new Set(files.map((file) => basename(file.path)))
    for (const { filename } of await listRemote(session, to.directory, listedMax)) {
      const [, name = '', fence = ''] = /^(.+)\.part-(\d{1,19})(?:\.replaced)?$/.exec(filename) ?? []
      if (names.has(name) && BigInt(fence) < job.fence)
        await session.run(session.client.delete(remoteJoin(to.directory, filename), true))
    }
  } catch (error) {
    throw refused(error, `use ${to.directory}`)
  }
}

// OpenSSH answers a full disk with the same bare failure as anything else, and tells the free space when asked.
async function isFull(job: Job, error: unknown, bytesLeft: number): Promise<boolean> {
  const status = statusOf(error)
  if (status === sftpStatus.noSpace || status === sftpStatus.quotaExceeded) return true
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
