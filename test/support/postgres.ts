import { execFile, spawn } from 'node:child_process'
import { access, chmod, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { promisify } from 'node:util'
import pg from 'pg'
import { secretCanary } from './canary.ts'
import { isSwept, keepBytes } from './keep.ts'

const run = promisify(execFile)

/** A server of this machine, started for a test, or why there is none. */
export type StartedPostgres =
  | {
      url: string
      port: number
      /** Ends it at once, as a crash does, and starts it anew after `meanwhile`; resolves when it answers. */
      restart(meanwhile?: () => Promise<void>): Promise<void>
      stop(): Promise<void>
    }
  | { skipped: string }

/** The user, password and database of the started server; the user is its superuser. */
export const postgresLogin = { user: 'tester', password: secretCanary('of-postgres'), database: 'postgres' } as const

/**
 * Starts a PostgreSQL server with a fresh cluster on a free port of 127.0.0.1, without a socket and, unless `more`
 * settings say otherwise, without fsync.
 * Looks for the programs in PATH, by pg_config and under /usr/lib/postgresql. PostgreSQL refuses to run as root, so
 * root lends it to the user postgres or nobody.
 */
export async function startPostgres(more: readonly string[] = []): Promise<StartedPostgres> {
  const bin = await findBinaries()
  if (!bin) return { skipped: 'no PostgreSQL server programs on this machine' }
  const as = await lender()
  if (as === undefined) return { skipped: 'root cannot run PostgreSQL and there is no user to lend it to' }
  const folder = await mkdtemp('/tmp/postgres-test-')
  const data = join(folder, 'data')
  const passwords = join(folder, 'password')
  if (as.length > 0) await chmod(folder, 0o777)
  await writeFile(passwords, postgresLogin.password)
  const initial = [join(bin, 'initdb'), '-D', data, '-U', postgresLogin.user, '-A', 'scram-sha-256', '--no-sync']
  await runAs(as, [...initial, '--pwfile', passwords, '-E', 'UTF8', '--locale', 'C'])
  const port = await freePort()
  const settings = ['fsync=off', 'listen_addresses=127.0.0.1', 'unix_socket_directories=', `port=${port}`, 'ssl=off']
  const options = [...settings, ...more].flatMap((setting) => ['-c', setting])
  const command = [...as, join(bin, 'postgres'), '-D', data, ...options]
  const { user, password, database } = postgresLogin
  const url = `postgres://${user}:${password}@127.0.0.1:${port}/${database}`
  const start = () => {
    const server = spawn(command[0] ?? '', command.slice(1), { stdio: 'ignore' })
    return { server, ended: new Promise<void>((resolve) => server.once('exit', () => resolve())) }
  }
  let { server, ended } = start()
  const crash = async (): Promise<void> => {
    // Immediate shutdown, by the server's own process id: what lends the user passes only some signals on.
    const pid = Number((await readFile(join(data, 'postmaster.pid'), 'utf8').catch(() => '')).split('\n')[0])
    if (pid > 0) process.kill(pid, 'SIGQUIT')
    else server.kill()
    await ended
  }
  const stop = async (): Promise<void> => {
    if (isSwept && server.exitCode === null) await keepDump(join(bin, 'pg_dumpall'), url)
    await crash()
    await rm(folder, { recursive: true, force: true })
  }
  try {
    await untilAnswers(url, () => server.exitCode === null)
  } catch (error) {
    await stop()
    throw error
  }
  const restart = async (meanwhile?: () => Promise<void>): Promise<void> => {
    await crash()
    await meanwhile?.()
    ;({ server, ended } = start())
    await untilAnswers(url, () => server.exitCode === null)
  }
  return { url, port, restart, stop }
}

/** A database of a login that is no superuser, as hosted PostgreSQL gives it: it owns the tables, and obeys their policies. */
export async function ownedDatabase(url: string): Promise<string> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  await client.query("create role house login createrole nosuperuser nobypassrls password 'house-password'")
  await client.query('create database house owner house')
  await client.end()
  return Object.assign(new URL(url), { username: 'house', password: 'house-password', pathname: '/house' }).href
}

async function keepDump(program: string, url: string): Promise<void> {
  const { stdout } = await run(program, ['--dbname', url], { encoding: 'buffer', maxBuffer: 2 ** 30 })
  await keepBytes('databases', 'sql', stdout)
}

async function findBinaries(): Promise<string | undefined> {
  const folders = (process.env['PATH'] ?? '').split(':')
  const configured = await run('pg_config', ['--bindir']).catch(() => undefined)
  if (configured) folders.push(configured.stdout.trim())
  const versions = await readdir('/usr/lib/postgresql').catch(() => [])
  folders.push(...versions.sort((a, b) => Number(b) - Number(a)).map((version) => `/usr/lib/postgresql/${version}/bin`))
  for (const folder of folders) {
    const both = ['initdb', 'postgres'].map((name) => access(join(folder, name)))
    if (folder !== '' && (await Promise.all(both).catch(() => undefined))) return folder
  }
  return undefined
}

/** What stands before a command so that it does not run as root: nothing, or undefined when there is no user to lend it to. */
export async function lender(): Promise<string[] | undefined> {
  if (process.getuid?.() !== 0) return []
  for (const user of ['postgres', 'nobody']) {
    const as = ['runuser', '-u', user, '--']
    if (await run('runuser', ['-u', user, '--', 'true']).catch(() => undefined)) return as
  }
  return undefined
}

const runAs = async (as: string[], command: string[]): Promise<void> => {
  const all = [...as, ...command]
  await run(all[0] ?? '', all.slice(1), { cwd: '/tmp' })
}

/** A port of 127.0.0.1 that nobody listens on. */
export async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  await new Promise((resolve) => server.close(resolve))
  return typeof address === 'object' && address ? address.port : 0
}

/** Resolves when a database of this URL lets somebody in; rejects after 10 s, or when its program has ended. */
export async function untilAnswers(url: string, isAlive: () => boolean): Promise<void> {
  for (let attempt = 0; attempt < 200 && isAlive(); attempt++) {
    const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 2000 })
    client.on('error', () => {})
    const isUp = await client.connect().then(
      () => true,
      () => false,
    )
    await client.end().catch(() => {})
    if (isUp) return
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  throw new Error('The server did not start.')
}
