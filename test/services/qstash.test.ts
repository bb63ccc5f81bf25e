import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { tickScheduleId } from '../../shared/qstash/ensure-schedules.ts'
import { makeApiKey } from '../../shared/secrets/api-key.ts'
import { startPostgres } from '../support/postgres.ts'
import { type QStashSim, startQStashSim } from '../support/qstash-sim.ts'
import { type HostedProcess, hostedDatabase, runScript, startProcess } from '../support/self-host.ts'
import { onboard, type TestTenant } from '../support/world.ts'

const postgres = await startPostgres()
const left = 'skipped' in postgres ? postgres.skipped : undefined

// Each step leaves a row: one done twice would leave two.
const pipeline = `
pipeline_id: once
variables: { run: "0" }
steps:
  - step_id: first
    ps_type: sql.transform
    query: "SELECT '{run}' AS run, 'first' AS step"
    destination: { table: done, mode: append }
  - step_id: second
    ps_type: sql.transform
    query: "SELECT '{run}' AS run, 'second' AS step"
    destination: { table: done, mode: append }
`
const tenantsMax = 3
const runsEach = 8

describe.skipIf(left !== undefined)(`workers over QStash${left === undefined ? '' : `, left out: ${left}`}`, () => {
  const started: HostedProcess[] = []
  // Addresses as QStash knows them; a balancer stands behind each.
  const wakeUrl = 'http://localhost:9/wake'
  const tickUrl = 'http://localhost:9/tick'
  let sim: QStashSim
  let dataDir: string
  let env: Record<string, string>
  let database: Awaited<ReturnType<typeof hostedDatabase>>
  let workers: HostedProcess[]
  let plane: HostedProcess
  let tenants: TestTenant[]

  beforeAll(async () => {
    sim = await startQStashSim({ seed: 7 })
    dataDir = await mkdtemp(join(tmpdir(), 'qstash-'))
    database = await hostedDatabase('url' in postgres ? postgres.url : '')
    const logins = ['--api-login', 'web', '--worker-login', 'run']
    await runScript('standalone/migrate.ts', logins, { DATABASE_URL: database.owner })
    const platformKey = (await makeApiKey()).token
    env = {
      PLATFORM_KEYS: JSON.stringify({ current: 'k1', keys: { k1: randomBytes(32).toString('base64') } }),
      QSTASH_URL: sim.url,
      QSTASH_TOKEN: sim.token,
      QSTASH_CURRENT_SIGNING_KEY: sim.keys.current,
      QSTASH_NEXT_SIGNING_KEY: sim.keys.next,
      WAKE_URL: wakeUrl,
      TICK_URL: tickUrl,
    }
    plane = startProcess('standalone/control-plane.ts', [], {
      ...env,
      DATABASE_URL: database.web,
      PORT: '0',
      PLATFORM_API_KEY: platformKey,
    })
    workers = [1, 2].map(() =>
      startProcess('workers/main.ts', ['--capacity', '2'], {
        ...env,
        DATABASE_URL: database.run,
        TRIBUTARY_DATA_DIR: dataDir,
        WAKE_PORT: '0',
      }),
    )
    started.push(plane, ...workers)
    await plane.line('control_plane.up')
    for (const worker of workers) await worker.line('worker.up')
    const url = String((await plane.line('control_plane.starting'))['url'])
    const wakes = await Promise.all(workers.map(async (one) => String((await one.line('worker.starting'))['wakes'])))
    let turn = 0
    sim.route = (to) => (to === tickUrl ? `${url}/tick` : (wakes[turn++ % wakes.length] ?? to))
    tenants = []
    for (let n = 0; n < tenantsMax; n++) {
      const tenant = await onboard({ url, platformKey, dataDir }, `woken_${n}`)
      await tenant.save('test/wakes/once', pipeline)
      tenants.push(tenant)
    }
  })
  afterAll(async () => {
    for (const one of started) one.process.kill('SIGKILL')
    await Promise.all(started.map(({ ended }) => ended))
    await sim?.[Symbol.asyncDispose]()
    await rm(dataDir, { recursive: true, force: true })
    if ('stop' in postgres) await postgres.stop()
  })
  const taken = async (worker: HostedProcess, outcome: string): Promise<number> =>
    Number(new RegExp(`wakes_total{outcome="${outcome}"} (\\d+)`).exec((await worker.ask('/metrics')).text)?.[1])

  test('with 26 % of the wake-ups lost and 27 % doubled, all is done, and done once', async () => {
    sim.weather = { drop: 0.26, double: 0.27, jitterMs: 300 }
    const runs = await Promise.all(
      tenants.flatMap((tenant) =>
        Array.from({ length: runsEach }, async (_, n) => ({
          tenant,
          runId: await tenant.start('test/wakes/once', { run: String(n) }),
        })),
      ),
    )
    for (const { tenant, runId } of runs) {
      const run = await tenant.ended(runId)
      expect([run.state, run.steps.map(({ attempt }) => attempt)]).toEqual(['SUCCEEDED', [1, 1]])
    }
    sim.weather = { drop: 0, double: 0, jitterMs: 0 }
    await sim.settled()
    for (const tenant of tenants) {
      expect(await tenant.rows('SELECT count(*) AS n, count(DISTINCT run || step) AS parts FROM done')).toEqual([
        { n: runsEach * 2, parts: runsEach * 2 },
      ])
    }
    expect(sim.counts.dropped).toBeGreaterThan(0)
    expect(sim.counts.doubled).toBeGreaterThan(0)
    expect(new Set(sim.delivered.map(({ status }) => status))).toEqual(new Set([202]))
    for (const worker of workers) expect(await taken(worker, 'taken')).toBeGreaterThan(0)
    for (const worker of workers) expect(await taken(worker, 'refused')).toBe(0)
  })

  test('the command makes the schedule, and what it brings is answered by the control plane', async () => {
    const made = await runScript('standalone/qstash-schedules.ts', [], env)
    expect(made).toMatchObject({ code: 0, stdout: `${tickScheduleId}: created, calls ${tickUrl} every minute\n` })
    expect((await runScript('standalone/qstash-schedules.ts', [], env)).stdout).toContain('unchanged')
    await sim.fire(tickScheduleId)
    await sim.settled()
    expect(sim.delivered.filter(({ url }) => url === tickUrl)).toEqual([expect.objectContaining({ status: 200 })])
  })

  test('a delivery that one worker took is refused by the other', async () => {
    const body = '{"v":1,"tenantId":"woken_0","queue":"ingest"}'
    const signature = await sim.sign(wakeUrl, body)
    const statuses: number[] = []
    for (const worker of workers) {
      const url = String((await worker.line('worker.starting'))['wakes'])
      const answer = await fetch(url, { method: 'POST', body, headers: { 'upstash-signature': signature } })
      statuses.push(answer.status)
    }
    expect(statuses).toEqual([202, 401])
  })

  test('a worker that takes wake-ups ends in good order when it is told to', async () => {
    const [worker] = workers
    worker?.process.kill('SIGTERM')
    expect(await worker?.ended).toBe(0)
  })

  test('neither process starts with QSTASH_DEV, and nothing of QStash is in any log', async () => {
    for (const file of ['standalone/control-plane.ts', 'workers/main.ts']) {
      const dev = { ...env, DATABASE_URL: database.run, TRIBUTARY_DATA_DIR: dataDir, QSTASH_DEV: 'true' }
      const { code, stderr } = await runScript(file, [], { ...dev, NODE_ENV: 'production' })
      expect([code, stderr]).toEqual([1, expect.stringContaining('QSTASH_DEV: refused')])
    }
    const logs = JSON.stringify(started.map(({ logged }) => logged))
    for (const secret of [sim.token, sim.keys.current, sim.keys.next]) expect(logs).not.toContain(secret)
  })
})
