import { hash } from 'node:crypto'
import { mkdir, mkdtemp, readdir, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { readZip } from '../../workers/delivery/zip.ts'
import { leave } from '../support/keep.ts'
import { hostileSftp, type TestSftp } from '../support/hostile-sftp.ts'
import { onboard, openTenant, spawnHouse } from '../support/world.ts'

const steps = ['fetch', 'ingest', 'check', 'summary', 'export', 'zip', 'upload']

const pipeline = `
pipeline_id: orders
variables: { table: orders }
steps:
  - step_id: fetch
    ps_type: transfer.sftp_download
    credential: sftp
    source: { path: "drop/{table}.csv" }
    destination: { directory: in }
    settle: 1ms
    after: delete
  - step_id: ingest
    ps_type: file.ingest
    source: { path: "{steps.fetch.path}", columns: { id: BIGINT, city: VARCHAR, amount: BIGINT, note: VARCHAR } }
    destination: { table: "{table}", mode: versioned, business_key: [id] }
  - step_id: check
    ps_type: quality.check
    table: "{table}"
    rules:
      - { rule: required, columns: [id, amount] }
      - { rule: range, column: amount, min: 0, max: 900 }
    fail_below: 0.1
  - step_id: summary
    ps_type: sql.transform
    query: "SELECT city, count(*) AS n, sum(amount) AS total FROM {table} GROUP BY city ORDER BY city"
    destination: { table: "{table}_summary", mode: replace }
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

const rowCount = 150_000
const csv = [
  'id,city,amount,note',
  ...Array.from({ length: rowCount }, (_, i) => `${i},city ${i % 97},${(i * 7919) % 1000},${'x'.repeat(i % 60)}`),
  'bad,city 1,not a number,a row that does not fit',
  '',
].join('\n')

test('a process killed in each step of a pipeline finishes after a restart with the rows and the file of an undisturbed run', async () => {
  const dataDir = await mkdtemp(join(tmpdir(), 'kill-'))
  await using far = await hostileSftp()
  let house = await spawnHouse(dataDir)
  try {
    const first = await onboard(house, 'victim', far)
    const { token } = first
    await mkdir(join(far.root, 'drop'))
    await writeFile(join(far.root, 'drop/calm.csv'), csv)
    await first.save('shop/orders/daily', pipeline)
    const calm = await first.run('shop/orders/daily', { table: 'calm' })
    expect({ state: calm.state, error: calm.error }).toEqual({ state: 'SUCCEEDED', error: null })
    const wanted = await outcome(first, far, 'calm')
    expect(wanted.rows).toMatchObject([{ n: rowCount, versions: rowCount }])

    for (const step of steps) {
      const tenant = openTenant(house, 'victim', token)
      const table = `killed_${step}`
      await writeFile(join(far.root, `drop/${table}.csv`), csv)
      const runId = await tenant.start('shop/orders/daily', { table })
      await tenant.event(runId, 'step.started', step)
      await house.kill()
      house = await spawnHouse(dataDir)
      const after = openTenant(house, 'victim', token)
      const run = await after.ended(runId)
      expect({ step, state: run.state, error: run.error }).toEqual({ step, state: 'SUCCEEDED', error: null })
      expect({ step, ...(await outcome(after, far, table)) }).toEqual({ step, ...wanted })
    }
  } finally {
    await house.kill()
    await leave(dataDir)
  }
}, 300_000)

/** What must be the same: rows and versions of the table, the quarantine of its load, and the bytes inside the delivered archive. */
async function outcome(tenant: Awaited<ReturnType<typeof onboard>>, far: TestSftp, table: string) {
  const rows = await tenant.rows(
    `SELECT count(*) AS n, sum(amount) AS total, (SELECT count(*) FROM raw.${table}) AS versions,
       (SELECT count(*) FROM ${table}_summary) AS cities,
       (SELECT count(*) FROM x_meta_rejected_rows WHERE table_name = '${table}' AND step_key = 'ingest') AS rejected
     FROM ${table}`,
  )
  const names = await far.names()
  return {
    rows,
    inside: await readZip(join(far.root, `${table}.zip`), AbortSignal.timeout(30_000)).then((entries) =>
      entries.map(({ bytes, crc32 }) => ({ bytes, crc32 })),
    ),
    fetched: hash('sha256', await tenant.read(`in/${table}.csv`)),
    dropped: await readdir(join(far.root, 'drop')),
    parts: names.filter((name) => name.includes('.part')),
  }
}
