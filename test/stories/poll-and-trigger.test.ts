import { expect, test } from 'vitest'
import { hostileSftp } from '../support/hostile-sftp.ts'
import { onboard, world } from '../support/world.ts'

const load = `
pipeline_id: orders_load
parameters: { file: { type: string } }
triggers:
  - { on: file, path: "in/orders_*.csv", every: 1s, settle: 1s }
steps:
  - step_id: ingest
    ps_type: file.ingest
    source: { path: "{file}" }
    destination: { table: orders, mode: versioned, business_key: [id], snapshot: delta }
`
const exportFile = `
pipeline_id: orders_export
parameters: { source: { type: string } }
triggers:
  - { on: pipeline, pipeline: shop/orders/load, parameters: { source: "{upstream.parameters.file}" } }
steps:
  - step_id: export
    ps_type: file.export
    source: { query: "SELECT id, amount FROM orders ORDER BY id" }
    destination: { path: out/orders.csv, format: csv }
`
const upload = `
pipeline_id: orders_upload
triggers:
  - { on: pipeline, pipeline: shop/orders/export }
steps:
  - step_id: upload
    ps_type: transfer.sftp_upload
    credential: sftp
    source: { paths: [out/orders.csv] }
    destination: { directory: . }
`

type Seen = { id: string; pipelinePath: string; state: string; trigger: string; startedAt: string; finishedAt: string }

test('a file that arrives is loaded, then exported, then delivered: each once, and none before the one it needs has ended', async () => {
  await using w = await world()
  await using partner = await hostileSftp()
  const tenant = await onboard(w.house, 'shop', partner)
  await tenant.save('shop/orders/load', load)
  await tenant.save('shop/orders/export', exportFile)
  await tenant.save('shop/orders/upload', upload)
  const runs = async (): Promise<Seen[]> => {
    const data = await tenant.client.request(
      '{ runs(first: 100) { nodes { id pipelinePath state trigger startedAt finishedAt } } }',
    )
    // Newest first, as the list has it.
    return (data as { runs: { nodes: Seen[] } }).runs.nodes
      .filter(({ pipelinePath }) => pipelinePath.startsWith('shop/'))
      .toReversed()
  }
  const uploaded = async (count: number): Promise<Seen[]> => {
    for (;;) {
      const seen = await runs()
      const [failed] = seen.filter(({ state }) => state === 'FAILED')
      if (failed) throw new Error(JSON.stringify(await tenant.see(failed.id)))
      const done = seen.filter(
        ({ pipelinePath, state }) => pipelinePath === 'shop/orders/upload' && state === 'SUCCEEDED',
      )
      if (done.length >= count) return seen
      await w.house.ports.clock.sleep(100)
    }
  }

  await tenant.put('in/orders_1.csv', 'id,amount\n1,10\n2,20\n')
  const first = await uploaded(1)
  expect(first.map(({ pipelinePath, trigger }) => `${pipelinePath} ${trigger}`)).toEqual([
    'shop/orders/load file',
    'shop/orders/export pipeline',
    'shop/orders/upload pipeline',
  ])
  const times = first.flatMap(({ startedAt, finishedAt }) => [startedAt, finishedAt])
  expect(times).toEqual(times.toSorted())
  expect((await partner.content('orders.csv')).toString()).toBe('id,amount\n1,10\n2,20\n')

  // The house has looked and polled many times meanwhile: only the second file is news.
  await tenant.put('in/orders_2.csv', 'id,amount\n3,30\n')
  const second = await uploaded(2)
  expect(second).toHaveLength(6)
  expect((await partner.content('orders.csv')).toString()).toBe('id,amount\n1,10\n2,20\n3,30\n')
  expect(await tenant.read('in/orders_1.csv')).toContain('1,10')
})
