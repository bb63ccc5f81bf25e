import { mkdir, readdir, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { sql } from 'drizzle-orm'
import { expect, test } from 'vitest'
import { keepTriggers } from '../../workers/keep-triggers.ts'
import { tamper } from '../support/database.ts'
import { hostileSftp } from '../support/hostile-sftp.ts'
import { onboard, world } from '../support/world.ts'

const daily = `
pipeline_id: orders_daily
parameters: { file: { type: string } }
triggers:
  - { on: file, path: "drop/orders_*.csv", credential: sftp, every: 10s, settle: 1s }
steps:
  - step_id: fetch
    ps_type: transfer.sftp_download
    credential: sftp
    source: { path: "{file}" }
    destination: { directory: in }
    after: { move_to: drop/done }
  - step_id: ingest
    ps_type: file.ingest
    source: { path: "{steps.fetch.path}" }
    destination: { table: orders, mode: versioned, business_key: [id], snapshot: delta }
  - step_id: check
    ps_type: quality.check
    table: orders
    rules: [{ rule: required, columns: [id, amount] }]
    fail_below: 1
  - step_id: export
    ps_type: file.export
    source: { query: "SELECT id, amount FROM orders ORDER BY id" }
    destination: { path: out/orders.csv }
`

type Seen = { id: string; pipelinePath: string; state: string; trigger: string }

test('a file that a partner drops on its server is fetched, loaded, checked and exported once, however many look', async () => {
  await using w = await world()
  await using partner = await hostileSftp()
  const { ports, dataDir } = w.house
  const tenant = await onboard(w.house, 'shop', partner)
  await mkdir(join(partner.root, 'drop'))
  await tenant.save('shop/orders/daily', daily)
  const stop = new AbortController()
  // The house ticks, too: each look of the one meets a look of the other.
  const second = keepTriggers(ports, { dataDir, allowPrivateNetwork: true, everyMs: 20 }, stop.signal)
  // As partners do who do it right: under another name first.
  const drop = async (name: string, content: string): Promise<void> => {
    await writeFile(join(partner.root, `drop/.${name}`), content)
    await rename(join(partner.root, `drop/.${name}`), join(partner.root, `drop/${name}`))
  }
  const runs = async (): Promise<Seen[]> => {
    const data = await tenant.client.request('{ runs(first: 100) { nodes { id pipelinePath state trigger } } }')
    return (data as { runs: { nodes: Seen[] } }).runs.nodes.filter(
      ({ pipelinePath }) => pipelinePath === 'shop/orders/daily',
    )
  }
  const ended = async (count: number): Promise<Seen[]> => {
    for (;;) {
      const seen = await runs()
      const failed = seen.find(({ state }) => state === 'FAILED')
      if (failed) throw new Error(JSON.stringify(await tenant.see(failed.id)))
      if (seen.filter(({ state }) => state === 'SUCCEEDED').length >= count) return seen
      // Its turn is always: both look again and again.
      await tamper(ports.db, sql`update app.pipeline_trigger set next_look_at = now() where tenant_id = 'shop'`)
      await ports.clock.sleep(100)
    }
  }

  try {
    await drop('orders_1.csv', 'id,amount\n1,10\n2,20\n')
    const [first] = await ended(1)
    expect(first).toMatchObject({ trigger: 'file' })
    const { steps } = await tenant.see(first?.id ?? '')
    expect(steps.map(({ key, attempt }) => `${key} ${attempt}`)).toEqual(['fetch 1', 'ingest 1', 'check 1', 'export 1'])
    expect(steps[0]?.outputs).toMatchObject({ path: 'in/orders_1.csv', bytes: 20 })
    expect(await tenant.read('out/orders.csv')).toBe('id,amount\n1,10\n2,20\n')
    expect((await readdir(join(partner.root, 'drop'), { recursive: true })).sort()).toEqual([
      'done',
      'done/orders_1.csv',
    ])

    // Both have looked many times meanwhile: only the second file is news.
    await drop('orders_2.csv', 'id,amount\n3,30\n')
    expect(await ended(2)).toHaveLength(2)
    expect(await tenant.read('out/orders.csv')).toBe('id,amount\n1,10\n2,20\n3,30\n')
    expect(await tenant.rows('SELECT count(*) AS n FROM raw.orders')).toEqual([{ n: 3 }])
    expect(await runs()).toHaveLength(2)
  } finally {
    stop.abort()
    await second
  }
})
