import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process'
import { cp, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { compose, copied, envFile, imageVariables, root } from '../deploy/image.ts'
import { until } from '../support/control-plane.ts'
import { freePort, postgresLogin, startPostgres } from '../support/postgres.ts'

const run = promisify(execFile)
const postgres = await startPostgres()
const psql = await findPsql()
const left = 'skipped' in postgres ? postgres.skipped : psql === undefined ? 'no psql on this machine' : undefined

// What compose would start, from nothing but what the image holds; machines and mounts are this one's.
describe.skipIf(left !== undefined)(
  `the image and its services${left === undefined ? '' : `, left out: ${left}`}`,
  () => {
    const started: ChildProcess[] = []
    let folder: string
    let app: string
    const ports = new Map<string, string>()
    beforeAll(async () => {
      folder = await mkdtemp(join(tmpdir(), 'image-'))
      app = join(folder, 'app')
      for (const [from, to] of copied()) {
        await mkdir(dirname(join(app, to)), { recursive: true })
        await cp(join(root, from), join(app, to), { recursive: true })
      }
      await symlink(join(root, 'node_modules'), join(app, 'node_modules'))
      execFileSync('sh', [join(root, 'deploy/make-secrets.sh'), folder])
      if ('port' in postgres)
        for (const name of await readdir(folder))
          if (name.endsWith('.env')) {
            const text = await readFile(join(folder, name), 'utf8')
            await writeFile(join(folder, name), text.replaceAll('@postgres:5432/', `@127.0.0.1:${postgres.port}/`))
          }
    })
    afterAll(async () => {
      for (const one of started) one.kill('SIGKILL')
      if ('stop' in postgres) await postgres.stop()
      await rm(folder, { recursive: true, force: true })
    })

    async function environment(name: string): Promise<Record<string, string>> {
      ports.set(name, ports.get(name) ?? String(await freePort()))
      return {
        PATH: process.env['PATH'] ?? '',
        ...imageVariables(),
        ...envFile(join(folder, compose().services[name]?.env_file[0] ?? '')),
        PORT: '0',
        HEALTH_PORT: ports.get(name) ?? '',
        TRIBUTARY_DATA_DIR: join(folder, 'data'),
      }
    }
    const commandOf = (name: string): string[] => compose().services[name]?.command?.slice(1) ?? []
    async function start(name: string): Promise<ChildProcess> {
      const child = spawn(process.execPath, commandOf(name), {
        cwd: app,
        env: await environment(name),
        stdio: 'ignore',
      })
      started.push(child)
      return child
    }
    async function isHealthy(name: string): Promise<boolean> {
      const [, , ...probe] = compose().services[name]?.healthcheck?.test ?? []
      const env = await environment(name)
      return run(process.execPath, probe, { cwd: app, env }).then(
        () => true,
        () => false,
      )
    }

    test('from an empty server to a control plane and a worker that are healthy, by the commands of the compose file', async () => {
      const port = 'port' in postgres ? postgres.port : 0
      await run('sh', [join(root, 'deploy/make-logins.sh')], {
        env: {
          PATH: `${dirname(psql ?? '')}:${process.env['PATH'] ?? ''}`,
          PGHOST: '127.0.0.1',
          PGPORT: String(port),
          PGPASSWORD: postgresLogin.password,
          POSTGRES_USER: postgresLogin.user,
          ...envFile(join(folder, 'postgres.env')),
        },
      })
      const [plane, worker] = [await start('control-plane'), await start('worker')]
      expect(await isHealthy('control-plane')).toBe(false)
      await run(process.execPath, commandOf('migrate'), { cwd: app, env: await environment('migrate') })
      await until('both are healthy', async () => (await isHealthy('control-plane')) && (await isHealthy('worker')))
      // As an operator does it: docker compose exec worker node standalone/doctor/main.ts
      for (const name of ['control-plane', 'worker']) {
        const { stdout } = await run(process.execPath, ['standalone/doctor/main.ts', '--json', '--for', name], {
          cwd: app,
          env: await environment(name),
        }).catch((error: { stdout: string }) => error)
        const { findings } = JSON.parse(stdout) as { findings: { state: string }[] }
        expect(findings.filter(({ state }) => state === 'fail' || state === 'skipped')).toEqual([])
      }
      const ended = [plane, worker].map((one) => new Promise((resolve) => one.once('exit', resolve)))
      for (const one of [plane, worker]) one.kill('SIGTERM')
      expect(await Promise.all(ended)).toEqual([0, 0])
    })
  },
)

async function findPsql(): Promise<string | undefined> {
  const versions = await readdir('/usr/lib/postgresql').catch(() => [])
  const folders = [
    ...(process.env['PATH'] ?? '').split(':'),
    ...versions.map((one) => `/usr/lib/postgresql/${one}/bin`),
  ]
  for (const one of folders.toReversed()) {
    const file = join(one, 'psql')
    if (await run(file, ['--version']).catch(() => undefined)) return file
  }
  return undefined
}
