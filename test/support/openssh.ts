import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { accessSync, constants, createWriteStream, readFileSync } from 'node:fs'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import net from 'node:net'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import { hostKeyFingerprint, makeHostKey, makeKeyPair } from '../../standalone/sftp-server.ts'

/** OpenSSH's own server over a fresh folder, for the user who runs the tests, who logs in with a key. */
export type OpenSsh = AsyncDisposable & {
  /** The folder to deliver into; an absolute path, for the server shows the whole disk. */
  root: string
  secret: { host: string; port: number; username: string; privateKey: string; hostKey: string }
}

const program = [process.env.SSHD, '/usr/sbin/sshd', '/usr/local/sbin/sshd', '/opt/homebrew/sbin/sshd'].find(isProgram)

/** Why OpenSSH's server cannot be started here; undefined when it can. */
export const opensshMissing: string | undefined = missing()

/** Starts it on a free port; `await using` stops it. Throws with the server's own words when it does not start. */
export async function startOpenSsh(): Promise<OpenSsh> {
  if (program === undefined || opensshMissing) throw new Error(opensshMissing)
  const folder = await mkdtemp(join(tmpdir(), 'openssh-'))
  const root = join(folder, 'files')
  await mkdir(root)
  const hostKey = makeHostKey()
  const user = makeKeyPair()
  const port = await freePort()
  await writeFile(join(folder, 'host'), hostKey, { mode: 0o600 })
  await writeFile(join(folder, 'authorized'), `${user.public}\n`, { mode: 0o600 })
  await writeFile(join(folder, 'config'), configuration(folder, port))
  if (userInfo().uid === 0) await mkdir('/run/sshd', { recursive: true, mode: 0o755 })
  const server = spawn(program, ['-D', '-e', '-f', join(folder, 'config')], { stdio: ['ignore', 'ignore', 'pipe'] })
  server.stderr.pipe(createWriteStream(join(folder, 'log')))
  await listening(server, port, () => readFileSync(join(folder, 'log'), 'utf8'))
  return {
    root,
    secret: {
      host: '127.0.0.1',
      port,
      username: userInfo().username,
      privateKey: user.private,
      hostKey: hostKeyFingerprint(hostKey),
    },
    async [Symbol.asyncDispose]() {
      const exited = once(server, 'exit')
      server.kill()
      await exited
      await rm(folder, { recursive: true, force: true })
    },
  }
}

function missing(): string | undefined {
  if (program === undefined) return 'sshd is not installed'
  if (userInfo().uid !== 0) return undefined
  try {
    execFileSync('getent', ['passwd', 'sshd'])
    return undefined
  } catch {
    return 'sshd run by root needs the user sshd'
  }
}

function isProgram(path: string | undefined): path is string {
  try {
    accessSync(path ?? '', constants.X_OK)
    return true
  } catch {
    return false
  }
}

const configuration = (folder: string, port: number): string => `Port ${port}
ListenAddress 127.0.0.1
HostKey ${join(folder, 'host')}
AuthorizedKeysFile ${join(folder, 'authorized')}
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
PermitRootLogin yes
Subsystem sftp internal-sftp
`

async function freePort(): Promise<number> {
  const probe = net.createServer().listen(0, '127.0.0.1')
  await once(probe, 'listening')
  // A server that listens on TCP has an address of this form.
  const { port } = probe.address() as net.AddressInfo
  probe.close()
  await once(probe, 'close')
  return port
}

async function listening(server: ChildProcess, port: number, log: () => string): Promise<void> {
  const deadline = performance.now() + 10_000
  while (server.exitCode === null && performance.now() < deadline) {
    const socket = net.connect(port, '127.0.0.1')
    const isUp = await once(socket, 'connect').then(
      () => true,
      () => false,
    )
    socket.destroy()
    if (isUp) return
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  server.kill()
  throw new Error(`sshd does not start:\n${log()}`)
}
