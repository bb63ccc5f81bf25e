import { expect, test } from 'vitest'
import type { Waker } from '../../shared/waking/waker.ts'
import { inProcessWaker } from '../../shared/waking/waker.ts'
import { openPorts } from '../../standalone/ports.ts'
import { world } from '../support/world.ts'

const pipeline = `
pipeline_id: wakes
steps:
  - step_id: one
    ps_type: sql.transform
    query: "SELECT 1 AS n"
    destination: { table: counted, mode: append }
  - step_id: two
    ps_type: sql.transform
    query: "SELECT 2 AS n"
    destination: { table: counted, mode: append }
`

/** The embedded mode with a waker that misbehaves. */
const withWaker =
  (change: (waker: Waker) => Waker): typeof openPorts =>
  async (dataDir, logLevel) => {
    const opened = await openPorts(dataDir, logLevel)
    return { ...opened, ports: { ...opened.ports, waker: change(inProcessWaker()) } }
  }

const behaviours: [string, (waker: Waker) => Waker][] = [
  ['lost', (waker) => ({ ...waker, wake: async () => undefined })],
  [
    'tripled',
    (waker) => ({
      ...waker,
      wake: async (target) => void (await Promise.all([1, 2, 3].map(() => waker.wake(target)))),
    }),
  ],
  [
    'for a queue of nobody',
    (waker) => ({ ...waker, wake: () => waker.wake({ tenantId: 'nobody', queue: 'delivery' }) }),
  ],
]

test.for(behaviours)('runs end once each when every wake-up is %s', async ([, change]) => {
  await using w = await world(withWaker(change))
  const t = await w.tenant('sleepy')
  await t.save('test/wakes/two', pipeline)
  const ids = await Promise.all([1, 2, 3, 4].map(() => t.start('test/wakes/two')))
  const runs = await Promise.all(ids.map((id) => t.ended(id)))
  expect(runs.map((run) => run.state)).toEqual(['SUCCEEDED', 'SUCCEEDED', 'SUCCEEDED', 'SUCCEEDED'])
  expect(await t.rows('SELECT n, count(*) AS times FROM counted GROUP BY n ORDER BY n')).toEqual([
    { n: 1, times: 4 },
    { n: 2, times: 4 },
  ])
})
