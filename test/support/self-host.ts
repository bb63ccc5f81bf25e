import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import pg from 'pg'
import { ownedDatabase } from './postgres.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))

/** A line of a process's log. */
export type LogLine = { msg: string; level: number; [field: string]: unknown }

/** A process of the self-hosted mode. */
export type HostedProcess = {
  process: ChildProcess
  /** Every line of its log so far. */
  logged: LogLine[]
  /** Its exit code, null after a signal. */
  ended: Promise<number | null>
  /** Waits for the first line of an event. */
  line(event: string): Promise<LogLine>
  /** A path of its address for operators. */
  ask(path: string): Promise<{ status: number; text: string }>
}

/** A database for the self-hosted mode: `owner` migrates, `web` and `run` are logins without any power of their own. */
export type HostedDatabase = { owner: string; web: string; run: string; strong: string }

/** Makes it on a server, empty; `strong` is the URL of a superuser. */
export async function hostedDatabase(url: string): Promise<HostedDatabase> {
  const owner = await ownedDatabase(url)
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  for (const login of ['web', 'run'])
    await client.query(`create role ${login} login noinherit nosuperuser nobypassrls password '${login}-password'`)
  await client.end()
  const as = (login: string): string =>
    Object.assign(new URL(owner), { username: login, password: `${login}-password` }).href
  return { owner, web: as('web'), run: as('run'), strong: Object.assign(new URL(url), { pathname: '/house' }).href }
}

/** Runs a script of the product to its end, as npm would. */
export async function runScript(
  file: string,
  args: string[],
  env: Record<string, string>,
): Promise<{ code: number; stdout: string; stderr: string }> {
  const command = promisify(execFile)(process.execPath, [file, ...args], {
    cwd: root,
    env: { PATH: process.env['PATH'] ?? '', ...env },
  })
  return command.then(
    ({ stdout, stderr }) => ({ code: 0, stdout, stderr }),
    (error: { code: number; stdout: string; stderr: string }) => error,
  )
}

/** Starts a process of the product. Its environment is `env` and nothing else. */
export function startProcess(file: string, args: string[], env: Record<string, string>): HostedProcess {
  const child = spawn(process.execPath, [file, ...args], {
    cwd: root,
    env: { PATH: process.env['PATH'] ?? '', HEALTH_PORT: '0', ...env },
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  const logged: LogLine[] = []
  const waiting = new Set<() => void>()
  const ended = new Promise<number | null>((resolve) => child.once('exit', (code) => resolve(code)))
  createInterface({ input: child.stderr }).on('line', (text) => {
    if (process.env['TEST_LOG']) console.error(`${file}: ${text}`)
    logged.push(text.startsWith('{') ? JSON.parse(text) : { msg: text, level: 0 })
    for (const look of waiting) look()
  })
  const line = (event: string): Promise<LogLine> =>
    new Promise((resolve, reject) => {
      const look = (): void => {
        const found = logged.find(({ msg }) => msg === event)
        if (!found) return
        waiting.delete(look)
        resolve(found)
      }
      waiting.add(look)
      void ended.then(() => reject(new Error(`the process ended before ${event}:\n${JSON.stringify(logged, null, 1)}`)))
      look()
    })
  return {
    process: child,
    logged,
    ended,
    line,
    async ask(path) {
      const starting = logged.find(({ msg }) => msg.endsWith('.starting'))
      const response = await fetch(`${String(starting?.['health'])}${path}`, { signal: AbortSignal.timeout(10_000) })
      return { status: response.status, text: await response.text() }
    },
  }
}
