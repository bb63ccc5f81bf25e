import { spawn } from 'node:child_process'
import { access, chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { freePort, lender, untilAnswers } from './postgres.ts'

/** A pooler of this machine, started for a test, or why there is none. */
export type StartedPgbouncer = { url: string; stop(): Promise<void> } | { skipped: string }

/**
 * Starts PgBouncer in transaction mode before the database of `url`, with one server connection for all clients. It
 * refuses to run as root, so root lends it to the user postgres or nobody.
 */
export async function startPgbouncer(url: string): Promise<StartedPgbouncer> {
  const program = await findProgram()
  if (program === undefined) return { skipped: 'no PgBouncer on this machine' }
  const as = await lender()
  if (as === undefined) return { skipped: 'root cannot run PgBouncer and there is no user to lend it to' }
  const { hostname, port, username, password, pathname } = new URL(url)
  const database = pathname.slice(1)
  const folder = await mkdtemp('/tmp/pgbouncer-test-')
  const users = join(folder, 'users.txt')
  const settings = join(folder, 'pgbouncer.ini')
  const own = await freePort()
  await writeFile(users, `"${username}" "${password}"\n`)
  await writeFile(
    settings,
    [
      '[databases]',
      `${database} = host=${hostname} port=${port} dbname=${database}`,
      '[pgbouncer]',
      'listen_addr = 127.0.0.1',
      `listen_port = ${own}`,
      'unix_socket_dir =',
      'auth_type = plain',
      `auth_file = ${users}`,
      'pool_mode = transaction',
      'default_pool_size = 1',
      'max_client_conn = 50',
      'ignore_startup_parameters = statement_timeout',
      '',
    ].join('\n'),
  )
  if (as.length > 0)
    for (const [path, mode] of [
      [folder, 0o755],
      [users, 0o644],
      [settings, 0o644],
    ] as const)
      await chmod(path, mode)
  const command = [...as, program, settings]
  const pooler = spawn(command[0] ?? '', command.slice(1), { stdio: 'ignore' })
  const ended = new Promise<void>((resolve) => pooler.once('exit', () => resolve()))
  const stop = async (): Promise<void> => {
    // What lends the user passes SIGTERM on; PgBouncer then drops its clients and ends.
    pooler.kill('SIGTERM')
    await ended
    await rm(folder, { recursive: true, force: true })
  }
  const pooled = Object.assign(new URL(url), { hostname: '127.0.0.1', port: String(own) }).href
  try {
    await untilAnswers(pooled, () => pooler.exitCode === null)
  } catch (error) {
    await stop()
    throw error
  }
  return { url: pooled, stop }
}

async function findProgram(): Promise<string | undefined> {
  const folders = [...(process.env['PATH'] ?? '').split(':'), '/usr/sbin', '/usr/local/sbin']
  for (const folder of folders) {
    const path = join(folder, 'pgbouncer')
    const isThere = await access(path).then(
      () => true,
      () => false,
    )
    if (folder !== '' && isThere) return path
  }
  return undefined
}
