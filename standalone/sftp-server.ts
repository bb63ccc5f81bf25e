import { createHash, timingSafeEqual } from 'node:crypto'
import { realpath } from 'node:fs/promises'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import ssh2, { type Connection } from 'ssh2'
import { offerPosixRename, plainFiles, serveFiles, type SftpFiles } from './sftp-files.ts'

/** A running server: where it listens and what to pin. `stop` ends every connection. */
export type SftpServer = { port: number; hostKeyFingerprint: string; stop(): Promise<void> }

/** What `startSftpServer` needs; `root` must exist. */
export type SftpServerOptions = {
  root: string
  username: string
  password: string
  /** 0, the default, takes any free port. */
  port?: number
  /** A private key made by `makeHostKey`; without one, the server is another at each start. */
  hostKey?: string
  /** Whether to offer `posix-rename@openssh.com`, as OpenSSH does. Default true. */
  posixRename?: boolean
  /** The software version that the server claims. */
  ident?: string
  files?: Partial<SftpFiles>
  onConnection?(connection: Connection): void
}

/** A new ed25519 host key in OpenSSH's form. Keep it: who connects has pinned its fingerprint. */
export const makeHostKey = (): string => makeKeyPair().private

/** A new ed25519 key pair in OpenSSH's form, for a server or a user. */
export function makeKeyPair(): { private: string; public: string } {
  for (;;) {
    const pair = ssh2.utils.generateKeyPairSync('ed25519')
    // ssh2 1.17 spoils about one pair in 256: https://github.com/mscdex/ssh2/issues/1390
    if (![pair.private, pair.public].some((key) => ssh2.utils.parseKey(key) instanceof Error)) return pair
  }
}

/** The fingerprint of a host key as `ssh-keygen -l` prints it: `SHA256:` and unpadded base64. */
export function hostKeyFingerprint(hostKey: string): string {
  const key = ssh2.utils.parseKey(hostKey)
  if (key instanceof Error) throw key
  return `SHA256:${createHash('sha256').update(key.getPublicSSH()).digest('base64').replace(/=+$/, '')}`
}

/**
 * Starts an SFTP server for one user over the files below `root`, on 127.0.0.1 only: the far end of the demo and of
 * tests. Paths cannot leave `root`, symlinks are not followed and cannot be made, shells and commands are refused.
 */
export async function startSftpServer(options: SftpServerOptions): Promise<SftpServer> {
  const hostKey = options.hostKey ?? makeHostKey()
  const root = await realpath(options.root)
  const connections = new Set<Connection>()
  const server = new ssh2.Server({ hostKeys: [hostKey], ident: options.ident }, (connection) => {
    // Nagle's algorithm with delayed acknowledgements costs 40 ms a packet.
    withNoDelay(connection).setNoDelay(true)
    connections.add(connection)
    connection.on('close', () => connections.delete(connection))
    // A client that leaves in the middle is its own business.
    connection.on('error', () => {})
    connection.on('authentication', (attempt) => {
      const known =
        attempt.method === 'password' &&
        same(attempt.username, options.username) &&
        same(attempt.password, options.password)
      if (known) attempt.accept()
      else attempt.reject(['password'])
    })
    connection.on('ready', () => {
      connection.on('session', (acceptSession) => {
        acceptSession().on('sftp', (acceptSftp) => {
          const sftp = acceptSftp()
          if (options.posixRename ?? true) offerPosixRename(sftp)
          serveFiles(sftp, root, { ...plainFiles, ...options.files })
        })
      })
    })
    options.onConnection?.(connection)
  })
  server.listen(options.port ?? 0, '127.0.0.1')
  await once(server, 'listening')
  return {
    // A server that listens on TCP has an address of this form.
    port: (server.address() as AddressInfo).port,
    hostKeyFingerprint: hostKeyFingerprint(hostKey),
    async stop() {
      const closed = once(server, 'close')
      server.close()
      for (const connection of connections) connection.end()
      await closed
    },
  }
}

function same(given: string, known: string): boolean {
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest()
  return timingSafeEqual(digest(given), digest(known))
}

// The class has it, its types (@types/ssh2 1.15.6) do not.
const withNoDelay = (connection: Connection): { setNoDelay(on: boolean): unknown } =>
  connection as Connection & { setNoDelay(on: boolean): unknown }
