import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import ingest from '../../../workers/processors/file/ingest.ts'
import { checkStatement } from '../../../workers/lake/statement.ts'
import { examplesOf, runExample } from '../../support/examples.ts'
import { tenant, type Tenant } from '../../support/step-context.ts'

const page = (name: string): string => readFileSync(join(import.meta.dirname, '../../../docs', name), 'utf8')
const examples = (name: string, language: string): string[] => examplesOf(page(name), language)

async function withTables(): Promise<Tenant> {
  const t = await tenant()
  await t.write('o.csv', 'id,country,amount,day\n1,DE,10,2026-01-01\n2,FR,20,2026-01-02\n3,DE,30,2026-01-02\n')
  await t.write('c.csv', 'code,name\nDE,Germany\nFR,France\n')
  await t.write('e.csv', 'id,seen\n1,2020-01-01\n2,2999-01-01\n')
  await t.run(ingest, { source: { path: 'o.csv' }, destination: { table: 'orders', business_key: ['id'] } })
  await t.run(ingest, { source: { path: 'c.csv' }, destination: { table: 'countries', mode: 'replace' } })
  await t.run(ingest, { source: { path: 'e.csv' }, destination: { table: 'events', mode: 'append' } })
  return t
}

test('the examples of transforms run as they stand, and its queries answer', async () => {
  await using t = await withTables()
  const done = []
  for (const example of examples('transforms.md', 'yaml')) done.push(await runExample(t, example))
  expect(done).toMatchObject([
    { totals: { rows: 2 } },
    {
      marts: {
        models: [
          { table: 'named_orders', score: 1 },
          { table: 'sales_by_country', inserted: 2, score: 1 },
        ],
      },
    },
  ])
  using connection = await t.lake.connectForTenant(new AbortController().signal)
  const [lineage = '', runs = ''] = examples('transforms.md', 'sql')
  for (const text of [lineage, runs]) await checkStatement(connection, { text, values: [] })
  const rows = await connection.rows(lineage)
  expect(rows.map((row) => `${row['target_table']}.${row['target_column']}`).sort()).toEqual([
    'named_orders.amount',
    'totals.total',
  ])
})

test('the examples of retention run as they stand', async () => {
  await using t = await withTables()
  const [policies = '', tags = '', validation = ''] = examples('retention.md', 'yaml')
  expect(await runExample(t, policies)).toMatchObject({
    ten: { deleted: 0 },
    events: { deleted: 1 },
    personal: { deleted: 0 },
  })
  expect(await runExample(t, tags)).toMatchObject({
    hold: { classification: 'personal', legal_hold: 'case 17' },
    lift: { legal_hold: null },
  })
  expect(await runExample(t, validation)).toEqual({ sound: { findings: [], found: 0 } })
})
