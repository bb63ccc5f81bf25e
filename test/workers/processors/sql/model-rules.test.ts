import { expect, test } from 'vitest'
import ingest from '../../../../workers/processors/file/ingest.ts'
import transform from '../../../../workers/processors/sql/transform.ts'
import { tenant, type Tenant } from '../../../support/step-context.ts'

type How = {
  mode: 'replace' | 'append' | 'merge' | 'view' | 'versioned'
  business_key?: string[]
  partition_by?: string[]
}

const written: readonly (readonly [string, How])[] = [
  ['a replaced table', { mode: 'replace' }],
  ['an appended table', { mode: 'append' }],
  ['a merged table', { mode: 'merge', business_key: ['id'] }],
  ['a table by partition', { mode: 'replace', partition_by: ['day'] }],
  ['a versioned table', { mode: 'versioned', business_key: ['id'] }],
]
const all = [...written, ['a view', { mode: 'view' }]] as const

async function withOrders(): Promise<Tenant> {
  const t = await tenant()
  await t.write('in.csv', 'id,amount,day\n1,10,2026-01-01\n2,20,2026-01-01\n3,30,2026-01-02\n')
  await t.run(ingest, { source: { path: 'in.csv' }, destination: { table: 'orders', mode: 'replace' } })
  return t
}

const model = (
  how: How,
  max: number,
  rule: { action?: 'log' | 'warn' | 'quarantine' | 'block'; severity?: 'error' | 'warning' } = {},
  query = 'SELECT id, amount, day FROM orders',
) => ({
  query,
  destination: { table: 'result', ...how },
  rules: [{ rule: 'range' as const, column: 'amount', max, ...rule }],
})

const factor = (n: number): string => `SELECT id, amount * ${n} AS amount, day FROM orders`

async function amounts(t: Tenant, { mode }: How): Promise<unknown[]> {
  const from = mode === 'versioned' ? 'lake.raw.result_current' : 'lake.main.result'
  const rows = await t.rows(`SELECT amount::INTEGER AS amount FROM ${from} ORDER BY id, amount`)
  return rows.map((row) => row['amount'])
}

const versions = async (t: Tenant, { mode }: How): Promise<unknown[]> =>
  mode === 'versioned'
    ? await t.rows(
        `SELECT composite_key, version::INTEGER AS version, data_hash, is_current FROM lake.raw.result ORDER BY 1, 2`,
      )
    : []

const measured = (t: Tenant) =>
  t.rows(
    `SELECT run_id, status, row_count::INTEGER AS "rows", load_number IS NOT NULL AS loaded
     FROM lake.raw.x_meta_quality_metrics WHERE table_name = 'result' ORDER BY measured_at`,
  )

test.each(all)(
  'rules that block change nothing of %s, and keep the measurement and the failing rows',
  async (_, how) => {
    await using t = await withOrders()
    await t.run(transform, model(how, 50), { runId: 'first' })
    const before = await versions(t, how)
    await expect(t.run(transform, model(how, 50, {}, factor(2)), { runId: 'second' })).rejects.toMatchObject({
      code: 'QUALITY_BLOCKED',
      message: 'Nothing was loaded into result: range amount: 1 of 3.',
    })
    expect(await amounts(t, how)).toEqual([10, 20, 30])
    expect(await versions(t, how)).toEqual(before)
    expect(
      await t.rows(`SELECT run_id FROM lake.raw.x_meta_load_receipts WHERE table_name = 'result' ORDER BY 1`),
    ).toEqual([{ run_id: 'first' }])
    expect(
      await t.rows(
        `SELECT run_id, count(*)::INTEGER AS n FROM lake.raw.x_meta_lineage WHERE target_table = 'result' GROUP BY 1 ORDER BY 1`,
      ),
    ).toEqual([
      { run_id: 'first', n: 4 },
      { run_id: 'second', n: 4 },
    ])
    expect(await measured(t)).toEqual([
      { run_id: 'first', status: 'PASSED', rows: 3, loaded: true },
      { run_id: 'second', status: 'BLOCKED', rows: 3, loaded: false },
    ])
    expect(
      await t.rows(
        `SELECT run_id, table_name, code, status, raw::JSON->>'$.amount' AS amount FROM lake.raw.x_meta_rejected_rows`,
      ),
    ).toEqual([{ run_id: 'second', table_name: 'result', code: 'RULE_RANGE', status: 'flagged', amount: '60' }])
    await t.run(transform, model(how, 500, {}, factor(3)))
    expect(await amounts(t, how)).toEqual(how.mode === 'append' ? [10, 30, 20, 60, 30, 90] : [30, 60, 90])
  },
)

test.each(written)('quarantined rows stay out of %s and the others are written', async (_, how) => {
  await using t = await withOrders()
  const outputs = await t.run(transform, model(how, 25, { action: 'quarantine' }), { runId: 'only' })
  expect(outputs).toMatchObject({ table: 'result', rows: 2, rejected: 1, failed: 1, score: 0.8333 })
  expect(await amounts(t, how)).toEqual([10, 20])
  expect(
    await t.rows(
      `SELECT run_id, table_name, code, status, raw::JSON->>'$.id' AS id FROM lake.raw.x_meta_rejected_rows`,
    ),
  ).toEqual([{ run_id: 'only', table_name: 'result', code: 'RULE_RANGE', status: 'quarantined', id: '3' }])
  expect(await measured(t)).toEqual([{ run_id: 'only', status: 'FAILED', rows: 3, loaded: true }])
})

test('a row that is quarantined takes nothing from what the table has: not its partition, its key or its record', async () => {
  await using t = await withOrders()
  for (const how of [
    { mode: 'merge' as const, business_key: ['id'] },
    { mode: 'replace' as const, partition_by: ['day'] },
    { mode: 'versioned' as const, business_key: ['id'] },
  ]) {
    const destination = { table: `kept_${how.mode}`, ...how }
    const rules = (max: number) => ({
      ...model(how, max, { action: 'quarantine' }, factor(max === 50 ? 1 : 2)),
      destination,
    })
    await t.run(transform, rules(50))
    await t.run(transform, rules(45))
    const from = how.mode === 'versioned' ? 'lake.raw.kept_versioned_current' : `lake.main.${destination.table}`
    expect(await t.rows(`SELECT id::INTEGER AS id, amount::INTEGER AS amount FROM ${from} ORDER BY 1`)).toEqual([
      { id: 1, amount: 20 },
      { id: 2, amount: 40 },
      { id: 3, amount: 30 },
    ])
  }
})

test.each(all)('with warnings all of %s is written, and they are kept beside it', async (_, how) => {
  await using t = await withOrders()
  const outputs = await t.run(transform, model(how, 15, { severity: 'warning' }), { runId: 'only' })
  expect(outputs).toMatchObject({ rejected: 0, failed: 2, quality: { status: 'WARNED', records_with_warnings: 2 } })
  expect(await amounts(t, how)).toEqual([10, 20, 30])
  expect(await t.rows(`SELECT count(*)::INTEGER AS n FROM lake.raw.x_meta_record_quality`)).toEqual([{ n: 2 }])
  expect(await t.rows(`SELECT 1 FROM lake.raw.x_meta_rejected_rows`)).toEqual([])
  expect(t.lines.some((line) => line.includes('range amount'))).toBe(true)
})

test('a score below fail_below blocks what no single rule would', async () => {
  await using t = await withOrders()
  const warned = model({ mode: 'replace' }, 15, { severity: 'warning' })
  await expect(t.run(transform, { ...warned, fail_below: 0.4 })).rejects.toMatchObject({
    code: 'QUALITY_BLOCKED',
    message: 'Nothing was loaded into result: its score is 0.3333, below 0.4: range amount: 2 of 3.',
  })
  expect(await t.rows(`SELECT 1 FROM lake.raw.x_meta_tables WHERE table_name = 'result'`)).toEqual([])
  expect(await t.run(transform, { ...warned, fail_below: 0.3 })).toMatchObject({ rows: 3 })
})

test('a replaced table may be read by its own query and by its own rules', async () => {
  await using t = await withOrders()
  await t.run(transform, model({ mode: 'replace' }, 50))
  const next = (query: string) => ({
    query,
    destination: { table: 'result' },
    rules: [{ rule: 'reference' as const, columns: ['id'], table: 'result' }],
  })
  await t.run(transform, next('SELECT id, amount + 1 AS amount, day FROM result'))
  expect(await amounts(t, { mode: 'replace' })).toEqual([11, 21, 31])
  await expect(t.run(transform, next('SELECT id + 1 AS id, amount FROM result'))).rejects.toMatchObject({
    code: 'QUALITY_BLOCKED',
  })
  expect(await amounts(t, { mode: 'replace' })).toEqual([11, 21, 31])
})

test('a step that is tried again answers from its receipt and measures nothing twice', async () => {
  await using t = await withOrders()
  const step = { runId: 'run_1', stepKey: 'add' }
  const add = model({ mode: 'append' }, 25, { action: 'quarantine' })
  const first = await t.run(transform, add, { ...step, fence: 10n })
  expect(await t.run(transform, add, { ...step, fence: 11n })).toEqual(first)
  expect(await measured(t)).toHaveLength(1)
  expect(await t.rows(`SELECT count(*)::INTEGER AS n FROM lake.raw.x_meta_rejected_rows`)).toEqual([{ n: 1 }])
})

test('a quarantine for rows of a view is refused with its place, before anything is written', async () => {
  await using t = await withOrders()
  const { rules } = model({ mode: 'view' }, 15, { action: 'quarantine' })
  const models = [
    { name: 'fine', query: 'SELECT 1 AS a' },
    { name: 'seen', query: 'SELECT * FROM orders', mode: 'view' as const, rules },
  ]
  await expect(t.run(transform, { models })).rejects.toMatchObject({
    code: 'CONFIG_INVALID',
    place: { path: 'models[1].rules[0].action' },
  })
  await expect(t.run(transform, model({ mode: 'view' }, 15, { action: 'quarantine' }))).rejects.toMatchObject({
    code: 'CONFIG_INVALID',
    place: { path: 'rules[0].action' },
  })
  expect(await t.rows(`SELECT count(*)::INTEGER AS n FROM lake.raw.x_meta_tables`)).toEqual([{ n: 1 }])
})
