import type { Stats } from 'node:fs'
import { type FileHandle, lstat, mkdir, open, readdir, rename, rmdir, stat, unlink, utimes } from 'node:fs/promises'
import { join, normalize } from 'node:path'
import ssh2, { type Attributes, type SFTPWrapper } from 'ssh2'

const { OPEN_MODE, STATUS_CODE } = ssh2.utils.sftp

/** How one operation is carried out; a test server replaces some to misbehave. */
export type SftpFiles = {
  open(path: string, flags: string): Promise<FileHandle>
  write(file: FileHandle, data: Buffer, position: number, path: string): Promise<void>
  read(file: FileHandle, length: number, position: number): Promise<Buffer>
  stat(path: string): Promise<Stats>
  rename(from: string, to: string, replace: boolean): Promise<void>
  remove(path: string): Promise<void>
  /** Names of a folder. */
  names(folder: string): Promise<string[]>
  /** What a folder says of one of its names. */
  entry(path: string): Promise<Stats>
}

/** An answer of the SFTP protocol other than success. */
export class SftpStatus extends Error {
  readonly status: number
  constructor(status: number, message = 'Failure') {
    super(message)
    this.status = status
  }
}

/** Real files, as OpenSSH treats them: a plain rename does not replace. */
export const plainFiles: SftpFiles = {
  open: (path, flags) => open(path, flags, 0o600),
  async write(file, data, position) {
    for (let done = 0; done < data.length;) {
      const { bytesWritten } = await file.write(data, done, data.length - done, position + done)
      done += bytesWritten
    }
  },
  async read(file, length, position) {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(Math.min(length, 1 << 18)), 0, null, position)
    return buffer.subarray(0, bytesRead)
  },
  stat,
  async rename(from, to, replace) {
    if (!replace && (await lstat(to).catch(() => undefined))) throw new SftpStatus(STATUS_CODE.FAILURE)
    await rename(from, to)
  },
  remove: unlink,
  names: (folder) => readdir(folder),
  entry: (path) => lstat(path),
}

type Opened = { path: string; file: FileHandle } | { path: string; names: string[] | undefined }

/**
 * Serves one SFTP channel from the folder `root`. Paths cannot leave it, symlinks are neither followed nor made; each
 * request is answered once.
 */
export function serveFiles(sftp: SFTPWrapper, root: string, files: SftpFiles): void {
  const handles = new Map<number, Opened>()
  let lastHandle = 0

  function keep(opened: Opened): Buffer {
    handles.set(++lastHandle, opened)
    const handle = Buffer.alloc(4)
    handle.writeUInt32BE(lastHandle)
    return handle
  }
  function opened(handle: Buffer): Opened {
    const found = handle.length === 4 ? handles.get(handle.readUInt32BE()) : undefined
    if (!found) throw new SftpStatus(STATUS_CODE.FAILURE, 'Unknown handle')
    return found
  }
  function openedFile(handle: Buffer): { path: string; file: FileHandle } {
    const found = opened(handle)
    if (!('file' in found)) throw new SftpStatus(STATUS_CODE.FAILURE, 'Not a file')
    return found
  }
  const inside = (path: string): Promise<string> => confine(root, path)
  // Each request is answered once: by what `work` sends itself, or by a status.
  function answer(id: number, work: () => Promise<void | 'ok'>): void {
    work().then(
      (done) => void (done === 'ok' && sftp.status(id, STATUS_CODE.OK)),
      (error: unknown) => sftp.status(id, statusOf(error), error instanceof SftpStatus ? error.message : undefined),
    )
  }

  sftp.on('OPEN', (id, path, flags) =>
    answer(id, async () => {
      const target = await inside(path)
      sftp.handle(id, keep({ path: target, file: await files.open(target, nodeFlags(flags)) }))
    }),
  )
  sftp.on('WRITE', (id, handle, offset, data) =>
    answer(id, async () => {
      const { file, path } = openedFile(handle)
      await files.write(file, data, offset, path)
      return 'ok'
    }),
  )
  sftp.on('READ', (id, handle, offset, length) =>
    answer(id, async () => {
      const data = await files.read(openedFile(handle).file, length, offset)
      if (data.length === 0) throw new SftpStatus(STATUS_CODE.EOF, 'End of file')
      sftp.data(id, data)
    }),
  )
  sftp.on('FSTAT', (id, handle) =>
    answer(id, async () => sftp.attrs(id, attributes(await files.stat(opened(handle).path)))),
  )
  const statPath = (id: number, path: string): void =>
    answer(id, async () => sftp.attrs(id, attributes(await files.stat(await inside(path)))))
  sftp.on('STAT', statPath)
  sftp.on('LSTAT', statPath)
  sftp.on('CLOSE', (id, handle) =>
    answer(id, async () => {
      const found = opened(handle)
      handles.delete(handle.readUInt32BE())
      if ('file' in found) await found.file.close()
      return 'ok'
    }),
  )
  sftp.on('OPENDIR', (id, path) =>
    answer(id, async () => {
      const target = await inside(path)
      sftp.handle(id, keep({ path: target, names: await files.names(target) }))
    }),
  )
  sftp.on('READDIR', (id, handle) =>
    answer(id, async () => {
      const folder = opened(handle)
      if (!('names' in folder)) throw new SftpStatus(STATUS_CODE.FAILURE, 'Not a directory')
      const names = folder.names?.splice(0, 200)
      if (!names?.length) throw new SftpStatus(STATUS_CODE.EOF, 'End of list')
      const found = await Promise.all(
        names.map(async (name) => ({ name, stats: await files.entry(join(folder.path, name)) })),
      )
      sftp.name(
        id,
        found.map(({ name, stats }) => ({ filename: name, longname: longName(name, stats), attrs: attributes(stats) })),
      )
    }),
  )
  sftp.on('MKDIR', (id, path) => answer(id, async () => ok(mkdir(await inside(path), { mode: 0o700 }))))
  sftp.on('RMDIR', (id, path) => answer(id, async () => ok(rmdir(await inside(path)))))
  sftp.on('REMOVE', (id, path) => answer(id, async () => ok(files.remove(await inside(path)))))
  sftp.on('RENAME', (id, from, to) =>
    answer(id, async () => ok(files.rename(await inside(from), await inside(to), false))),
  )
  sftp.on('EXTENDED', (id, name, data) =>
    answer(id, async () => {
      if (name !== posixRenameName) throw new SftpStatus(STATUS_CODE.OP_UNSUPPORTED, 'Unsupported')
      const [from, to] = twoStrings(data)
      return ok(files.rename(await inside(from), await inside(to), true))
    }),
  )
  sftp.on('SETSTAT', (id, path, attrs) => answer(id, async () => ok(setTimes(await inside(path), attrs))))
  sftp.on('FSETSTAT', (id, handle, attrs) => answer(id, async () => ok(setTimes(opened(handle).path, attrs))))
  sftp.on('REALPATH', (id, path) =>
    answer(id, async () => {
      const shown = normalize(join('/', path))
      sftp.name(id, [{ filename: shown, longname: shown, attrs: emptyAttributes }])
    }),
  )
  sftp.on('close', () => {
    for (const open of handles.values()) if ('file' in open) open.file.close().catch(() => {})
    handles.clear()
  })
}

const ok = async (done: Promise<unknown>): Promise<'ok'> => {
  await done
  return 'ok'
}

// Every part that is there must be no link: a link could lead out of the root.
async function confine(root: string, path: string): Promise<string> {
  if (path.includes('\0')) throw new SftpStatus(STATUS_CODE.NO_SUCH_FILE, 'No such file')
  let current = root
  for (const part of normalize(join('/', path)).split('/').filter(Boolean)) {
    current = join(current, part)
    const found = await lstat(current).catch(() => undefined)
    if (found?.isSymbolicLink()) throw new SftpStatus(STATUS_CODE.PERMISSION_DENIED, 'Permission denied')
  }
  return current
}

function statusOf(error: unknown): number {
  if (error instanceof SftpStatus) return error.status
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  if (code === 'ENOENT' || code === 'ENOTDIR') return STATUS_CODE.NO_SUCH_FILE
  if (code === 'EACCES' || code === 'EPERM') return STATUS_CODE.PERMISSION_DENIED
  return STATUS_CODE.FAILURE
}

function nodeFlags(flags: number): string {
  if (!(flags & OPEN_MODE.WRITE)) return 'r'
  const read = flags & OPEN_MODE.READ ? '+' : ''
  if (flags & OPEN_MODE.APPEND) return `a${read}`
  if (!(flags & OPEN_MODE.CREAT)) return 'r+'
  return `w${flags & OPEN_MODE.EXCL ? 'x' : ''}${read}`
}

const emptyAttributes: Attributes = { mode: 0, uid: 0, gid: 0, size: 0, atime: 0, mtime: 0 }

const attributes = (stats: Stats): Attributes => ({
  mode: stats.mode,
  uid: stats.uid,
  gid: stats.gid,
  size: stats.size,
  atime: Math.trunc(stats.atimeMs / 1000),
  mtime: Math.trunc(stats.mtimeMs / 1000),
})

const longName = (name: string, stats: Stats): string =>
  `${stats.isDirectory() ? 'd' : '-'}rw------- 1 owner owner ${stats.size} Jan  1 00:00 ${name}`

async function setTimes(path: string, attrs: Partial<Attributes>): Promise<void> {
  if (attrs.atime !== undefined && attrs.mtime !== undefined) await utimes(path, attrs.atime, attrs.mtime)
}

const posixRenameName = 'posix-rename@openssh.com'

function twoStrings(data: Buffer): [string, string] {
  const length = data.readUInt32BE(0)
  const second = data.readUInt32BE(4 + length)
  return [data.toString('utf8', 4, 4 + length), data.toString('utf8', 8 + length, 8 + length + second)]
}

/** Offers `posix-rename@openssh.com` to the client; call it before the channel's first packet. */
// ssh2 1.17 answers INIT with a fixed VERSION packet that names no extension, and has no option for it: the first
// packet of the channel is that answer, so it is replaced on its way out.
export function offerPosixRename(sftp: SFTPWrapper): void {
  const { _protocol: protocol } = sftp as unknown as {
    _protocol: { channelData(channel: number, data: Buffer): void }
  }
  const send = protocol.channelData
  protocol.channelData = (channel) => {
    protocol.channelData = send
    send.call(protocol, channel, versionPacket)
  }
}

const lengthPrefixed = (data: Buffer): Buffer => {
  const length = Buffer.alloc(4)
  length.writeUInt32BE(data.length)
  return Buffer.concat([length, data])
}
const versionPacket = lengthPrefixed(
  Buffer.concat([
    Buffer.from([2, 0, 0, 0, 3]),
    lengthPrefixed(Buffer.from(posixRenameName)),
    lengthPrefixed(Buffer.from('1')),
  ]),
)
