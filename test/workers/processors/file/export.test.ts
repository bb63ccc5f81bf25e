import { createHash } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import exportFiles from '../../../../workers/processors/file/export.ts'
import ingest from '../../../../workers/processors/file/ingest.ts'
import { tenant, type Tenant } from '../../../support/step-context.ts'

const csv = 'id,name,paid\n1,"a ""q""\nline",19.5\n2,,20\n3,"",0.25\n'

async function withOrders(t: Tenant, text = csv): Promise<void> {
  await t.write('in.csv', text)
  await t.run(ingest, {
    source: { path: 'in.csv' },
    destination: { table: 'orders', mode: 'versioned', business_key: ['id'] },
  })
}
const read = (t: Tenant, path: string): Promise<string> => readFile(join(t.root, path), 'utf8')

test('a query lands in a file whose size and hash are told, with NULL and the empty text apart', async () => {
  await using t = await tenant()
  await withOrders(t)
  const outputs = await t.run(
    exportFiles,
    {
      source: { query: "SELECT id, name FROM orders WHERE id < '{below}' ORDER BY id; -- all of them" },
      destination: { path: 'out/a.csv' },
    },
    { values: { below: '4' } },
  )
  const text = await read(t, 'out/a.csv')
  expect(text).toBe('id,"name"\n1,"a ""q""\nline"\n2,\n3,""\n'.replace('"name"', 'name'))
  const sha256 = createHash('sha256').update(text).digest('hex')
  const file = { path: 'out/a.csv', rows: 3, bytes: text.length, sha256 }
  expect(outputs).toEqual({ path: 'out/a.csv', rows: 3, bytes: text.length, files: [file] })
})

test('parts hold split_rows rows each, and a shorter export leaves none of a longer one', async () => {
  await using t = await tenant()
  await t.write('in.csv', ['id', ...Array.from({ length: 25 }, (_, i) => i + 1)].join('\n'))
  await t.run(ingest, { source: { path: 'in.csv' }, destination: { table: 'n', mode: 'replace' } })
  const to = { path: 'out/n.csv', split_rows: 10 }
  const outputs = await t.run(exportFiles, { source: { query: 'SELECT id FROM n ORDER BY id DESC' }, destination: to })
  expect(outputs).toMatchObject({ rows: 25, path: 'out/n-????.csv' })
  expect(await read(t, 'out/n-0003.csv')).toBe('id\n5\n4\n3\n2\n1\n')
  await t.write('out/n.csv.part-1', 'of a dead attempt')
  await t.write('out/n-0001.csv.part-1', 'of a dead attempt')
  await t.write('out/n-other.csv', 'not ours')
  await t.run(exportFiles, { source: { query: 'SELECT id FROM n WHERE id > 20' }, destination: to })
  expect((await readdir(join(t.root, 'out'))).sort()).toEqual(['n-0001.csv', 'n-other.csv'])
})

test('a delta holds what the run inserted, updated and deleted', async () => {
  await using t = await tenant()
  await withOrders(t, 'id,n\n1,1\n2,2\n3,3\n')
  await t.write('in.csv', 'id,n\n1,1\n2,22\n4,4\n')
  const run = { runId: 'run_delta', stepKey: 'ingest' }
  await t.run(
    ingest,
    { source: { path: 'in.csv' }, destination: { table: 'orders', business_key: ['id'] } },
    { ...run, fence: 50n },
  )
  const outputs = await t.run(
    exportFiles,
    { source: { changes: { table: 'orders' } }, destination: { path: 'delta.csv' } },
    { ...run, stepKey: 'export', fence: 51n },
  )
  expect(outputs).toMatchObject({ rows: 3 })
  expect((await read(t, 'delta.csv')).trim().split('\n').sort()).toEqual([
    'DELETE,3,3',
    'INSERT,4,4',
    'UPDATE,2,22',
    'change_type,id,n',
  ])
})

test.each(['ndjson', 'json', 'parquet'] as const)('%s comes back as it went out', async (format) => {
  await using t = await tenant()
  await withOrders(t)
  await t.run(exportFiles, { source: { table: 'orders' }, destination: { path: `o.${format}`, format } })
  await t.run(ingest, { source: { path: `o.${format}` }, destination: { table: 'again', mode: 'replace' } })
  expect(await t.rows('SELECT * FROM lake.main.again ORDER BY id')).toEqual(
    await t.rows('SELECT * FROM lake.main.orders ORDER BY id'),
  )
})
