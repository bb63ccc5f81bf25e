import { randomBytes } from 'node:crypto'
import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Redis as Client } from 'ioredis'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { withTenant } from '../../shared/db/db.ts'
import { startRun } from '../../shared/runs/ledger.ts'
import { secretBox } from '../../shared/secrets/secret-box.ts'
import { systemClock } from '../../shared/clock.ts'
import { type Diagnosis, diagnose } from '../../standalone/doctor/diagnose.ts'
import { openHouse, type Part, partOf, type Variables } from '../../standalone/doctor/house.ts'
import { migrationsFolder } from '../../standalone/ports.ts'
import { grantSide, migratePg, openPg } from '../../workers/db/pg.ts'
import { secretCanary } from '../support/canary.ts'
import { until } from '../support/control-plane.ts'
import { makeTenant } from '../support/database.ts'
import { freePort, startPostgres } from '../support/postgres.ts'
import { type RedisBridge, startRedisBridge } from '../support/redis-bridge.ts'
import { startRedis } from '../support/redis.ts'
import { type HostedDatabase, hostedDatabase } from '../support/self-host.ts'
import { plannedRun, plannedStep } from '../support/runs.ts'

const [postgres, server] = [await startPostgres(), await startRedis()]
const left = 'skipped' in postgres ? `, left out: ${postgres.skipped}` : ''
const leftRedis = 'skipped' in server ? `, left out: ${server.skipped}` : ''
const keys = { current: 'k1', keys: { k1: randomBytes(32).toString('base64') } }

let dataDir: string
let database: HostedDatabase
beforeAll(async () => {
  dataDir = await mkdtemp(join(tmpdir(), 'doctor-'))
  await chmod(dataDir, 0o700)
  if ('url' in postgres) database = await hostedDatabase(postgres.url)
})
afterAll(async () => {
  await rm(dataDir, { recursive: true, force: true })
  if ('stop' in postgres) await postgres.stop()
  if ('stop' in server) await server.stop()
})

async function found(more: Variables, part?: Part, clock = systemClock): Promise<Diagnosis[]> {
  const variables = {
    PATH: process.env['PATH'],
    PLATFORM_KEYS: JSON.stringify(keys),
    TRIBUTARY_DATA_DIR: dataDir,
    ...more,
  }
  const house = openHouse(part ?? partOf(variables), variables, clock)
  try {
    return await diagnose(house)
  } finally {
    await house.close()
  }
}
const of = (findings: Diagnosis[], check: string): Diagnosis[] => findings.filter((one) => one.check === check)
const failed = (findings: Diagnosis[]): Diagnosis[] => findings.filter(({ state }) => state === 'fail')
const fault = (says: RegExp, todo: RegExp, state = 'fail'): unknown =>
  expect.objectContaining({ state, says: expect.stringMatching(says), todo: expect.stringMatching(todo) })

describe.skipIf(left !== '')(`the doctor on a server${left}`, () => {
  const as = (url: string, change: Partial<Pick<URL, 'password' | 'pathname' | 'port' | 'hostname'>>): string =>
    Object.assign(new URL(url), change).href
  async function done(url: string, ...statements: string[]): Promise<void> {
    const client = new pg.Client({ connectionString: url })
    await client.connect()
    try {
      for (const statement of statements) await client.query(statement)
    } finally {
      await client.end()
    }
  }

  test('an empty database and a login that may not work with it are found, with the commands that make it right', async () => {
    const empty = await found({ DATABASE_URL: database.web })
    expect(of(empty, 'migrations')).toEqual([fault(/is empty/, /npm run migrate/)])
    expect(of(empty, 'roles')).toEqual([fault(/web may become no role/, /npm run migrate -- --api-login web/)])
    expect(of(empty, 'row security')).toMatchObject([{ state: 'skipped' }])
    await migratePg(database.owner, migrationsFolder)
    await grantSide(database.owner, 'run', 'worker')
    expect(of(await found({ DATABASE_URL: database.run }, 'control-plane'), 'roles')).toEqual([
      fault(/run may become no role/, /--api-login run/),
    ])
    await grantSide(database.owner, 'web', 'api')
  })

  test('a sound control plane and a sound worker have nothing to repair', async () => {
    const { db, close } = openPg(database.owner, 2)
    for (let n = 0; n < 3; n++) {
      const { tenantId } = await makeTenant(db)
      await withTenant(db, { tenantId, side: 'api' }, (tx) => secretBox(keys).createTenantKey(tx, tenantId))
    }
    await close()
    for (const part of ['control-plane', 'worker', 'self-host'] as const) {
      const findings = await found({ DATABASE_URL: part === 'control-plane' ? database.web : database.run }, part)
      expect(findings.filter(({ state }) => state === 'fail' || state === 'skipped')).toEqual([])
      expect(of(findings, 'platform keys')).toMatchObject([{ says: '1 can be read, and open all 6 stored data keys.' }])
      expect(of(findings, 'roles')).toMatchObject([{ state: 'ok' }])
      expect(of(findings, 'row security')).toMatchObject([{ state: 'ok' }])
      expect(of(findings, 'work')).toEqual([fault(/No worker takes work/, /npm run worker/, 'warn')])
    }
  })

  test('a login that is stronger than it may be is found', async () => {
    expect(of(await found({ DATABASE_URL: database.strong }), 'roles')).toContainEqual(
      fault(/tester is, or may become/, /create role <name> login noinherit/),
    )
    expect(of(await found({ DATABASE_URL: database.owner }), 'roles')).toEqual([
      fault(/house owns the tables/, /a login that owns nothing/, 'warn'),
    ])
    await grantSide(database.owner, 'web', 'worker')
    const both = await found({ DATABASE_URL: database.web })
    await done(database.owner, 'revoke tributary_worker from web')
    expect(of(both, 'roles')).toEqual([fault(/role of either side/, /a login each/, 'warn')])
  })

  test('a table without forced row-level security is found by a login that has no power', async () => {
    await done(database.owner, 'alter table app.run_event no force row level security')
    const findings = await found({ DATABASE_URL: database.web })
    await done(database.owner, 'alter table app.run_event force row level security')
    expect(failed(findings)).toEqual([fault(/app\.run_event has no forced row-level security/, /Stop the processes/)])
  })

  test('what keeps it from the database is told with what to do', async () => {
    const cases: [string, RegExp, RegExp][] = [
      [as(database.web, { port: String(await freePort()) }), /ECONNREFUSED/, /Start the server/],
      [as(database.web, { password: secretCanary('not-of-web') }), /authentication failed/, /user and password/],
      [as(database.web, { pathname: '/nowhere' }), /does not exist/, /create database/],
      [as(database.web, { hostname: 'no-such-host.invalid' }), /ENOTFOUND|EAI_AGAIN/, /Correct the host/],
    ]
    for (const [url, says, todo] of cases) {
      const findings = await found({ DATABASE_URL: url })
      expect(of(findings, 'database')).toEqual([fault(says, todo)])
      expect(failed(findings)).toHaveLength(1)
      expect(JSON.stringify(findings)).not.toContain(secretCanary('not-of-web'))
    }
  })

  test('a clock that is more than two seconds from that of the database is found, in either direction', async () => {
    for (const ms of [-2_600, 2_600]) {
      const clock = { ...systemClock, now: () => new Date(Date.now() + ms) }
      expect(of(await found({ DATABASE_URL: database.web }, undefined, clock), 'clock')).toEqual([
        fault(/2\.[4-6] s apart/, /timedatectl/),
      ])
    }
  })

  test('platform keys that open nothing, or only a part, or cannot be read are found', async () => {
    const other = { current: 'k1', keys: { k1: randomBytes(32).toString('base64') } }
    expect(
      of(await found({ DATABASE_URL: database.run, PLATFORM_KEYS: JSON.stringify(other) }), 'platform keys'),
    ).toEqual([fault(/^6 of 6 stored data keys open with none/, /Add the platform key/)])
    const findings = await found({ DATABASE_URL: database.run, PLATFORM_KEYS: '{}' })
    expect(of(findings, 'platform keys')).toEqual([fault(/cannot be read/, /Set PLATFORM_KEYS/)])
    expect(of(findings, 'environment')).toEqual([fault(/PLATFORM_KEYS: expected/, /\.env\.example/)])
  })

  test('a step that has been waiting for long is found', async () => {
    const { db, close } = openPg(database.owner, 2)
    const { tenantId, pipelineId } = await makeTenant(db)
    await withTenant(db, { tenantId, side: 'api' }, (tx) => startRun(tx, plannedRun(pipelineId, [plannedStep('one')])))
    await close()
    const before = await found({ DATABASE_URL: database.run })
    await done(
      database.owner,
      'set role tributary_ledger',
      "update app.run_step set ready_at = now() - interval '11 minutes' where state = 'ready'",
    )
    expect(of(before, 'work')).toMatchObject([{ state: 'warn' }])
    expect(of(await found({ DATABASE_URL: database.run }), 'work')).toContainEqual(
      fault(/ingest queues has been waiting for 11 minutes/, /Start more workers/),
    )
  })
})

describe.skipIf(leftRedis !== '')(`the doctor with a Redis${leftRedis}`, () => {
  let raw: Client
  let bridge: RedisBridge
  const url = (user: string, password: string): string =>
    'port' in server ? `redis://${user}:${password}@127.0.0.1:${server.port}` : ''
  beforeAll(async () => {
    if ('skipped' in server) return
    raw = new Client(server.url)
    const rights =
      '~tributary:* &tributary:* +@connection +info +get +set +time +eval +evalsha +publish +subscribe +unsubscribe'
    await raw.call('ACL', 'SETUSER', 'good', 'on', '>good-password', ...rights.split(' '))
    await raw.call(
      'ACL',
      'SETUSER',
      'poor',
      'on',
      '>poor-password',
      ...rights.split(' '),
      '-eval',
      '-evalsha',
      '-publish',
    )
    await raw.call(
      'ACL',
      'SETUSER',
      'narrow',
      'on',
      '>narrow-password',
      ...rights.replace('~tributary:*', '~x:*').split(' '),
    )
    bridge = await startRedisBridge(server.url, secretCanary('of-upstash'))
  })
  afterAll(async () => {
    raw.disconnect()
    await bridge[Symbol.asyncDispose]()
  })
  // No database is needed for it, and none is there.
  const at = async (more: Variables): Promise<Diagnosis[]> =>
    of(await found({ DATABASE_URL: `postgres://x:y@127.0.0.1:${await freePort()}/x`, ...more }), 'redis')

  test('the rights that the page for operators lists are enough, and each that is missing is named', async () => {
    expect(await at({ REDIS_URL: url('good', 'good-password') })).toMatchObject([{ state: 'ok' }])
    expect(await at({ REDIS_URL: url('poor', 'poor-password') })).toEqual([
      fault(/EVAL and EVALSHA \(NOPERM\), PUBLISH \(NOPERM\)\.$/, /docs\/self-host\.md lists/),
    ])
    expect(await at({ REDIS_URL: url('narrow', 'narrow-password') })).toEqual([
      fault(/SET \(NOPERM\), GET/, /tributary:\*/),
    ])
    await until('what was written is gone', async () => (await raw.keys('*')).length === 0)
  })

  test('a wrong password and a server that is away are found', async () => {
    expect(await at({ REDIS_URL: url('good', 'wrong-password') })).toEqual([fault(/WRONGPASS/, /user and password/)])
    expect(await at({ REDIS_URL: `redis://127.0.0.1:${await freePort()}` })).toEqual([
      fault(/ECONNREFUSED/, /Start the server/),
    ])
  })

  test('Redis over REST is asked the same', async () => {
    const upstash = { UPSTASH_REDIS_REST_URL: bridge.url, UPSTASH_REDIS_REST_TOKEN: secretCanary('of-upstash') }
    expect(await at(upstash)).toMatchObject([{ state: 'ok' }])
    expect(await at({ ...upstash, UPSTASH_REDIS_REST_TOKEN: 'another-token' })).toEqual([
      fault(/does not answer/, /UPSTASH_REDIS_REST_TOKEN/),
    ])
    bridge.trouble = 'silent'
    expect(await at(upstash)).toEqual([fault(/does not answer/, /UPSTASH_REDIS_REST_URL/)])
    bridge.trouble = undefined
  })
})
