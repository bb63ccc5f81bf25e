import { expect, test } from 'vitest'
import { hostileSftp } from '../support/hostile-sftp.ts'
import { onboard, world } from '../support/world.ts'

const pipeline = `
pipeline_id: orders
steps:
  - step_id: ingest
    ps_type: file.ingest
    source: { path: in/orders.csv }
    destination: { table: orders, mode: versioned, business_key: [id] }
  - step_id: export
    ps_type: file.export
    source: { query: "SELECT id, amount FROM orders ORDER BY id" }
    destination: { path: out/orders.csv, format: csv }
  - step_id: upload
    ps_type: transfer.sftp_upload
    credential: sftp
    source: { paths: [out/orders.csv] }
    destination: { directory: . }
`

test('two tenants with the same table and file names run side by side and never meet', async () => {
  await using w = await world()
  await using north = await hostileSftp()
  await using south = await hostileSftp()
  const a = await onboard(w.house, 'north', north)
  const b = await onboard(w.house, 'south', south)
  await a.put('in/orders.csv', 'id,amount\n1,10\n2,20\n')
  await b.put('in/orders.csv', 'id,amount\n1,900\n')
  await Promise.all([a.save('shop/orders/daily', pipeline), b.save('shop/orders/daily', pipeline)])
  const [runA, runB] = await Promise.all([a.run('shop/orders/daily'), b.run('shop/orders/daily')])
  expect([runA.state, runB.state]).toEqual(['SUCCEEDED', 'SUCCEEDED'])
  expect((await north.content('orders.csv')).toString()).toBe('id,amount\n1,10\n2,20\n')
  expect((await south.content('orders.csv')).toString()).toBe('id,amount\n1,900\n')
  const pids = w.house.worker.pool.pids()
  expect(pids.get('north')).not.toBe(pids.get('south'))
  await expect(a.see(runB.id)).rejects.toThrow('NOT_FOUND')
  expect(await a.rows('SELECT sum(amount) AS total FROM orders')).toEqual([{ total: 30 }])
})
