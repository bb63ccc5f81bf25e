import { expect, test } from 'vitest'
import { type TestTenant, world } from '../support/world.ts'

const step = (query: string): string => `
pipeline_id: slow
steps:
  - step_id: slow
    ps_type: sql.transform
    query: ${JSON.stringify(query)}
    destination: { table: slow, mode: replace }
  - step_id: after
    ps_type: sql.transform
    query: "SELECT 1 AS one"
    destination: { table: after, mode: replace }
`

const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

/** Milliseconds that a run of nothing takes: on a machine with much else to do, everything takes longer by a few of that. */
async function lagOf(t: TestTenant): Promise<number> {
  await t.save('test/slow/nothing', step('SELECT 1 AS n'))
  await t.run('test/slow/nothing')
  const from = performance.now()
  await t.run('test/slow/nothing')
  return performance.now() - from
}

test('a cancelled run stops its long query within two seconds and starts nothing after it', async () => {
  await using w = await world()
  const t = await w.tenant('patient')
  await t.save(
    'test/slow/join',
    step('SELECT count(*) AS n FROM range(10000000) a, range(10000000) b WHERE a.range % 7 = b.range % 11'),
  )
  const lag = await lagOf(t)
  const runId = await t.start('test/slow/join')
  await t.event(runId, 'step.started', 'slow')
  const cancelledAt = performance.now()
  await t.cancel(runId)
  const run = await t.ended(runId)
  expect(performance.now() - cancelledAt).toBeLessThan(2_000 + 5 * lag)
  expect(run.state).toBe('CANCELLED')
  expect(run.steps.map((one) => one.state)).toEqual(['CANCELLED', 'CANCELLED'])
  await t.save('test/slow/join', step('SELECT 1 AS n'))
  expect((await t.run('test/slow/join')).state).toBe('SUCCEEDED')
})

test('a query that does not hear the engine stop is killed with its process, which is gone within two seconds', async () => {
  await using w = await world()
  const t = await w.tenant('deaf')
  // One call of one function over long texts: DuckDB looks for an interrupt only between calls.
  await t.save('test/slow/deaf', step("SELECT levenshtein(repeat('a', 150000), repeat('b', 150000)) AS n"))
  const lag = await lagOf(t)
  const runId = await t.start('test/slow/deaf')
  await t.event(runId, 'step.started', 'slow')
  await expect.poll(() => w.house.worker.pool.pids().get('deaf')).toBeDefined()
  const pid = w.house.worker.pool.pids().get('deaf') ?? 0
  expect(isAlive(pid)).toBe(true)
  const cancelledAt = performance.now()
  await t.cancel(runId)
  await expect.poll(() => isAlive(pid), { timeout: 15_000, interval: 20 }).toBe(false)
  expect(performance.now() - cancelledAt).toBeLessThan(2_000 + 5 * lag)
  expect((await t.ended(runId)).state).toBe('CANCELLED')
  await t.save('test/slow/deaf', step('SELECT 1 AS n'))
  expect((await t.run('test/slow/deaf')).state).toBe('SUCCEEDED')
})
