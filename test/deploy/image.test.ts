import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { builtinModules } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join, relative } from 'node:path'
import { parseSync } from 'rolldown/utils'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { readEnv } from '../../shared/env.ts'
import { controlPlaneEnv } from '../../standalone/control-plane-env.ts'
import { workerEnv } from '../../workers/env.ts'
import { compose, copied, envFile, imageVariables, root, stages } from './image.ts'

const { services, volumes } = compose()
const last = stages().at(-1)
const words = (word: string): string[] =>
  (last?.instructions ?? []).filter((one) => one.word === word).map(({ rest }) => rest)
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
  version: string
  scripts: Record<string, string>
  dependencies: Record<string, string>
}

let made: string
beforeAll(async () => {
  made = await mkdtemp(join(tmpdir(), 'deploy-'))
  execFileSync('sh', [join(root, 'deploy/make-secrets.sh'), made])
})
afterAll(() => rm(made, { recursive: true, force: true }))

/** Every source file that the image holds, by its path in the product. */
function files(path: string): string[] {
  if (!statSync(join(root, path)).isDirectory()) return [path]
  return readdirSync(join(root, path)).flatMap((name) => (name === 'node_modules' ? [] : files(`${path}/${name}`)))
}
const held = copied().flatMap(([from]) => files(from))

test('every source that is copied exists, is let through by .dockerignore, and keeps its place', () => {
  const rules = readFileSync(join(root, '.dockerignore'), 'utf8').split('\n')
  expect(rules).toContain('*')
  const first = stages()[0]?.instructions.filter(({ word }) => word === 'COPY') ?? []
  const sources = [...copied().map(([from]) => from), ...first.flatMap(({ rest }) => rest.split(/\s+/).slice(0, -1))]
  expect(sources.filter((from) => !existsSync(join(root, from)))).toEqual([])
  expect(rules).toEqual(expect.arrayContaining(sources.map((from) => `!${from}`)))
  for (const [from, to] of copied()) expect(to.replace(/^\.\//, '')).toBe(from)
})

test('whatever a file of the image imports is in the image: files of its own, packages without those of development', () => {
  const missing = held
    .filter((file) => /\.(ts|mjs)$/.test(file))
    .flatMap((file) => {
      const { module } = parseSync(file, readFileSync(join(root, file), 'utf8'))
      const specifiers = [
        ...module.staticImports
          .filter(({ entries }) => entries.length === 0 || entries.some(({ isType }) => !isType))
          .map(({ moduleRequest }) => moduleRequest.value),
        ...module.staticExports.flatMap(({ entries }) =>
          entries.map(({ moduleRequest }) => moduleRequest?.value ?? ''),
        ),
      ]
      return specifiers.filter((one) => one !== '' && !isThere(file, one)).map((one) => `${file} imports ${one}`)
    })
  expect(held.length).toBeGreaterThan(300)
  expect(missing).toEqual([])
})
function isThere(file: string, specifier: string): boolean {
  if (specifier.startsWith('.')) return held.includes(relative(root, join(root, dirname(file), specifier)))
  if (specifier.startsWith('node:') || builtinModules.includes(specifier)) return true
  const [scope = '', name = ''] = specifier.split('/')
  return Object.hasOwn(manifest.dependencies, specifier.startsWith('@') ? `${scope}/${name}` : scope)
}

test('the image runs as nobody in particular, asks its health, and is built from tags that name a version', () => {
  expect(words('USER')).toEqual(['node'])
  expect(words('HEALTHCHECK').join('')).toContain('"deploy/probe.mjs", "/healthz"')
  for (const { base } of stages()) expect(base).toMatch(/^node:\d+-slim$/)
  for (const { image } of Object.values(services)) expect(image).toMatch(/^[a-z]+:\d+(\.\d+\.\d+)?$/)
  expect(services['worker']?.image).toBe(`tributary:${manifest.version}`)
  expect(words('RUN').join('')).toContain('prlimit --version')
  expect(
    stages()
      .at(0)
      ?.instructions.map(({ rest }) => rest)
      .join('\n'),
  ).toContain('npm ci --omit=dev')
})

test('no secret is in the image or in the compose file, and what is made for them is read by its owner alone', () => {
  for (const file of ['Dockerfile', 'compose.yml'])
    expect(readFileSync(join(root, 'deploy', file), 'utf8')).not.toMatch(/PASSWORD|PLATFORM_KEYS|DATABASE_URL|ARG /)
  const named = Object.values(services).flatMap((one) => one.env_file)
  expect([...new Set(named)].sort()).toEqual(readdirSync(made).sort())
  for (const name of named) expect(statSync(join(made, name)).mode & 0o777).toBe(0o600)
  expect(readFileSync(join(root, '.gitignore'), 'utf8')).toContain('deploy/*.env\n')
  expect(readFileSync(join(root, '.dockerignore'), 'utf8')).toContain('**/*.env')
  expect(() => execFileSync('sh', [join(root, 'deploy/make-secrets.sh'), made], { stdio: 'pipe' })).toThrow(
    /there already/,
  )
})

test('the processes can read the environment that image and env files give them, and know each variable of it', () => {
  const forms = { 'control-plane': controlPlaneEnv, worker: workerEnv }
  for (const [name, form] of Object.entries(forms)) {
    const variables = envFile(join(made, services[name]?.env_file[0] ?? ''))
    expect(readEnv(form, { ...imageVariables(), ...variables })).toMatchObject({ HEALTH_HOST: '0.0.0.0' })
    for (const variable of Object.keys(variables)) expect(Object.keys(form.shape)).toContain(variable)
  }
  const known = [...Object.keys(controlPlaneEnv.shape), ...Object.keys(workerEnv.shape), 'NODE_ENV']
  for (const variable of Object.keys(imageVariables())) expect(known).toContain(variable)
})

test('logins and passwords are those that the database is made with', () => {
  const logins = readFileSync(join(root, 'deploy/make-logins.sh'), 'utf8')
  expect(statSync(join(root, 'deploy/make-logins.sh')).mode & 0o111).toBe(0o111)
  const database = envFile(join(made, 'postgres.env'))
  for (const [file, variable] of [
    ['owner.env', 'OWNER_PASSWORD'],
    ['control-plane.env', 'WEB_PASSWORD'],
    ['worker.env', 'RUN_PASSWORD'],
  ] as const) {
    const url = new URL(envFile(join(made, file))['DATABASE_URL'] ?? '')
    expect(logins).toMatch(new RegExp(`create role ${url.username} login .*password :'`))
    expect(url.password).toBe(database[variable])
    expect([url.hostname, url.port, url.pathname]).toEqual(['postgres', '5432', '/tributary'])
  }
  expect(new Set(Object.values(database)).size).toBe(4)
  expect(services['migrate']?.command).toEqual(
    expect.arrayContaining(['--api-login', 'tributary_web', '--worker-login', 'tributary_run']),
  )
})

test('each service runs what a script of the product runs, after what it needs', () => {
  const scripts = Object.values(manifest.scripts).map((script) => script.replace('--env-file-if-exists=.env ', ''))
  for (const [name, { command }] of Object.entries(services)) {
    if (name === 'postgres') continue
    expect(scripts).toContain(command?.slice(0, 2).join(' '))
  }
  expect(services['migrate']?.depends_on).toEqual({ postgres: { condition: 'service_healthy' } })
  for (const name of ['control-plane', 'worker'])
    expect(services[name]?.depends_on).toEqual({ migrate: { condition: 'service_completed_successfully' } })
})

test('ports, folders and times agree: what is published is served, what is kept has a volume, what stops may end', () => {
  const { PORT, HEALTH_PORT, TRIBUTARY_DATA_DIR } = imageVariables()
  expect(words('EXPOSE').join(' ').split(' ')).toEqual(expect.arrayContaining([PORT, HEALTH_PORT]))
  expect(services['control-plane']?.ports).toEqual([`127.0.0.1:8080:${PORT}`])
  expect(services['worker']?.volumes).toEqual([`data:${TRIBUTARY_DATA_DIR}`])
  expect(words('VOLUME')).toEqual([TRIBUTARY_DATA_DIR])
  for (const one of Object.values(services).flatMap(({ volumes: own }) => own ?? [])) {
    const from = one.split(':')[0] ?? ''
    expect(from.startsWith('./') ? existsSync(join(root, 'deploy', from)) : Object.hasOwn(volumes, from)).toBe(true)
  }
  const graceMs = workerEnv.shape.STOP_GRACE.parse(undefined)
  for (const [name, needed] of [
    ['control-plane', graceMs + 10_000],
    ['worker', graceMs + 20_000],
  ] as const)
    expect(Number.parseInt(services[name]?.stop_grace_period ?? '0', 10) * 1000).toBeGreaterThan(needed)
  for (const name of ['control-plane', 'worker'])
    expect(services[name]).toMatchObject({ read_only: true, cap_drop: ['ALL'], tmpfs: ['/tmp'] })
})
