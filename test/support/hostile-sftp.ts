import { mkdtemp, readdir, readFile, rm, truncate } from 'node:fs/promises'
import type { Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Connection } from 'ssh2'
import { plainFiles, type SftpFiles, SftpStatus } from '../../standalone/sftp-files.ts'
import { makeHostKey, startSftpServer } from '../../standalone/sftp-server.ts'
import { secretCanary } from './canary.ts'

/** How a server misbehaves; every byte position counts from the start of the file. Nothing given: it behaves. */
export type Hostility = {
  /** Refuses the write that would pass this byte: with OpenSSH's bare failure, or naming the full disk. */
  failAt?: { byte: number; message?: string }
  /** Cuts the connection at this byte, without a goodbye. */
  dropAt?: number
  /** Never answers the write that would pass this byte. */
  stallAt?: number
  /** Acknowledges every write, and keeps none, the first half, or all with one bit turned. */
  keeps?: 'nothing' | 'half' | 'flipped'
  /** Refuses or cuts off writes of more bytes than this. */
  writeMax?: { bytes: number; by: 'failure' | 'hanging up' }
  /**
   * Refuses renames, or only those to a final name the first time; acknowledges them without doing anything; or loses the
   * last byte in them.
   */
  renames?: 'refused' | 'refused once' | 'untrue' | 'truncating'
  /** Adds this to every size it reports. */
  sizeLie?: number
  /** Reports one byte more each time it is asked for a size. */
  grows?: boolean
  /** Takes files and never gives one back. */
  writeOnly?: boolean
  /** Gives zeros behind the end of a file without end, or no byte at all. */
  reads?: 'endless' | 'nothing'
  /** Cuts the connection, or never answers, instead of giving this byte. */
  readsUntil?: { byte: number; by: 'hanging up' | 'silence' }
  /** Refuses to delete, or acknowledges it without doing anything. */
  removes?: 'refused' | 'untrue'
  /** Names of files that it lists in every folder beside those that are there. */
  lists?: string[]
  posixRename?: boolean
  ident?: string
}

/** A server of tests: the credential for it, and what it holds. */
export type TestSftp = AsyncDisposable & {
  root: string
  secret: { host: string; port: number; username: string; password: string; hostKey: string }
  /** Names under the root, sorted. */
  names(): Promise<string[]>
  content(name: string): Promise<Buffer>
  /** How many connections it has seen. */
  connections(): number
  /** How many bytes clients wrote, and how many they were given. */
  bytesWritten(): number
  bytesRead(): number
}

const hostKey = makeHostKey()

/** The password of every such server. */
export const sftpPassword = secretCanary('of-a-server')

/** Starts a server over a fresh folder that misbehaves as told; `await using` stops it. */
export async function hostileSftp(how: Hostility = {}): Promise<TestSftp> {
  const root = await mkdtemp(join(tmpdir(), 'hostile-sftp-'))
  const sockets = new Set<Socket>()
  let seen = 0
  let refusedOnce = false
  let bytesWritten = 0
  let bytesRead = 0
  let grown = 0

  const cut = (): never => {
    for (const socket of sockets) socket.destroy()
    throw new SftpStatus(4)
  }
  const files: Partial<SftpFiles> = {
    async write(file, data, position, path) {
      const end = position + data.length
      if (how.writeMax && data.length > how.writeMax.bytes) {
        if (how.writeMax.by === 'hanging up') cut()
        throw new SftpStatus(4)
      }
      if (how.failAt && end > how.failAt.byte) throw new SftpStatus(4, how.failAt.message ?? 'Failure')
      if (how.dropAt !== undefined && end > how.dropAt) cut()
      if (how.stallAt !== undefined && end > how.stallAt) await new Promise(() => {})
      bytesWritten += data.length
      if (how.keeps === 'nothing') return
      if (how.keeps === 'half' && position > 0) return
      const kept = how.keeps === 'half' ? data.subarray(0, data.length / 2) : Buffer.from(data)
      if (how.keeps === 'flipped' && position === 0) kept.writeUInt8(kept.readUInt8(0) ^ 1, 0)
      await plainFiles.write(file, kept, position, path)
    },
    async open(path, flags) {
      if (how.writeOnly && flags === 'r') throw new SftpStatus(3)
      return plainFiles.open(path, flags)
    },
    async read(file, length, position) {
      const until = how.readsUntil
      if (until && position + length > until.byte) {
        if (until.by === 'hanging up') cut()
        await new Promise(() => {})
      }
      if (how.reads === 'nothing') return Buffer.alloc(0)
      const data = await plainFiles.read(file, length, position)
      const given = how.reads === 'endless' && data.length === 0 ? Buffer.alloc(length) : data
      bytesRead += given.length
      return given
    },
    async remove(path) {
      if (how.removes === 'refused') throw new SftpStatus(3)
      if (how.removes !== 'untrue') await plainFiles.remove(path)
    },
    names: async (folder) => [...(await plainFiles.names(folder)), ...(how.lists ?? [])],
    // What it only claims to have looks like any file.
    entry: (path) => plainFiles.entry(path).catch(() => plainFiles.entry(import.meta.filename)),
    async stat(path) {
      const stats = await plainFiles.stat(path)
      if (stats.isFile()) stats.size += (how.sizeLie ?? 0) + (how.grows ? ++grown : 0)
      return stats
    },
    async rename(from, to, replace) {
      if (how.renames === 'refused') throw new SftpStatus(4)
      if (how.renames === 'refused once' && !to.endsWith('.replaced') && !refusedOnce) {
        refusedOnce = true
        throw new SftpStatus(4)
      }
      if (how.renames === 'untrue') return
      if (how.renames === 'truncating') await truncate(from, (await plainFiles.stat(from)).size - 1)
      await plainFiles.rename(from, to, replace)
    },
  }
  const server = await startSftpServer({
    root,
    username: 'guru',
    password: sftpPassword,
    hostKey,
    files,
    posixRename: how.posixRename,
    ident: how.ident,
    onConnection(connection) {
      seen++
      const socket = socketOf(connection)
      sockets.add(socket)
      socket.on('close', () => sockets.delete(socket))
    },
  })
  return {
    root,
    secret: {
      host: '127.0.0.1',
      port: server.port,
      username: 'guru',
      password: sftpPassword,
      hostKey: server.hostKeyFingerprint,
    },
    names: async () => (await readdir(root)).sort(),
    content: (name) => readFile(join(root, name)),
    connections: () => seen,
    bytesWritten: () => bytesWritten,
    bytesRead: () => bytesRead,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy()
      await server.stop()
      await rm(root, { recursive: true, force: true })
    },
  }
}

// ssh2 has no public way to break a connection off as a network does.
const socketOf = (connection: Connection): Socket => (connection as unknown as { _sock: Socket })._sock
