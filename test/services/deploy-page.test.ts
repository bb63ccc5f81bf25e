import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { freePort, ownedDatabase, startPostgres } from '../support/postgres.ts'
import { startQStashSim } from '../support/qstash-sim.ts'
import { startProcess } from '../support/self-host.ts'

const root = join(import.meta.dirname, '..', '..')
const [postgres, empty] = [await startPostgres(), await startPostgres()]
const programs = await Promise.all(['psql', 'pg_dump', 'pg_dumpall', 'pg_restore'].map(isThere))
const left =
  'skipped' in postgres ? postgres.skipped : programs.every(Boolean) ? undefined : 'no clients of PostgreSQL in PATH'

/** Lines of commands of the page, in its order. */
const commands = [...readFileSync(join(root, 'docs/deploy.md'), 'utf8').matchAll(/^```sh\n([\s\S]*?)^```/gm)].flatMap(
  ([, block = '']) => block.trimEnd().split('\n'),
)
// Each is run by another test, or needs an account, a daemon or packages anew.
const elsewhere: readonly (readonly [command: RegExp, where: string])[] = [
  [/^docker compose /, 'test/services/image.test.ts does what it would start'],
  [/^npm --prefix test\/edge run dry-run /, 'test/edge/deploy.test.ts'],
  [/^npm --prefix test\/edge run (secrets|deploy) /, 'needs an account'],
  [/^deno serve /, 'test/edge/runtimes.ts, and test/deploy/docs.test.ts compares them'],
  [/^npm ci /, 'test/deploy/image.test.ts knows what is left then'],
]

describe.skipIf(left !== undefined)(
  `the commands of docs/deploy.md${left === undefined ? '' : `, left out: ${left}`}`,
  () => {
    let folder: string
    let urls: Record<'owner' | 'web' | 'run' | 'superuser' | 'empty', string>
    let sim: Awaited<ReturnType<typeof startQStashSim>>
    const platformKeys = JSON.stringify({ current: 'k1', keys: { k1: randomBytes(32).toString('base64') } })
    beforeAll(async () => {
      if (!('url' in postgres) || !('url' in empty)) return
      folder = await mkdtemp(join(tmpdir(), 'deploy-page-'))
      sim = await startQStashSim({ seed: 1 })
      const owner = await ownedDatabase(postgres.url)
      const as = (login: string): string =>
        Object.assign(new URL(owner), { username: login, password: `${login}-password` }).href
      urls = {
        owner,
        web: as('tributary_web'),
        run: as('tributary_run'),
        superuser: Object.assign(new URL(postgres.url), { pathname: new URL(owner).pathname }).href,
        empty: empty.url,
      }
      const common = { PLATFORM_KEYS: platformKeys }
      await writeFile(join(folder, 'edge.env'), envOf({ ...common, DATABASE_URL: urls.web }))
      const data = { TRIBUTARY_DATA_DIR: join(folder, 'data') }
      await writeFile(join(folder, 'worker.env'), envOf({ ...common, ...data, DATABASE_URL: urls.run }))
    })
    afterAll(async () => {
      await sim?.[Symbol.asyncDispose]()
      for (const server of [postgres, empty]) if ('stop' in server) await server.stop()
      await rm(folder, { recursive: true, force: true })
    })
    const envOf = (variables: Record<string, string>): string =>
      Object.entries(variables)
        .map(([name, value]) => `${name}=${value}\n`)
        .join('')

    /** Runs a line of the page in the folder of the product, with the files that it names in one of the test. */
    async function run(command: string, variables: Record<string, string>): Promise<string> {
      const line = command
        .replaceAll(/\b(edge\.env|worker\.env|globals\.sql|tributary\.dump)\b/g, (name) => join(folder, name))
        .replace(/^sh deploy\/make-secrets\.sh$/, `$& ${folder}/secrets`)
      const { stdout, stderr } = await promisify(execFile)('sh', ['-c', line], {
        cwd: root,
        timeout: 120_000,
        env: {
          PATH: `${dirname(process.execPath)}:${process.env['PATH'] ?? ''}`,
          HOME: folder,
          OWNER_URL: urls.owner,
          SUPERUSER_URL: urls.superuser,
          EMPTY_URL: urls.empty,
          WEB_PASSWORD: 'tributary_web-password',
          RUN_PASSWORD: 'tributary_run-password',
          ...variables,
        },
      })
      return stdout + stderr
    }

    test(
      'all that can run here do what the page says, from an empty database to a restored one',
      { timeout: 300_000 },
      async () => {
        await promisify(execFile)('mkdir', [join(folder, 'secrets')])
        const web = { DATABASE_URL: urls.web, PLATFORM_KEYS: platformKeys }
        const outcomes: [command: string, isAsTold: boolean][] = []
        let isUpgrade = false
        let isRestored = false
        for (const command of commands) {
          if (elsewhere.some(([known]) => known.test(command))) {
            isUpgrade ||= command.startsWith('npm ci')
            continue
          }
          if (command.includes('workers/main.ts')) {
            const worker = startProcess('workers/main.ts', [], {
              ...variablesOf(readFileSync(join(folder, 'worker.env'), 'utf8')),
              WAKE_PORT: String(await freePort()),
            })
            await worker.line('worker.up')
            worker.process.kill('SIGTERM')
            outcomes.push([command, (await worker.ended) === 0])
          } else if (command === 'npm run doctor') {
            const database = isRestored ? restored(urls.web, urls.empty) : urls.web
            const isWell = await run(command, { ...web, DATABASE_URL: database }).then(
              () => true,
              () => false,
            )
            // The page begins with it: before there is anything it says so and fails.
            outcomes.push([command, isWell === isUpgrade])
          } else if (command.includes('qstash-schedules')) {
            const said = await run(command, {
              ...web,
              QSTASH_URL: sim.url,
              QSTASH_TOKEN: sim.token,
              QSTASH_CURRENT_SIGNING_KEY: sim.keys.current,
              QSTASH_NEXT_SIGNING_KEY: sim.keys.next,
              WAKE_URL: 'http://localhost:9/wake',
              TICK_URL: 'http://localhost:9/tick',
            })
            outcomes.push([command, said.includes('/tick')])
          } else if (command === 'npm run migrate') await run(command, { DATABASE_URL: urls.owner })
          else {
            const said = await run(command, {})
            const isOfKey = command.includes('platform-key.ts')
            outcomes.push([command, !isOfKey || /key_[0-9a-f]{32}\.[0-9a-f]{64}/.test(said)])
            isRestored ||= command.startsWith('pg_restore ')
          }
        }
        expect(outcomes.filter(([, isAsTold]) => !isAsTold)).toEqual([])
        expect(outcomes.length).toBeGreaterThan(12)
        expect({ isUpgrade, isRestored }).toEqual({ isUpgrade: true, isRestored: true })
      },
    )

    test('what is run elsewhere is named on the page', () => {
      for (const [known, where] of elsewhere)
        expect(
          commands.some((command) => known.test(command)),
          `${String(known)}: ${where}`,
        ).toBe(true)
    })
  },
)

// The same database and login on another server.
const restored = (url: string, server: string): string =>
  Object.assign(new URL(url), { port: new URL(server).port }).href

const variablesOf = (text: string): Record<string, string> =>
  Object.fromEntries(
    text
      .trim()
      .split('\n')
      .map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
  )

function isThere(program: string): Promise<boolean> {
  return promisify(execFile)(program, ['--version']).then(
    () => true,
    () => false,
  )
}
