import { execFile } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { restPrefix } from '../../control-plane/rest/find-route.ts'
import { edgeEnv } from '../../control-plane/env.ts'
import { gzipBytesMax } from '../../scripts/edge-bundle.ts'

const root = join(import.meta.dirname, '..', '..')
const config = readFileSync(join(root, 'wrangler.toml'), 'utf8')
const environments = [...config.matchAll(/^\[env\.(\w+)\.secrets\]$/gm)].map(([, name]) => name ?? '')

let home: string
beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), 'wrangler-'))
})
afterAll(() => rm(home, { recursive: true, force: true }))

async function dryRun(environment: string): Promise<string> {
  const program = join(import.meta.dirname, 'node_modules/.bin/wrangler')
  const args = [
    'deploy',
    '--config',
    'wrangler.toml',
    '--env',
    environment,
    '--dry-run',
    '--outdir',
    join(home, environment),
  ]
  const { stdout, stderr } = await promisify(execFile)(process.execPath, [program, ...args], {
    cwd: root,
    timeout: 120_000,
    env: {
      PATH: `${dirname(process.execPath)}:${process.env['PATH'] ?? ''}`,
      HOME: home,
      CI: '1',
      NO_COLOR: '1',
      WRANGLER_SEND_METRICS: 'false',
    },
  })
  return stdout + stderr
}

test(
  'each environment can be deployed, with its pages, and is uploaded in at most 400 KiB',
  { timeout: 300_000 },
  async () => {
    expect(environments).toEqual(['staging', 'production'])
    for (const environment of environments) {
      const said = await dryRun(environment)
      expect(said).toContain('env.ASSETS')
      expect(said).toContain('--dry-run: exiting now.')
      // Other than for a taste of its own, wrangler has nothing to warn of.
      expect(said).not.toMatch(/Unexpected fields|ERROR/)
      const [, size = '', unit] = /gzip: ([\d.]+) (KiB|MiB)/.exec(said) ?? []
      const kibibytes = Number(size) * (unit === 'MiB' ? 1024 : 1)
      const goal = gzipBytesMax / 1024
      console.log(
        `RESULT edge_upload_gzip_${environment} ${kibibytes.toFixed(1)} KiB goal <= ${goal.toFixed(1)} ${kibibytes <= goal ? 'ok' : 'short'}`,
      )
      expect(kibibytes).toBeGreaterThan(50)
      expect(kibibytes).toBeLessThanOrEqual(goal)
      expect(existsSync(join(home, environment, 'edge.js'))).toBe(true)
    }
  },
)

test('every path of the API goes to the control plane before a page of that name could', () => {
  const [, list = ''] = /^run_worker_first = \[(.*)\]$/m.exec(config) ?? []
  const patterns = [...list.matchAll(/"([^"]+)"/g)].map(([, one]) => new RegExp(`^${(one ?? '').replace('*', '.*')}$`))
  const source = readFileSync(join(root, 'control-plane/app.ts'), 'utf8')
  const paths = [
    ...[...source.matchAll(/pathname [!=]== '([^']+)'/g)].map(([, path]) => path ?? ''),
    '/v1/hooks/abc',
    `${restPrefix}/openapi.json`,
  ]
  expect(paths).toEqual(expect.arrayContaining(['/graphql', '/tick', '/healthz', '/v1/audit.ndjson']))
  expect(paths.filter((path) => !patterns.some((pattern) => pattern.test(path)))).toEqual([])
})

test('the variables that are told are those of the edge, and those that it cannot do without are required', () => {
  const known = Object.keys(edgeEnv.shape)
  const named = [...config.matchAll(/\b([A-Z]+(?:_[A-Z]+)+)\b/g)].map(([, one]) => one ?? '')
  expect(named.filter((one) => !known.includes(one) && one !== '_TOKEN')).toEqual([])
  const needed = Object.entries(edgeEnv.shape).flatMap(([name, form]) =>
    form.safeParse(undefined).success ? [] : [name],
  )
  for (const [, list = ''] of config.matchAll(/^required = \[(.*)\]$/gm))
    expect(list.replaceAll('"', '').split(', ')).toEqual(needed)
  // QSTASH_DEV must not be set, NEON_PROXY is for development, and a Redis without TLS has no place there.
  const untold = ['QSTASH_DEV', 'NEON_PROXY', 'ALLOW_PLAIN_REDIS', 'UPSTASH_REDIS_REST_TOKEN']
  expect(known.filter((one) => !named.includes(one) && !untold.includes(one))).toEqual([])
})
