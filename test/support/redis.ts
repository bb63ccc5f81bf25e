import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { accessSync, constants } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { freePort } from './postgres.ts'

/** A Redis of this machine, started for a test, or why there is none. */
export type StartedRedis =
  | {
      url: string
      port: number
      /** Ends it at once, as a crash does, and starts it anew, empty, after `meanwhile`; resolves when it answers. */
      restart(meanwhile?: () => Promise<void>): Promise<void>
      /** Lets it stand still, as one that is overloaded, until `resume`: connections stay and nothing is answered. */
      pause(): void
      resume(): void
      stop(): Promise<void>
    }
  | { skipped: string }

const program = [...(process.env['PATH'] ?? '').split(':'), '/usr/bin', '/usr/local/bin', '/opt/homebrew/bin']
  .filter((folder) => folder !== '')
  .map((folder) => join(folder, 'redis-server'))
  .find(isProgram)

/** Starts redis-server on a free port of 127.0.0.1, without a file. */
export async function startRedis(): Promise<StartedRedis> {
  if (program === undefined) return { skipped: 'no redis-server on this machine' }
  const folder = await mkdtemp(join(tmpdir(), 'redis-test-'))
  const port = await freePort()
  const args = ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no', '--dir', folder]
  const start = async (): Promise<ChildProcess> => {
    const server = spawn(program, args, { stdio: 'ignore' })
    await untilListens(server, port)
    return server
  }
  const end = async (server: ChildProcess): Promise<void> => {
    if (server.exitCode !== null || server.signalCode !== null) return
    const ended = once(server, 'exit')
    server.kill('SIGKILL')
    await ended
  }
  let server = await start()
  return {
    url: `redis://127.0.0.1:${port}`,
    port,
    async restart(meanwhile) {
      await end(server)
      await meanwhile?.()
      server = await start()
    },
    pause: () => void server.kill('SIGSTOP'),
    resume: () => void server.kill('SIGCONT'),
    async stop() {
      await end(server)
      await rm(folder, { recursive: true, force: true })
    },
  }
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}

async function untilListens(server: ChildProcess, port: number): Promise<void> {
  const deadline = performance.now() + 10_000
  while (server.exitCode === null && performance.now() < deadline) {
    const socket = connect(port, '127.0.0.1')
    const isUp = await once(socket, 'connect').then(
      () => true,
      () => false,
    )
    socket.destroy()
    if (isUp) return
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  server.kill('SIGKILL')
  throw new Error('redis-server did not start')
}
