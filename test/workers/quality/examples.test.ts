import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { checkStatement } from '../../../workers/lake/statement.ts'
import ingest from '../../../workers/processors/file/ingest.ts'
import { examplesOf, runExample } from '../../support/examples.ts'
import { tenant } from '../../support/step-context.ts'

const page = readFileSync(join(import.meta.dirname, '../../../docs/quality.md'), 'utf8')

test('the examples of quality run as they stand, and its queries answer', async () => {
  await using t = await tenant()
  await t.write('c.csv', 'code,name\nDE,Germany\nFR,France\n')
  await t.run(ingest, { source: { path: 'c.csv' }, destination: { table: 'countries', mode: 'replace' } })
  await t.write(
    'orders.csv',
    [
      'id,country,amount,status,email,ordered',
      '1,DE,10,open,a@b.example,2026-01-01',
      '2,FR,20,paid,,2026-01-02',
      '3,D,30,open,broken,2026-01-03',
      '4,DE,-40,open,d@b.example,2026-01-03',
      '5,DE,50,paid,e@b.example,2026-01-03',
    ].join('\n'),
  )
  const [load = '', fix = '', tables = ''] = examplesOf(page, 'yaml')
  const [again = '', quarantine = ''] = examplesOf(page, 'sql')
  const loaded = await runExample(t, load)
  expect(loaded).toMatchObject({ orders: { rows: 3, rejected: 2 } })
  using connection = await t.lake.connectForTenant(new AbortController().signal)
  for (const text of [again, quarantine]) await checkStatement(connection, { text, values: [] })
  expect((await connection.rows(quarantine)).map((row) => row['code']).toSorted()).toEqual([
    'RULE_RANGE',
    'RULE_REFERENCE',
  ])
  expect(await runExample(t, fix)).toMatchObject({ fix: { taken: 2, released: 2, still_quarantined: 0 } })
  expect(await runExample(t, tables)).toMatchObject({
    check: { rows: 5, score: 1 },
    profile: { rows: 5 },
    report: { tables: [{ table: 'countries' }, { table: 'orders', trend: { measurements: 3 } }] },
  })
  const scores = await connection.rows(again)
  expect(scores).toHaveLength(3)
  for (const row of scores) expect(Number(row['again'])).toBe(row['score'])
})
