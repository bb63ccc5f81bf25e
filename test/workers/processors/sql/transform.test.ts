import { expect, test } from 'vitest'
import ingest from '../../../../workers/processors/file/ingest.ts'
import transform from '../../../../workers/processors/sql/transform.ts'
import { tenant, type Tenant } from '../../../support/step-context.ts'

async function withOrders(): Promise<Tenant> {
  const t = await tenant()
  await t.write('in.csv', 'id,country,amount\n1,DE,10\n2,FR,20\n3,DE,30\n')
  await t.run(ingest, { source: { path: 'in.csv' }, destination: { table: 'orders', business_key: ['id'] } })
  return t
}

test('a query becomes a table, with its values bound and read by the next query', async () => {
  await using t = await withOrders()
  const sums = {
    query: "SELECT country, sum(amount) AS total FROM orders WHERE country <> '{not}' GROUP BY ALL",
    destination: { table: 'sums' },
  }
  expect(await t.run(transform, sums, { values: { not: "F'R" } })).toEqual({ table: 'sums', rows: 2 })
  expect(await t.run(transform, sums, { values: { not: 'FR' } })).toEqual({ table: 'sums', rows: 1 })
  const more = { query: 'SELECT country, total * 2 AS total FROM sums', destination: { table: 'sums' } }
  expect(await t.run(transform, more)).toEqual({ table: 'sums', rows: 1 })
  expect(await t.rows(`SELECT country, total::INTEGER AS total FROM lake.main.sums`)).toEqual([
    { country: 'DE', total: 80 },
  ])
})

test('a value may be a column of the result', async () => {
  await using t = await withOrders()
  const dated = { query: "SELECT '{day}' AS day, id FROM orders WHERE id < 3", destination: { table: 'dated' } }
  expect(await t.run(transform, dated, { values: { day: '2024-11-01' } })).toEqual({ table: 'dated', rows: 2 })
  expect(await t.rows(`SELECT DISTINCT day FROM lake.main.dated`)).toEqual([{ day: '2024-11-01' }])
})

test('append adds rows of the same columns once per step, however often it is tried', async () => {
  await using t = await withOrders()
  const add = { query: 'SELECT id, country FROM orders', destination: { table: 'log', mode: 'append' as const } }
  const step = { runId: 'run_1', stepKey: 'add' }
  expect(await t.run(transform, add, { ...step, fence: 10n })).toMatchObject({ rows: 3 })
  expect(await t.run(transform, add, { ...step, fence: 11n })).toMatchObject({ rows: 3 })
  expect(await t.run(transform, add)).toMatchObject({ rows: 3 })
  expect(await t.rows(`SELECT count(*)::INTEGER AS n FROM lake.main.log`)).toEqual([{ n: 6 }])
  await expect(t.run(transform, { ...add, query: 'SELECT id FROM orders' })).rejects.toMatchObject({
    code: 'SCHEMA_MISMATCH',
  })
})

test.each([
  ['SELECT 1 AS id', 'orders', 'SCHEMA_MISMATCH'],
  ['SELECT id FROM nowhere', 'x', 'TABLE_MISSING'],
  ['SELECT CAST(country AS INTEGER) AS id FROM orders', 'x', 'SQL_INVALID'],
  ["SELECT content AS c FROM read_text('/etc/hostname')", 'x', 'SQL_NOT_ALLOWED'],
])('%s into %s is refused with %s and leaves nothing', async (query, table, code) => {
  await using t = await withOrders()
  await expect(t.run(transform, { query, destination: { table } })).rejects.toMatchObject({ code })
  expect(await t.rows(`SELECT count(*)::INTEGER AS n FROM lake.raw.x_meta_tables`)).toEqual([{ n: 1 }])
})
