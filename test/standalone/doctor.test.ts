import { once } from 'node:events'
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { sql } from 'drizzle-orm'
import { SMTPServer } from 'smtp-server'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { checks, type Diagnosis, diagnose } from '../../standalone/doctor/diagnose.ts'
import { ok } from '../../standalone/doctor/finding.ts'
import { openHouse, partOf, type Variables } from '../../standalone/doctor/house.ts'
import { platformKeysFile } from '../../standalone/ports.ts'
import { startStandalone } from '../../standalone/start.ts'
import { secretCanary } from '../support/canary.ts'
import { freePort } from '../support/postgres.ts'
import { runScript } from '../support/self-host.ts'
import { onboard } from '../support/world.ts'

let root: string
let dataDir: string
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'doctor-'))
  dataDir = join(root, 'data')
  const house = await startStandalone({
    dataDir,
    host: '127.0.0.1',
    port: 0,
    logLevel: 'silent',
    development: false,
    allowPrivateNetwork: true,
  })
  await onboard(house, 'sound_1')
  await house.stop(1_000)
})
afterAll(() => rm(root, { recursive: true, force: true }))

const variables = (more: Variables = {}): Variables => ({
  PATH: process.env['PATH'],
  TRIBUTARY_DATA_DIR: dataDir,
  ...more,
})
/** What the doctor finds; with `only` what that check finds, after a statement as the database's superuser. */
async function found(more: Variables = {}, only?: string, plant?: string): Promise<Diagnosis[]> {
  const house = openHouse('embedded', variables(more))
  try {
    if (plant !== undefined) await (await house.database())?.execute(sql.raw(plant))
    return await diagnose(
      house,
      checks.filter(({ name }) => only === undefined || name === only),
    )
  } finally {
    await house.close()
  }
}
const of = (findings: Diagnosis[], check: string): Diagnosis[] => findings.filter((one) => one.check === check)
const states = (findings: Diagnosis[]): Record<string, string> =>
  Object.fromEntries(findings.toReversed().map(({ check, state }) => [check, state]))

test('a sound embedded deployment has nothing to repair, and what it was asked changed nothing', async () => {
  const findings = await found()
  expect(findings.filter(({ state }) => state === 'fail' || state === 'skipped')).toEqual([])
  expect(states(findings)).toMatchObject({
    environment: 'ok',
    database: 'ok',
    migrations: 'ok',
    roles: 'ok',
    'row security': 'ok',
    'platform keys': 'ok',
    'data folder': 'ok',
    lake: 'ok',
  })
  expect(of(findings, 'platform keys')[0]?.says).toMatch(/open all [1-9]\d* stored data keys/)
  expect(await found()).toEqual(findings.map((one) => ({ ...one, says: expect.any(String) })))
})

test('extensions among which none encrypts leave lakes plain, and that is said', async () => {
  const findings = await found({ LAKE_EXTENSIONS: root }, 'lake')
  expect(findings).toMatchObject([
    { state: 'ok', says: expect.stringMatching(/reads one\.$/) },
    { state: 'warn', says: expect.stringContaining('LAKE_EXTENSIONS has nothing'), todo: 'Put httpfs into it.' },
  ])
})

test('a folder that does not exist yet is no fault', async () => {
  const findings = await found({ TRIBUTARY_DATA_DIR: join(root, 'not', 'yet') })
  expect(findings.filter(({ state }) => state === 'fail')).toEqual([])
  expect(of(findings, 'data folder')[0]?.says).toContain('will be made by npm start')
})

// Each is planted, found with what to do, and taken back.
const faults: [name: string, check: string, state: string, says: RegExp, todo: RegExp, plant: string, back: string][] =
  [
    [
      'a table whose row-level security does not hold its owner',
      'row security',
      'fail',
      /app\.pipeline has no forced row-level security/,
      /Stop the processes/,
      'alter table app.pipeline no force row level security',
      'alter table app.pipeline force row level security',
    ],
    [
      'a table whose row-level security is off',
      'row security',
      'fail',
      /app\.credential has no forced/,
      /Stop the processes/,
      'alter table app.credential disable row level security',
      'alter table app.credential enable row level security',
    ],
    [
      'a role that passes by row-level security',
      'roles',
      'fail',
      /tributary_api passes by/,
      /alter role tributary_api nosuperuser nobypassrls nologin/,
      'alter role tributary_api bypassrls',
      'alter role tributary_api nobypassrls',
    ],
    [
      'the same role, by what it can do',
      'row security',
      'fail',
      /tributary_api (passes|can log in)/,
      /Stop the processes/,
      'alter role tributary_api bypassrls',
      'alter role tributary_api nobypassrls',
    ],
    [
      'a migration that is missing',
      'migrations',
      'fail',
      /1 of \d+ migrations are missing/,
      /npm start/,
      'update drizzle.__drizzle_migrations set created_at = -created_at where created_at = (select max(created_at) from drizzle.__drizzle_migrations)',
      'update drizzle.__drizzle_migrations set created_at = -created_at where created_at < 0',
    ],
    [
      'a migration that was another one',
      'migrations',
      'warn',
      /0004_ledger was another one/,
      /compare the two/,
      `update drizzle.__drizzle_migrations set hash = hash || 'x' where id = 4`,
      `update drizzle.__drizzle_migrations set hash = left(hash, -1) where id = 4`,
    ],
    [
      'a database of a newer release',
      'migrations',
      'warn',
      /newer than this release/,
      /Upgrade this release/,
      `insert into drizzle.__drizzle_migrations (hash, created_at) values ('x', 9999999999999)`,
      `delete from drizzle.__drizzle_migrations where created_at = 9999999999999`,
    ],
  ]
test.for(faults)('found: %s', async ([, check, state, says, todo, plant, back]) => {
  const findings = await found({}, check, plant)
  await found({}, 'database', back)
  expect(findings).toContainEqual({
    check,
    state,
    says: expect.stringMatching(says),
    todo: expect.stringMatching(todo),
  })
})

test('a platform key that is not the one that wrapped the data keys is found, by their number alone', async () => {
  const file = platformKeysFile(dataDir)
  const before = await readFile(file, 'utf8')
  await writeFile(file, JSON.stringify({ current: 'k1', keys: { k1: btoa('0123456789abcdef0123456789abcdef') } }))
  const findings = await found({}, 'platform keys')
  await writeFile(file, before)
  expect(findings).toEqual([
    {
      check: 'platform keys',
      state: 'fail',
      says: expect.stringMatching(/^([1-9]\d*) of \1 stored data keys open with none of them/),
      todo: expect.stringContaining('Add the platform key'),
    },
  ])
})

test('a folder that another process has is left alone, and said', async () => {
  const boot = await readFile('/proc/sys/kernel/random/boot_id', 'utf8').catch(() => 'unknown')
  const lock = join(dataDir, 'lock.json')
  await writeFile(lock, JSON.stringify({ pid: process.ppid, boot: boot.trim(), startedAt: 'now' }))
  const findings = await found()
  await rm(lock)
  expect(of(findings, 'database')).toEqual([
    {
      check: 'database',
      state: 'warn',
      says: expect.stringContaining(`in use by process ${process.ppid}`),
      todo: expect.stringContaining('Stop that process'),
    },
  ])
  expect(states(findings)).toMatchObject({ roles: 'skipped', 'row security': 'skipped', lake: 'ok' })
})

test('a folder that cannot be written, one that everybody reads, a missing prlimit and too little memory are found', async () => {
  const file = join(root, 'a-file')
  await writeFile(file, '', { mode: 0o600 })
  expect(await found({ TRIBUTARY_DATA_DIR: join(file, 'data') }, 'data folder')).toEqual([
    expect.objectContaining({ state: 'fail', todo: expect.stringContaining('Make this user its owner') }),
  ])
  await chmod(dataDir, 0o755)
  const open = await found({}, 'data folder')
  await chmod(dataDir, 0o700)
  expect(open).toContainEqual(expect.objectContaining({ state: 'warn', todo: `Run: chmod 700 ${dataDir}` }))
  expect(await found({ PATH: '', WORKER_CAPACITY: '256' }, 'processes')).toEqual([
    expect.objectContaining({ state: 'warn', todo: expect.stringContaining('Install util-linux') }),
    expect.objectContaining({ state: 'warn', todo: expect.stringContaining('Lower WORKER_CAPACITY') }),
  ])
})

test('a mail server is logged in to, and one that is away or refuses the login is found', async () => {
  const server = new SMTPServer({
    authMethods: ['PLAIN'],
    allowInsecureAuth: true,
    disabledCommands: ['STARTTLS'],
    onAuth: ({ password }, _session, done) =>
      password === secretCanary('of-mail') ? done(null, { user: 'u' }) : done(new Error('no')),
  })
  server.listen(0, '127.0.0.1')
  await once(server.server, 'listening')
  const { port } = server.server.address() as AddressInfo
  const at = (password: string, where = port): Promise<Diagnosis[]> =>
    found({ SMTP_URL: `smtp://u:${password}@127.0.0.1:${where}`, SMTP_FROM: 'a@x.example' }, 'mail')
  expect(await at(secretCanary('of-mail'))).toMatchObject([{ state: 'ok' }])
  const faulty = [await at('wrong-password'), await at('any', await freePort())]
  await new Promise<void>((resolve) => server.close(() => resolve()))
  expect(faulty).toEqual([
    [
      expect.objectContaining({
        state: 'fail',
        says: expect.stringMatching(/535/),
        todo: expect.stringContaining('SMTP_URL'),
      }),
    ],
    [expect.objectContaining({ state: 'fail', says: expect.stringMatching(/cannot be reached/) })],
  ])
})

test('what a check does not say in time is a fault, and one that breaks does not end the others', async () => {
  const canary = secretCanary('in-an-error')
  const house = openHouse('embedded', variables({ ANY_TOKEN: canary }))
  const hangs = { name: 'hangs', concerns: () => true, look: () => new Promise<never>(() => undefined) }
  const breaks = { name: 'breaks', concerns: () => true, look: () => Promise.reject(new Error(`broken by ${canary}`)) }
  const holds = { name: 'holds', concerns: () => true, look: async () => ok('well') }
  expect(await diagnose(house, [hangs, breaks, holds], 100)).toMatchObject([
    { check: 'hangs', state: 'fail', says: 'It gave no answer within 0.1 s.' },
    { check: 'breaks', state: 'fail', says: 'It could not be looked at: Error: broken by [redacted]' },
    { check: 'holds', state: 'ok' },
  ])
})

test('the command says it as a table and as JSON, ends with 1 on a fault, and shows no secret, however badly it is written', async () => {
  const canary = secretCanary('of-the-doctor')
  const keys = (secret: string): string => JSON.stringify({ current: 'k1', keys: { k1: secret } })
  const bad: Record<string, string>[] = [
    { DATABASE_URL: `postgres://web:${canary}@127.0.0.1:${await freePort()}/x`, PLATFORM_KEYS: keys(canary) },
    { DATABASE_URL: `postgers://web:${canary}@host/x`, PLATFORM_KEYS: `{"current":"k1","keys":{"k1":"${canary}` },
    {
      DATABASE_URL: `web:${canary}@host/x`,
      REDIS_URL: `redis://u:${canary}@127.0.0.1:${await freePort()}`,
      PLATFORM_API_KEY: canary,
      SMTP_URL: `smtp://u:${canary}@127.0.0.1:${await freePort()}`,
      SMTP_FROM: 'a@x.example',
    },
    {
      DATABASE_URL: `postgres://web:${encodeURIComponent(`${canary} 1`)}@127.0.0.1:${await freePort()}/x`,
      UPSTASH_REDIS_REST_URL: `http://127.0.0.1:${await freePort()}`,
      UPSTASH_REDIS_REST_TOKEN: canary,
    },
  ]
  const said = await Promise.all(
    bad.map((env, index) =>
      runScript('standalone/doctor/main.ts', index === 0 ? [] : ['--json'], { TRIBUTARY_DATA_DIR: dataDir, ...env }),
    ),
  )
  for (const { code, stdout, stderr } of said) {
    expect(code).toBe(1)
    expect(stdout + stderr).not.toContain(canary)
    expect(stdout + stderr).not.toContain(btoa(canary).slice(0, 20))
  }
  expect(said[0]?.stdout).toMatch(/^FAIL {2}database .* ECONNREFUSED.*\n +→ Start the server/m)
  expect(JSON.parse(said[1]?.stdout ?? '')).toMatchObject({ ok: false, findings: expect.any(Array) })
  const well = await runScript('standalone/doctor/main.ts', ['--json'], {
    TRIBUTARY_DATA_DIR: dataDir,
  })
  expect(well).toMatchObject({ code: 0, stderr: '' })
  expect(JSON.parse(well.stdout)).toMatchObject({ ok: true, part: 'embedded' })
  expect(await runScript('standalone/doctor/main.ts', ['--for', 'nothing'], {})).toMatchObject({ code: 1 })
})

test('what an environment is for is told by its variables', () => {
  expect(partOf({})).toBe('embedded')
  expect(partOf({ DATABASE_URL: 'postgres://x' })).toBe('self-host')
  expect(partOf({ DATABASE_URL: 'postgres://x', UPSTASH_REDIS_REST_URL: 'https://x' })).toBe('edge')
})
