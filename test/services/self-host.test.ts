import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { readZip } from '../../workers/delivery/zip.ts'
import { type Loose, until } from '../support/control-plane.ts'
import { hostileSftp, type TestSftp } from '../support/hostile-sftp.ts'
import { startPostgres } from '../support/postgres.ts'
import {
  type HostedDatabase,
  hostedDatabase,
  type HostedProcess,
  runScript,
  startProcess,
} from '../support/self-host.ts'
import { onboard, type OpenTenant, type SeenRun } from '../support/world.ts'

const postgres = await startPostgres()
const left = 'skipped' in postgres ? postgres.skipped : undefined

// The summary takes seconds, so that what happens meets it running.
const pipeline = `
pipeline_id: orders
variables: { table: orders }
steps:
  - step_id: ingest
    ps_type: file.ingest
    source: { path: in/orders.csv, columns: { id: BIGINT, city: VARCHAR, amount: BIGINT } }
    destination: { table: "{table}", mode: versioned, business_key: [id] }
  - step_id: summary
    ps_type: sql.transform
    query: >-
      SELECT city, count(*) AS n, sum(amount) AS total,
        (SELECT count(*) FROM range(30000) a, range(12000) b WHERE hash(a.range, b.range) % 7 = 0) AS ballast
      FROM {table} GROUP BY city
    destination: { table: "{table}_summary", mode: append }
  - step_id: export
    ps_type: file.export
    source: { query: "SELECT id, city, amount FROM {table} ORDER BY id" }
    destination: { path: "out/{table}.csv", format: csv }
  - step_id: zip
    ps_type: file.compress
    source: { paths: ["out/{table}.csv"] }
    destination: { path: "out/{table}.zip", delete_source: true }
  - step_id: upload
    ps_type: transfer.sftp_upload
    credential: sftp
    source: { paths: ["{steps.zip.path}"] }
    destination: { directory: . }
`
const rows = 5_000
const csv = `id,city,amount\n${Array.from({ length: rows }, (_, n) => `${n},city ${n % 7},${n % 100}`).join('\n')}\n`

describe.skipIf(left !== undefined)(`the self-hosted mode${left === undefined ? '' : `, left out: ${left}`}`, () => {
  const keys = JSON.stringify({ current: 'k1', keys: { k1: randomBytes(32).toString('base64') } })
  const started: HostedProcess[] = []
  let database: HostedDatabase
  let dataDir: string
  let far: TestSftp
  let plane: HostedProcess
  let workers: HostedProcess[]
  let tenant: OpenTenant

  const startWorker = (): HostedProcess => {
    const worker = startProcess('workers/main.ts', ['--capacity', '2'], {
      DATABASE_URL: database.run,
      PLATFORM_KEYS: keys,
      TRIBUTARY_DATA_DIR: dataDir,
      ALLOW_PRIVATE_NETWORK: 'true',
      STOP_GRACE: '1s',
    })
    started.push(worker)
    return worker
  }
  const isReady = async (one: HostedProcess): Promise<boolean> => (await one.ask('/readyz')).status === 200
  const figure = async (one: HostedProcess, name: string): Promise<number> =>
    Number(new RegExp(`^tributary_${name} (\\S+)$`, 'm').exec((await one.ask('/metrics')).text)?.[1])
  // The worker that has a step, and the others.
  async function busyOne(): Promise<[HostedProcess, ...HostedProcess[]]> {
    let found: HostedProcess | undefined
    await until('a worker has the step', async () => {
      const busy = await Promise.all(workers.map((one) => figure(one, 'worker_running')))
      found = workers[busy.indexOf(1)]
      return found !== undefined
    })
    if (!found) throw new Error('no worker has the step')
    return [found, ...workers.filter((one) => one !== found)]
  }
  /** Starts the pipeline into a table of its own and waits until its summary runs. */
  async function runningSummary(table: string): Promise<string> {
    const runId = await tenant.start('shop/orders/daily', { table })
    await tenant.event(runId, 'step.started', 'summary')
    return runId
  }
  /** What is the same whatever happened: the end, tries, rows, one summary per city, the delivered file and the events. */
  async function outcome(runId: string, table: string): Promise<object> {
    const run: SeenRun = await tenant.ended(runId)
    const seqs: number[] = []
    for await (const data of tenant.client.subscribe('subscription ($id: ID!) { runEvents(runId: $id) { seq } }', {
      id: runId,
    }))
      seqs.push((data['runEvents'] as Loose).seq)
    const [counted] = await tenant.rows(
      `SELECT count(*) AS n, sum(amount) AS total, (SELECT count(*) FROM raw.${table}) AS versions,
         (SELECT count(*) FROM ${table}_summary) AS summaries FROM ${table}`,
    )
    const entries = await readZip(join(far.root, `${table}.zip`), AbortSignal.timeout(30_000))
    return {
      state: run.state,
      error: run.error,
      attempts: run.steps.map(({ attempt }) => attempt),
      counted,
      delivered: entries.map(({ bytes, crc32 }) => ({ bytes, crc32 })),
      parts: (await far.names()).filter((name) => name.includes('.part')),
      isGapless: seqs.every((seq, index) => seq === index + 1),
    }
  }
  async function tries(runId: string, stepKey: string): Promise<number> {
    const { run }: Loose = await tenant.client.request(
      'query ($id: ID!) { run(id: $id) { events(first: 100) { nodes { type stepKey } } } }',
      { id: runId },
    )
    return run.events.nodes.filter((event: Loose) => event.type === 'step.started' && event.stepKey === stepKey).length
  }
  let wanted: object

  beforeAll(async () => {
    database = await hostedDatabase('url' in postgres ? postgres.url : '')
    dataDir = await mkdtemp(join(tmpdir(), 'self-host-'))
    far = await hostileSftp()
  })
  afterAll(async () => {
    for (const one of started) one.process.kill('SIGKILL')
    await Promise.all(started.map(({ ended }) => ended))
    await far?.[Symbol.asyncDispose]()
    await rm(dataDir, { recursive: true, force: true })
    if ('stop' in postgres) await postgres.stop()
  })

  test('processes that start before the database is migrated wait, say so once, and are ready afterwards', async () => {
    plane = startProcess('standalone/control-plane.ts', [], {
      DATABASE_URL: database.web,
      PLATFORM_KEYS: keys,
      PORT: '0',
    })
    started.push(plane)
    workers = [startWorker(), startWorker()]
    const all = [plane, ...workers]
    for (const one of all) {
      expect(await one.line('database.waiting')).toMatchObject({ why: 'The database is empty.' })
      expect((await one.ask('/healthz')).status).toBe(200)
      expect(await isReady(one)).toBe(false)
    }
    const url = String((await plane.line('control_plane.starting'))['url'])
    const early = await fetch(`${url}/graphql`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: '{}',
    })
    expect(early.status).toBe(503)

    const refused = await runScript('standalone/migrate.ts', ['--api-login', 'nobody_here'], {
      DATABASE_URL: database.owner,
    })
    expect(refused).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('NOT_FOUND: There is no login nobody_here.'),
    })
    const logins = ['--api-login', 'web', '--worker-login', 'run']
    const migrated = await runScript('standalone/migrate.ts', logins, { DATABASE_URL: database.owner })
    expect(migrated).toMatchObject({ code: 0, stderr: '' })
    await plane.line('control_plane.up')
    for (const worker of workers) await worker.line('worker.up')
    await until('all are ready', async () => (await Promise.all(all.map(isReady))).every(Boolean))
    for (const one of all) {
      const whys = one.logged.filter(({ msg }) => msg === 'database.waiting').map(({ why }) => why)
      expect(whys).toEqual([...new Set(whys)])
      expect(one.logged.filter(({ level }) => level >= 50)).toEqual([])
    }
  })

  test('a login that row-level security does not hold is refused, with what to do', async () => {
    const env = {
      DATABASE_URL: database.strong,
      PLATFORM_KEYS: keys,
      TRIBUTARY_DATA_DIR: dataDir,
      HEALTH_PORT: '0',
      PORT: '0',
    }
    for (const file of ['workers/main.ts', 'standalone/control-plane.ts']) {
      const { code, stderr } = await runScript(file, [], env)
      expect(code).toBe(1)
      expect(stderr).toContain('FORBIDDEN: The login tester is, or may become, a superuser')
      expect(stderr).toContain('create role <name> login noinherit')
      expect(stderr).not.toContain(new URL(database.strong).password)
    }
  })

  test('the platform gets its key once, and with it a tenant whose first run is delivered', async () => {
    const env = { DATABASE_URL: database.web, PLATFORM_KEYS: keys }
    const made = await runScript('standalone/platform-key.ts', [], env)
    expect(made.stdout).toMatch(/^key_[0-9a-f]{32}\.[0-9a-f]{64}\n$/)
    expect(await runScript('standalone/platform-key.ts', [], env)).toMatchObject({ code: 1, stdout: '' })
    const url = String((await plane.line('control_plane.up'))['url'])
    tenant = await onboard({ url, platformKey: made.stdout.trim(), dataDir }, 'hosted_1', far)
    await tenant.put('in/orders.csv', csv)
    await tenant.save('shop/orders/daily', pipeline)
    wanted = await outcome(await tenant.start('shop/orders/daily', { table: 'calm' }), 'calm')
    expect(wanted).toMatchObject({
      state: 'SUCCEEDED',
      error: null,
      attempts: [1, 1, 1, 1, 1],
      counted: { n: rows, versions: rows, summaries: 7 },
      delivered: [{ bytes: expect.anything() }],
      parts: [],
      isGapless: true,
    })
  })

  test('a worker that is told to stop gives its step back after its grace, exits 0, and another ends it', async () => {
    const runId = await runningSummary('stopped')
    const [busy, other] = await busyOne()
    busy.process.kill('SIGTERM')
    await busy.line('worker.stopping')
    expect(await isReady(busy).catch(() => false)).toBe(false)
    expect(await busy.ended).toBe(0)
    await tenant.event(runId, 'step.released', 'summary')
    expect(await outcome(runId, 'stopped')).toEqual(wanted)
    expect(await tries(runId, 'summary')).toBe(2)
    expect(await figure(other ?? busy, 'worker_claims_total')).toBeGreaterThan(0)
    workers = [...workers.filter((one) => one !== busy), startWorker()]
    await until('the new one is ready', () => isReady(workers.at(-1) ?? busy).catch(() => false))
  })

  test('a worker that is killed loses its lease, and another does its step again, once in effect', async () => {
    const runId = await runningSummary('killed')
    const [busy] = await busyOne()
    busy.process.kill('SIGKILL')
    await busy.ended
    workers = workers.filter((one) => one !== busy)
    expect(await outcome(runId, 'killed')).toEqual(wanted)
    expect(await tries(runId, 'summary')).toBe(2)
    workers = [...workers, startWorker()]
    await until('the new one is ready', () => isReady(workers.at(-1) ?? busy).catch(() => false))
  })

  test('while no hint arrives runs go on all the same', async () => {
    const client = new pg.Client({ connectionString: 'url' in postgres ? postgres.url : '' })
    await client.connect()
    const deaf = new AbortController()
    let cut = 0
    // Whoever listens is cut off as soon as it does.
    const cutting = (async () => {
      while (!deaf.signal.aborted) {
        const { rowCount } = await client.query(
          "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'tributary signals'",
        )
        cut += rowCount ?? 0
        await new Promise((resolve) => setTimeout(resolve, 5))
      }
    })()
    try {
      const runId = await tenant.start('shop/orders/daily', { table: 'unheard' })
      expect((await tenant.ended(runId)).state).toBe('SUCCEEDED')
    } finally {
      deaf.abort()
      await cutting
      await client.end()
    }
    expect(cut).toBeGreaterThan(3)
    await until('all listen again', async () => {
      const heard = [figure(plane, 'control_plane_listening'), ...workers.map((one) => figure(one, 'worker_listening'))]
      return (await Promise.all(heard)).every((one) => one === 1)
    })
  })

  test('a database that goes down in the middle costs no step its work, no stream an event and no process its life', async () => {
    const runId = await runningSummary('restarted')
    const seqs: number[] = []
    const watching = (async () => {
      for await (const data of tenant.client.subscribe('subscription ($id: ID!) { runEvents(runId: $id) { seq } }', {
        id: runId,
      }))
        seqs.push((data['runEvents'] as Loose).seq)
    })()
    await until('the stream has begun', () => seqs.length > 0)
    const all = [plane, ...workers]
    let alive: number[] = []
    if ('restart' in postgres)
      await postgres.restart(async () => {
        await until('nobody is ready', async () => !(await Promise.all(all.map(isReady))).some(Boolean))
        await until('a heartbeat failed', async () => {
          const failed = workers.map((one) => figure(one, 'worker_heartbeats_failed_total'))
          return (await Promise.all(failed)).some((one) => one > 0)
        })
        alive = (await Promise.all(all.map((one) => one.ask('/healthz')))).map(({ status }) => status)
      })
    expect(alive).toEqual(all.map(() => 200))
    await until('all are ready again', async () => (await Promise.all(all.map(isReady))).every(Boolean))
    await watching
    expect(seqs).toEqual(seqs.map((_, index) => index + 1))
    expect(await outcome(runId, 'restarted')).toEqual(wanted)
    expect(await tries(runId, 'summary')).toBe(1)
    for (const one of all) expect(one.process.exitCode).toBe(null)
  })

  test('a second signal ends a worker at once', async () => {
    await runningSummary('twice')
    const [busy] = await busyOne()
    busy.process.kill('SIGTERM')
    await busy.line('worker.stopping')
    busy.process.kill('SIGTERM')
    expect(await busy.ended).toBe(1)
    workers = workers.filter((one) => one !== busy)
  })

  test('a control plane that is told to stop ends its streams whole and exits 0', async () => {
    const runId = await tenant.start('shop/orders/daily', { table: 'left' })
    const { url } = await plane.line('control_plane.up')
    const stream = await fetch(`${String(url)}/graphql`, {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        accept: 'text/event-stream',
        authorization: `Bearer ${tenant.token}`,
      },
      body: JSON.stringify({
        query: 'subscription ($id: ID!) { runEvents(runId: $id) { seq } }',
        variables: { id: runId },
      }),
    })
    let frames = ''
    // Fails when the connection is cut before the body is whole.
    const reading = (async () => {
      for await (const text of (stream.body ?? new ReadableStream()).pipeThrough(new TextDecoderStream()))
        frames += text
    })()
    await until('an event came', () => /^event: next$/m.test(frames))
    expect(await figure(plane, 'control_plane_streams')).toBe(1)
    plane.process.kill('SIGTERM')
    await reading
    expect(await plane.ended).toBe(0)
  })
})
