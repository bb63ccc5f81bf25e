import { expect, test } from 'vitest'
import ingest from '../../../workers/processors/file/ingest.ts'
import restore from '../../../workers/processors/lake/restore.ts'
import transform from '../../../workers/processors/sql/transform.ts'
import { type Given, tenant, type Tenant } from '../../support/step-context.ts'

const load = async (t: Tenant, text: string, to: object = {}, given: Given = {}) => {
  await t.write('in.csv', text)
  const destination = { table: 'orders', business_key: ['id'], ...to }
  return await t.run(ingest, { source: { path: 'in.csv' }, destination }, given)
}
const state = (t: Tenant) => t.rows(`SELECT id, n FROM lake.main.orders ORDER BY id`)
const first = 'id,n\n1,10\n2,20\n3,30\n'
const second = 'id,n\n1,11\n3,30\n4,40\n'

test('SQL of a tenant sees a table as it was, and no other function', async () => {
  await using t = await tenant()
  await load(t, first)
  await load(t, second)
  const ask = (query: string) =>
    t
      .run(transform, { query, destination: { table: 'seen', mode: 'replace' } })
      .then(() => t.rows('FROM lake.main.seen'))
  expect(await ask('SELECT sum(n)::INTEGER AS s FROM orders_as_of_load(1)')).toEqual([{ s: 60 }])
  expect(await ask(`SELECT sum(n)::INTEGER AS s FROM orders_as_of(now())`)).toEqual([{ s: 81 }])
  expect(await ask(`SELECT count(*)::INTEGER AS n FROM orders_as_of('2000-01-01')`)).toEqual([{ n: 0 }])
  expect(await ask(`SELECT o.id FROM orders_as_of_load(1) o ANTI JOIN orders USING (id)`)).toEqual([{ id: '2' }])
  await expect(ask('SELECT * FROM nothing_as_of(now())')).rejects.toMatchObject({ code: 'SQL_NOT_ALLOWED' })
  await expect(ask(`SELECT * FROM orders_as_of(getenv('HOME'))`)).rejects.toMatchObject({ code: 'SQL_NOT_ALLOWED' })
})

test('a table goes back to a load and forth again, each as new versions', async () => {
  await using t = await tenant()
  await load(t, first)
  await load(t, second)
  const step = { runId: 'run_back', stepKey: 'back' }
  const back = await t.run(restore, { table: 'orders', load: 1 }, { ...step, fence: 50n })
  expect(back).toMatchObject({ inserted: 1, updated: 1, deleted: 1, unchanged: 1, load: 3 })
  expect(await t.run(restore, { table: 'orders', load: 1 }, { ...step, fence: 51n })).toEqual(back)
  expect(await state(t)).toEqual([
    { id: '1', n: '10' },
    { id: '2', n: '20' },
    { id: '3', n: '30' },
  ])
  expect(await t.run(restore, { table: 'orders', load: 2 })).toMatchObject({ inserted: 1, updated: 1, deleted: 1 })
  expect(
    await t.rows(`SELECT id, max(version) AS v, count(*)::INTEGER AS n FROM lake.raw.orders GROUP BY 1 ORDER BY 1`),
  ).toEqual([
    { id: '1', v: 4, n: 4 },
    { id: '2', v: 4, n: 4 },
    { id: '3', v: 1, n: 1 },
    { id: '4', v: 3, n: 3 },
  ])
})

test('one record goes back and leaves the others alone, whether it changed, went or came', async () => {
  await using t = await tenant()
  await load(t, first)
  await load(t, second)
  const back = (id: number) => t.run(restore, { table: 'orders', load: 1, record: { id } })
  expect(await back(1)).toMatchObject({ updated: 1, inserted: 0, deleted: 0 })
  expect(await back(2)).toMatchObject({ updated: 0, inserted: 1, deleted: 0 })
  expect(await back(4)).toMatchObject({ updated: 0, inserted: 0, deleted: 1 })
  expect(await back(3)).toMatchObject({ updated: 0, inserted: 0, deleted: 0, unchanged: 1 })
  expect(await state(t)).toEqual([
    { id: '1', n: '10' },
    { id: '2', n: '20' },
    { id: '3', n: '30' },
  ])
  await expect(back(9)).rejects.toMatchObject({ code: 'NOT_FOUND' })
  await expect(t.run(restore, { table: 'orders', load: 1, record: { n: 10 } })).rejects.toMatchObject({
    code: 'KEY_INVALID',
  })
})

test.each([
  [{ table: 'orders' }, 'CONFIG_INVALID'],
  [{ table: 'orders', load: 1, at: '2026-01-01T00:00:00Z' }, 'CONFIG_INVALID'],
  [{ table: 'nothing', load: 1 }, 'TABLE_MISSING'],
  [{ table: 'plain', load: 1 }, 'SCHEMA_MISMATCH'],
])('a restore of %o is refused with %s', async (settings, code) => {
  await using t = await tenant()
  await load(t, first)
  await load(t, first, { table: 'plain', mode: 'append', business_key: [] })
  await expect(t.run(restore, settings)).rejects.toMatchObject({ code })
})

const shape = (t: Tenant) =>
  t.rows(`SELECT (SELECT count(*) FROM lake.raw.x_meta_load_receipts)::INTEGER AS receipts, (SELECT count(*) FROM lake.raw.x_meta_rejected_rows)::INTEGER AS rejected,
    (SELECT sum(load_number) FROM lake.raw.x_meta_table_heads)::INTEGER AS head, (SELECT count(*) FROM lake.raw.x_meta_quality_metrics)::INTEGER AS metrics,
    (SELECT string_agg(column_name, ',' ORDER BY column_index) FROM duckdb_columns() WHERE schema_name = 'raw' AND table_name = 'orders') AS columns`)

test('a dry run counts exactly what its plan then does, and writes nothing', async () => {
  await using t = await tenant()
  await load(t, first)
  const [before, rows] = [await shape(t), await t.rows('SELECT * FROM lake.raw.orders ORDER BY ALL')]
  const text = 'id,n,extra\n1,11,x\n3,30,\n4,40,\n4,41,\nnone,5,\n'
  const dry = await load(t, text, { dry_run: true })
  expect(dry).toMatchObject({
    rows_in: 5,
    rejected: 2,
    duplicates: 1,
    inserted: 1,
    updated: 1,
    deleted: 1,
    unchanged: 1,
    load: 0,
    schema_changes: [{ change: 'add', column: 'extra', type: 'VARCHAR', destructive: false }],
  })
  expect([await shape(t), await t.rows('SELECT * FROM lake.raw.orders ORDER BY ALL')]).toEqual([before, rows])
  expect(await load(t, text, { dry_run: true })).toEqual(dry)
  expect(await load(t, text, { plan: dry['plan'] })).toEqual({ ...dry, load: 2 })
})

test.each(['versioned', 'append', 'replace'])(
  'a %s load whose table or source has changed since is refused',
  async (mode) => {
    await using t = await tenant()
    const to = { mode, business_key: mode === 'versioned' ? ['id'] : [] }
    await load(t, first, to)
    const { plan } = await load(t, second, { ...to, dry_run: true })
    const stale = { code: 'CONFLICT', message: expect.stringContaining('stale') }
    // The same counts, another value.
    await expect(load(t, second.replace('11', '12'), { ...to, plan })).rejects.toMatchObject(stale)
    await load(t, first, to)
    const [kept] = await t.rows(`SELECT count(*)::INTEGER AS n, sum(n)::INTEGER AS s FROM lake.main.orders`)
    await expect(load(t, second, { ...to, plan })).rejects.toMatchObject(stale)
    expect(await t.rows(`SELECT count(*)::INTEGER AS n, sum(n)::INTEGER AS s FROM lake.main.orders`)).toEqual([kept])
  },
)

test('a restore can be rehearsed, and a first load too', async () => {
  await using t = await tenant()
  const dry = await load(t, first, { dry_run: true })
  expect(dry).toMatchObject({ inserted: 3, load: 0 })
  expect(await t.rows(`SELECT count(*)::INTEGER AS n FROM lake.raw.x_meta_tables`)).toEqual([{ n: 0 }])
  await load(t, first, { plan: dry['plan'] })
  await load(t, second)
  const plan = await t.run(restore, { table: 'orders', load: 1, dry_run: true })
  expect(await state(t)).toHaveLength(3)
  expect(await t.run(restore, { table: 'orders', load: 1, plan: String(plan['plan']) })).toEqual({ ...plan, load: 3 })
})
