import { expect, test } from 'vitest'
import ingest from '../../../../workers/processors/file/ingest.ts'
import transform from '../../../../workers/processors/sql/transform.ts'
import { tenant, type Tenant } from '../../../support/step-context.ts'

async function withOrders(): Promise<Tenant> {
  const t = await tenant()
  await t.write('in.csv', 'id,country,amount,day\n1,DE,10,2026-01-01\n2,FR,20,2026-01-01\n3,DE,30,2026-01-02\n')
  await t.write('countries.csv', 'code,name\nDE,Germany\nFR,France\n')
  await t.run(ingest, { source: { path: 'in.csv' }, destination: { table: 'orders', business_key: ['id'] } })
  await t.run(ingest, { source: { path: 'countries.csv' }, destination: { table: 'countries', mode: 'replace' } })
  return t
}

test('models run in the order in which they read each other, with lookups, aggregates and tests', async () => {
  await using t = await withOrders()
  const outputs = await t.run(transform, {
    models: [
      {
        name: 'sales_by_country',
        query: 'SELECT country_name, sum(amount) AS total FROM named_orders GROUP BY ALL',
        rules: [{ rule: 'unique', columns: ['country_name'] }],
      },
      {
        name: 'named_orders',
        query: 'SELECT o.*, c.name AS country_name FROM orders o LEFT JOIN lake.main.countries c ON c.code = o.country',
        mode: 'view',
        rules: [{ rule: 'not_null', column: 'country_name' }],
      },
    ],
  })
  expect(outputs['models']).toEqual([
    { table: 'named_orders', rows: 0, score: 1, failed: 0, rejected: 0, quality: expect.anything() },
    { table: 'sales_by_country', rows: 2, score: 1, failed: 0, rejected: 0, quality: expect.anything() },
  ])
  expect(
    await t.rows(`SELECT country_name, total::INTEGER AS total FROM lake.main.sales_by_country ORDER BY 1`),
  ).toEqual([
    { country_name: 'France', total: 20 },
    { country_name: 'Germany', total: 40 },
  ])
  expect(await t.rows(`SELECT count(*)::INTEGER AS n FROM lake.main.named_orders`)).toEqual([{ n: 3 }])
})

test('a view takes values and tables of both schemas, and follows its tables', async () => {
  await using t = await withOrders()
  const query = `-- German orders\nWITH d AS (SELECT * FROM orders WHERE country = '{country}') SELECT d.id, v.version, 'é$1' AS x FROM d JOIN raw.orders_current v USING (id);`
  const view = { query, destination: { table: 'german', mode: 'view' as const } }
  await t.run(transform, view, { values: { country: 'DE' } })
  expect(await t.rows(`SELECT id::INTEGER AS id, x FROM lake.main.german ORDER BY 1`)).toEqual([
    { id: 1, x: 'é$1' },
    { id: 3, x: 'é$1' },
  ])
  await t.write('in.csv', 'id,country,amount,day\n1,DE,10,2026-01-01\n')
  await t.run(ingest, { source: { path: 'in.csv' }, destination: { table: 'orders', business_key: ['id'] } })
  expect(await t.rows(`SELECT count(*)::INTEGER AS n FROM lake.main.german`)).toEqual([{ n: 1 }])
  const read = { query: 'SELECT * FROM german', destination: { table: 'copy' } }
  expect(await t.run(transform, read)).toEqual({ table: 'copy', rows: 1 })
  for (const destination of [
    { table: 'german', mode: 'replace' as const },
    { table: 'german', mode: 'versioned' as const, business_key: ['id'] },
    { table: 'copy', mode: 'view' as const },
    { table: 'orders', mode: 'view' as const },
  ])
    await expect(t.run(transform, { query: 'SELECT 1 AS id', destination })).rejects.toMatchObject({
      code: 'SCHEMA_MISMATCH',
    })
})

test('a circle and a name that comes twice are refused with their place, before anything is written', async () => {
  await using t = await withOrders()
  const circle = t.run(transform, {
    models: [
      { name: 'fine', query: 'SELECT 1 AS a' },
      { name: 'a', query: 'SELECT * FROM b' },
      { name: 'b', query: 'SELECT * FROM (SELECT * FROM lake.main.c)' },
      { name: 'c', query: 'WITH x AS (SELECT * FROM a) SELECT * FROM x' },
    ],
  })
  await expect(circle).rejects.toMatchObject({
    code: 'CONFIG_INVALID',
    message: expect.stringContaining('a → b → c → a'),
    place: { path: 'models[1].query' },
  })
  const twice = { models: [1, 2].map((n) => ({ name: 'a', query: `SELECT ${n} AS n` })) }
  await expect(t.run(transform, twice)).rejects.toMatchObject({ place: { path: 'models[1].name' } })
  const late = {
    models: [
      { name: 'a', query: 'SELECT 1 AS n' },
      { name: 'b', query: 'SELECT getenv(1) AS n FROM a' },
    ],
  }
  await expect(t.run(transform, late)).rejects.toMatchObject({
    code: 'SQL_NOT_ALLOWED',
    message: expect.stringMatching(/^b: /),
    place: { path: 'models[1].query' },
  })
  expect(await t.rows(`SELECT count(*)::INTEGER AS n FROM lake.raw.x_meta_tables`)).toEqual([{ n: 2 }])
})

test('a model may read what it was, and the name of a WITH query is no model', async () => {
  await using t = await withOrders()
  const first = { models: [{ name: 'seen', query: 'SELECT id, 1 AS times FROM orders' }] }
  await t.run(transform, first)
  const again = {
    models: [
      { name: 'other', query: 'WITH seen AS (SELECT 5 AS n) SELECT n FROM seen' },
      { name: 'seen', query: 'SELECT id, times + 1 AS times FROM seen' },
    ],
  }
  await t.run(transform, again)
  expect(await t.rows(`SELECT max(times)::INTEGER AS n FROM lake.main.seen`)).toEqual([{ n: 2 }])
  expect(await t.rows(`SELECT n::INTEGER AS n FROM lake.main.other`)).toEqual([{ n: 5 }])
})

test('a versioned model keeps versions: an unchanged result writes none, what is gone gets a tombstone', async () => {
  await using t = await withOrders()
  const model = (query: string, snapshot: 'full' | 'delta' = 'full') => ({
    query,
    destination: { table: 'next', mode: 'versioned' as const, business_key: ['id'], snapshot },
  })
  const all = model('SELECT id, amount FROM orders')
  expect(await t.run(transform, all)).toMatchObject({ inserted: 3, rows: 3 })
  expect(await t.run(transform, all)).toMatchObject({ inserted: 0, updated: 0, deleted: 0, unchanged: 3 })
  const changed = model('SELECT id, amount + (id = 1)::INTEGER AS amount FROM orders WHERE id < 3')
  expect(await t.run(transform, changed)).toMatchObject({ updated: 1, deleted: 1, unchanged: 1 })
  expect(await t.run(transform, model('SELECT id, amount FROM orders WHERE id = 3', 'delta'))).toMatchObject({
    inserted: 1,
    deleted: 0,
  })
  expect(await t.rows(`SELECT count(*)::INTEGER AS n FROM lake.raw.next`)).toEqual([{ n: 6 }])
})

test('a merge puts rows in the place of those with their key; a partition is made anew alone', async () => {
  await using t = await withOrders()
  const merge = (query: string) => ({
    query,
    destination: { table: 'last', mode: 'merge' as const, business_key: ['id'] },
  })
  expect(await t.run(transform, merge('SELECT id, amount FROM orders WHERE id < 3'))).toMatchObject({ inserted: 2 })
  expect(await t.run(transform, merge('SELECT amount * 2 AS amount, id FROM orders WHERE id > 1'))).toMatchObject({
    inserted: 1,
    updated: 1,
  })
  expect(await t.rows(`SELECT id::INTEGER AS id, amount::INTEGER AS amount FROM lake.main.last ORDER BY 1`)).toEqual([
    { id: 1, amount: 10 },
    { id: 2, amount: 40 },
    { id: 3, amount: 60 },
  ])
  for (const query of ['SELECT NULL::BIGINT AS id, amount FROM orders', 'SELECT 1::BIGINT AS id, amount FROM orders'])
    await expect(t.run(transform, merge(query))).rejects.toMatchObject({ code: 'KEY_INVALID' })
  const days = (query: string) => ({
    query,
    destination: { table: 'days', mode: 'replace' as const, partition_by: ['day'] },
  })
  await t.run(transform, days('SELECT day, id FROM orders'))
  await t.run(transform, days("SELECT day, id + 100 AS id FROM orders WHERE day = DATE '2026-01-02'"))
  expect(await t.rows(`SELECT id::INTEGER AS id FROM lake.main.days ORDER BY 1`)).toEqual([
    { id: 1 },
    { id: 2 },
    { id: 103 },
  ])
})

test('a repeat of a step does nothing twice, and goes on where it was interrupted', async () => {
  await using t = await withOrders()
  const step = { runId: 'run_1', stepKey: 'marts' }
  const log = { name: 'log', query: 'SELECT id FROM orders', mode: 'append' as const }
  const broken = { models: [log, { name: 'sums', query: "SELECT error('not yet') AS n FROM log" }] }
  await expect(t.run(transform, broken, { ...step, fence: 10n })).rejects.toMatchObject({ code: 'SQL_INVALID' })
  const whole = { models: [log, { name: 'sums', query: 'SELECT count(*) AS n FROM log' }] }
  for (const fence of [11n, 12n]) expect(await t.run(transform, whole, { ...step, fence })).toMatchObject({ rows: 4 })
  expect(await t.rows(`SELECT n::INTEGER AS n FROM lake.main.sums`)).toEqual([{ n: 3 }])
  await expect(t.run(transform, whole, { ...step, fence: 9n })).rejects.toMatchObject({ code: 'CONFLICT' })
  expect(
    await t.rows(`SELECT count(*)::INTEGER AS n FROM lake.raw.x_meta_lineage WHERE step_key = 'marts/log'`),
  ).toEqual([{ n: 2 }])
})

test('a model whose rules block stops those that follow, and the step goes on there when it is tried again', async () => {
  await using t = await withOrders()
  const step = { runId: 'run_1', stepKey: 'marts' }
  const models = [
    { name: 'before', query: 'SELECT id FROM orders', mode: 'append' as const },
    { name: 'checked', query: 'SELECT * FROM orders', rules: [{ rule: 'range' as const, column: 'amount', max: 15 }] },
    { name: 'after', query: 'SELECT * FROM checked' },
  ]
  await expect(t.run(transform, { models }, { ...step, fence: 10n })).rejects.toMatchObject({
    code: 'QUALITY_BLOCKED',
    message: 'checked: Nothing was loaded into checked: range amount: 2 of 3.',
  })
  expect(await t.rows(`SELECT table_name AS name FROM lake.raw.x_meta_tables ORDER BY 1`)).toEqual([
    { name: 'before' },
    { name: 'countries' },
    { name: 'orders' },
  ])
  const relaxed = models.map((model) => ({ ...model, rules: model.rules?.map((rule) => ({ ...rule, max: 50 })) }))
  expect(await t.run(transform, { models: relaxed }, { ...step, fence: 11n })).toMatchObject({ rows: 9 })
  expect(await t.rows(`SELECT count(*)::INTEGER AS n FROM lake.main.before`)).toEqual([{ n: 3 }])
})

test.each([
  {},
  { query: 'SELECT 1 AS a' },
  { query: 'SELECT 1 AS a', models: [{ name: 'a', query: 'SELECT 1 AS a' }] },
])('a step with neither or both of query and models is refused: %o', async (settings) => {
  await using t = await tenant()
  await expect(t.run(transform, settings)).rejects.toMatchObject({ code: 'CONFIG_INVALID' })
})
