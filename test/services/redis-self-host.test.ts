import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Redis as Client } from 'ioredis'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { makeApiKey } from '../../shared/secrets/api-key.ts'
import { secretCanary } from '../support/canary.ts'
import { until } from '../support/control-plane.ts'
import { startPostgres } from '../support/postgres.ts'
import { startRedis } from '../support/redis.ts'
import { type HostedProcess, hostedDatabase, runScript, startProcess } from '../support/self-host.ts'
import { type House, onboard } from '../support/world.ts'

const [postgres, server] = [await startPostgres(), await startRedis()]
const missing = [postgres, server].flatMap((one) => ('skipped' in one ? one.skipped : []))
const left = missing.length > 0 ? `, left out: ${missing.join(', ')}` : ''
const password = secretCanary('of-redis')

// The rights that the page for operators says are enough.
const [, rights = ''] =
  /needs no more than `([^`]+)`/.exec(readFileSync(new URL('../../docs/self-host.md', import.meta.url), 'utf8')) ?? []

describe.skipIf(left !== '')(`the self-hosted mode with a Redis${left}`, () => {
  const started: HostedProcess[] = []
  let planes: HostedProcess[] = []
  let raw: Client
  let dataDir: string
  let token: string
  let house: House
  beforeAll(async () => {
    if ('skipped' in postgres || 'skipped' in server) return
    raw = new Client(server.url).on('error', () => undefined)
    await allow()
    dataDir = await mkdtemp(join(tmpdir(), 'self-host-redis-'))
    const database = await hostedDatabase(postgres.url)
    const logins = ['--api-login', 'web', '--worker-login', 'run']
    await runScript('standalone/migrate.ts', logins, { DATABASE_URL: database.owner })
    const platformKey = (await makeApiKey()).token
    const shared = {
      PLATFORM_KEYS: JSON.stringify({ current: 'k1', keys: { k1: randomBytes(32).toString('base64') } }),
      REDIS_URL: `redis://tributary:${password}@127.0.0.1:${server.port}`,
    }
    const plane = { ...shared, DATABASE_URL: database.web, PORT: '0', PLATFORM_API_KEY: platformKey }
    planes = [1, 2].map(() => startProcess('standalone/control-plane.ts', [], plane))
    const worker = startProcess('workers/main.ts', [], {
      ...shared,
      DATABASE_URL: database.run,
      TRIBUTARY_DATA_DIR: dataDir,
    })
    started.push(...planes, worker)
    for (const one of planes) await one.line('control_plane.up')
    await worker.line('worker.up')
    house = { url: await urlOf(planes[0]), platformKey, dataDir }
  })
  afterAll(async () => {
    for (const one of started) one.process.kill('SIGKILL')
    await Promise.all(started.map(({ ended }) => ended))
    raw.disconnect()
    await rm(dataDir, { recursive: true, force: true })
    if ('stop' in server) await server.stop()
    if ('stop' in postgres) await postgres.stop()
  })
  const allow = async (): Promise<void> =>
    void (await raw.call('ACL', 'SETUSER', 'tributary', 'on', `>${password}`, ...rights.split(' ')))
  const urlOf = async (plane: HostedProcess | undefined): Promise<string> =>
    String((await plane?.line('control_plane.starting'))?.['url'])
  const isUp = async (one: HostedProcess): Promise<string | undefined> =>
    /^tributary_redis_up (\d)$/m.exec((await one.ask('/metrics')).text)?.[1]
  const ask = async (plane: HostedProcess): Promise<Response> =>
    fetch(`${await urlOf(plane)}/graphql`, {
      method: 'POST',
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
      body: JSON.stringify({ query: '{ viewer { tenantId } }' }),
    })

  test('what control planes and workers say of a run goes over the channel of its tenant', async () => {
    const heard = new Map<string, Set<string>>()
    const spy = raw.duplicate().on('pmessage', (_, channel: string, text: string) => {
      heard.set(channel, (heard.get(channel) ?? new Set()).add(text.split(' ')[0] ?? ''))
    })
    await spy.psubscribe('*')
    token = (await onboard(house, 'acme')).token
    // Whoever started the run and whoever did its steps said so, on the channel of the tenant and on no other.
    await until('both were heard', () => (heard.get('tributary:look:acme')?.size ?? 0) >= 2)
    expect([...heard.keys()]).toEqual(['tributary:look:acme'])
    spy.disconnect()
  })

  test('all control planes count in the same buckets, and the rights in the docs are enough', async () => {
    for (const one of started) expect(await isUp(one)).toBe('1')
    for (const plane of planes) expect((await ask(plane)).headers.get('x-ratelimit-limit')).not.toBeNull()
    expect(
      (await raw.keys('tributary:{acme}:*')).map((name) => name.split(':').slice(2, 4).join(' ')).toSorted(),
    ).toEqual(['limit key', 'limit tenant'])
    expect(started.flatMap(({ logged }) => logged).filter(({ level }) => level >= 40)).toEqual([])
  })

  test('a bucket takes some two hundred bytes', async () => {
    const [name = ''] = await raw.keys('tributary:{acme}:limit:key:*')
    expect(await raw.memory('USAGE', name)).toBeLessThan(300)
  })

  test('when Redis goes, requests pass without limits and say so; when it comes back all find it by themselves', async () => {
    if ('skipped' in server) return
    await server.restart(async () => {
      for (const plane of planes) {
        await until('it has seen that', async () => (await isUp(plane)) === '0')
        const answer = await ask(plane)
        expect([answer.status, answer.headers.get('x-ratelimit-limit')]).toEqual([200, null])
        expect((await plane.ask('/readyz')).status).toBe(200)
        expect(await plane.line('rate_limit.open')).toMatchObject({ level: 40 })
      }
    })
    await until('the server answers', async () => (await raw.ping().catch(() => '')) === 'PONG')
    await allow()
    await until('all are connected', async () => (await Promise.all(started.map(isUp))).every((up) => up === '1'))
    await until('it counts again', async () => (await ask(planes[0] as HostedProcess)).headers.has('x-ratelimit-limit'))
    expect(JSON.stringify(started.map(({ logged }) => logged))).not.toContain(password)
  })

  test('a Redis on another host is refused without TLS, unless it is allowed', async () => {
    const env = {
      DATABASE_URL: 'postgres://a@127.0.0.1:1/a',
      PLATFORM_KEYS: keys,
      REDIS_URL: `redis://a:${password}@redis.example`,
    }
    for (const file of ['standalone/control-plane.ts', 'workers/main.ts']) {
      const { code, stderr } = await runScript(file, [], env)
      expect([code, stderr]).toEqual([1, expect.stringContaining('ALLOW_PLAIN_REDIS: a Redis on another host')])
      expect(stderr).not.toContain(password)
    }
  })
})

const keys = JSON.stringify({ current: 'k1', keys: { k1: btoa('0123456789abcdef0123456789abcdef') } })
