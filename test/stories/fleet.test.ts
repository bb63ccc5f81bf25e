import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { graphqlClient } from '../../standalone/client.ts'
import { startWorker, type Worker } from '../../workers/worker.ts'
import { leave } from '../support/keep.ts'
import type { Loose } from '../support/control-plane.ts'
import { until } from '../support/control-plane.ts'
import { type TestTenant, world } from '../support/world.ts'

const quick = `
pipeline_id: quick
steps:
  - step_id: work
    ps_type: sql.transform
    query: "SELECT 1 AS n"
    destination: { table: worked, mode: append }
`
// Seconds of work, so that a stop meets it running.
const long = quick.replace(
  'SELECT 1 AS n',
  'SELECT count(*) AS n FROM range(30000) a, range(12000) b WHERE hash(a.range, b.range) % 7 = 0',
)
const rows = 'SELECT count(*) AS loads FROM worked'

const control = async (t: Pick<TestTenant, 'client'>, input: object): Promise<Loose> => {
  const { controlWorkers }: Loose = await t.client.request(
    'mutation ($input: ControlWorkersInput!) { controlWorkers(input: $input) { queues { type state running } errors { code message } } }',
    { input },
  )
  return controlWorkers
}
const status = async (t: Pick<TestTenant, 'client'>, type = 'TRANSFORM'): Promise<Loose> => {
  const { queues }: Loose = await t.client.request(
    '{ queues { nodes { name type state queued running workers { count } lastErrors { code } } } }',
  )
  return queues.nodes.find((queue: Loose) => queue.type === type)
}

test('queues come with onboarding, workers find them, and a tenant controls its own and nobody else’s', async () => {
  // The worker has been running since before there was any tenant.
  await using w = await world()
  const a = await w.tenant('tenant_1')
  const b = await w.tenant('tenant_2')
  expect(await status(a)).toEqual({
    name: 'transform_queue_tenant_tenant_1',
    type: 'TRANSFORM',
    state: 'RUNNING',
    queued: 0,
    running: 0,
    workers: { count: 1 },
    lastErrors: [],
  })
  for (const t of [a, b]) await t.save('x/y/quick', quick)

  expect((await control(a, { action: 'STOP' })).queues).toHaveLength(4)
  const waiting = await a.start('x/y/quick')
  expect((await b.run('x/y/quick')).state).toBe('SUCCEEDED')
  expect((await a.see(waiting)).state).toBe('QUEUED')
  expect(await status(a)).toMatchObject({ state: 'STOPPED', queued: 1 })
  expect(await status(b)).toMatchObject({ state: 'RUNNING', queued: 0 })

  for (const tenantId of ['tenant_2', 'tenant_3'])
    await expect(control(a, { action: 'STOP', tenantId })).rejects.toThrow(
      'FORBIDDEN: This key has no say over queues of other tenants.',
    )
  expect(await status(b)).toMatchObject({ state: 'RUNNING' })

  await control(a, { action: 'START' })
  expect((await a.ended(waiting)).state).toBe('SUCCEEDED')
  expect(await a.rows(rows)).toEqual([{ loads: 1 }])

  const platform = { client: graphqlClient(w.house.url, w.house.platformKey) }
  await control(platform, { action: 'STOP', all: true })
  const both = [await a.start('x/y/quick'), await b.start('x/y/quick')]
  expect([await status(a), await status(b)]).toMatchObject([{ state: 'STOPPED' }, { state: 'STOPPED' }])
  await control(platform, { action: 'START', all: true })
  const ended = [await a.ended(both[0] ?? ''), await b.ended(both[1] ?? '')]
  expect(ended.map(({ state }) => state)).toEqual(['SUCCEEDED', 'SUCCEEDED'])
})

test('a stop lets the running step end; by force, and at a restart, it goes back and runs again, and lands once', async () => {
  await using w = await world()
  const t = await w.tenant('patient')
  await t.save('x/y/long', long)
  const started = async (): Promise<string> => {
    const id = await t.start('x/y/long')
    await t.event(id, 'step.started', 'work')
    return id
  }

  const drained = await started()
  expect((await control(t, { action: 'STOP', queues: ['TRANSFORM'] })).queues).toMatchObject([{ state: 'DRAINING' }])
  expect(await t.ended(drained)).toMatchObject({ state: 'SUCCEEDED', steps: [{ attempt: 1 }] })
  expect(await status(t)).toMatchObject({ state: 'STOPPED', running: 0 })

  await control(t, { action: 'START' })
  const forced = await started()
  await control(t, { action: 'STOP', force: true })
  await t.event(forced, 'step.released', 'work')
  expect(await status(t)).toMatchObject({ state: 'STOPPED', queued: 1, running: 0 })
  await control(t, { action: 'START' })
  expect(await t.ended(forced)).toMatchObject({ state: 'SUCCEEDED', steps: [{ attempt: 1 }] })

  const restarted = await started()
  await control(t, { action: 'RESTART' })
  await t.event(restarted, 'step.released', 'work')
  expect(await t.ended(restarted)).toMatchObject({ state: 'SUCCEEDED', steps: [{ attempt: 1 }] })
  expect(await status(t)).toMatchObject({ state: 'RUNNING', lastErrors: [] })
  expect(await t.rows(rows)).toEqual([{ loads: 3 }])
})

test('a worker of one tenant and one queue takes nothing else, is seen while it works, and not after it left', async () => {
  await using w = await world()
  const [mine, other] = [await w.tenant('mine_1'), await w.tenant('other_1')]
  for (const t of [mine, other]) await t.save('x/y/quick', quick)
  await w.house.worker.stop(0)
  await until('the shared worker has left', async () => (await status(mine)).workers.count === 0)

  const dataDir = await mkdtemp(join(tmpdir(), 'own-worker-'))
  const options = { dataDir, allowPrivateNetwork: true, tenants: ['mine_1'], queues: ['transform'] as const }
  let own: Worker | undefined = startWorker(w.house.ports, options)
  try {
    const [left, taken] = [await other.start('x/y/quick'), await mine.start('x/y/quick')]
    expect((await mine.ended(taken)).state).toBe('SUCCEEDED')
    expect((await other.see(left)).state).toBe('QUEUED')
    expect(await status(mine)).toMatchObject({ workers: { count: 1 } })
    expect(await status(mine, 'EXPORT')).toMatchObject({ workers: { count: 0 } })
    expect(await status(other)).toMatchObject({ queued: 1, workers: { count: 0 } })
    await own.stop(0)
    own = undefined
    expect(await status(mine)).toMatchObject({ workers: { count: 0 } })
  } finally {
    await own?.stop(0)
    await leave(dataDir)
  }
})
