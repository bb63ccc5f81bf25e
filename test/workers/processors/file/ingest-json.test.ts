import { expect, test } from 'vitest'
import ingest from '../../../../workers/processors/file/ingest.ts'
import { tenant, type Tenant } from '../../../support/step-context.ts'

const load = (t: Tenant, path: string, columns: Record<string, string> = {}) =>
  t.run(ingest, { source: { path, columns }, destination: { table: 'events', mode: 'replace' } })
const types = async (t: Tenant): Promise<Record<string, unknown>> =>
  Object.fromEntries(
    (
      await t.rows(
        `SELECT column_name AS name, data_type AS type FROM duckdb_columns() WHERE table_name = 'events' ORDER BY column_index`,
      )
    ).map((column) => [String(column['name']), column['type']]),
  )

test('every key of any line becomes a column, strings stay text and nested values JSON', async () => {
  await using t = await tenant()
  const lines = [
    { id: 1, zip: '00501', ok: true, tags: ['a', { b: 1 }] },
    { id: 2, amount: 1.5, note: 'says "hi"\nand goes', "it's": null },
    { id: 3, amount: 2, mixed: 'x', ok: null },
    { id: 4, mixed: 5, tags: { k: 'v' } },
  ]
  await t.write('e.ndjson', lines.map((line) => JSON.stringify(line)).join('\n'))
  expect(await load(t, 'e.ndjson')).toMatchObject({ rows: 4, rejected: 0 })
  expect(await types(t)).toEqual({
    id: 'BIGINT',
    zip: 'VARCHAR',
    ok: 'BOOLEAN',
    tags: 'JSON',
    amount: 'DOUBLE',
    note: 'VARCHAR',
    "it's": 'VARCHAR',
    mixed: 'VARCHAR',
  })
  expect(await t.rows(`SELECT * FROM lake.main.events ORDER BY id`)).toMatchObject([
    { id: '1', zip: '00501', ok: true, tags: '["a",{"b":1}]', amount: null },
    { id: '2', note: 'says "hi"\nand goes', amount: 1.5, mixed: null },
    { id: '3', amount: 2, mixed: 'x', ok: null },
    { id: '4', mixed: '5', tags: '{"k":"v"}' },
  ])
})

test('a line that is no object is quarantined under its number, and so is a number that would be cut', async () => {
  await using t = await tenant()
  const lines = [
    '{"id": 1}',
    '',
    '{"id": 2',
    '"text"',
    '{"id": 12345678901234567890.12345}',
    '{"id": 123456789012345678901234567890}',
    '{"id": "1.23456789012345678901234"}',
    '{"id": 3.75}',
  ]
  await t.write('e.ndjson', `${lines.join('\n')}\n`)
  expect(await load(t, 'e.ndjson', { id: 'DECIMAL(38,2)' })).toMatchObject({ rows: 3, rejected: 4 })
  expect(await t.rows(`SELECT line, code FROM lake.raw.x_meta_rejected_rows ORDER BY line`)).toEqual([
    { line: '3', code: 'JSON_INVALID' },
    { line: '4', code: 'JSON_NO_OBJECT' },
    { line: '5', code: 'NUMBER_TOO_LONG' },
    { line: '7', code: 'TYPE' },
  ])
  expect(await t.rows(`SELECT id::VARCHAR AS id FROM lake.main.events ORDER BY 1`)).toEqual([
    { id: '1.00' },
    { id: '123456789012345678901234567890.00' },
    { id: '3.75' },
  ])
})

test('a JSON array loads its elements', async () => {
  await using t = await tenant()
  await t.write('e.json', '[{"id": 1, "x": [1]},\n {"id": 2},\n 7]')
  expect(await load(t, 'e.json')).toMatchObject({ rows: 2, rejected: 1 })
  expect(await t.rows(`SELECT line, raw FROM lake.raw.x_meta_rejected_rows`)).toEqual([{ line: null, raw: '7' }])
})

test.each([
  ['e.json', '[{"id": 1}'],
  ['e.json', 'not json'],
  ['e.json', ''],
  ['e.parquet', 'not parquet'],
  ['e.ndjson', '{"a": 1, "A": 2}\n'],
])('%s that holds %s is refused', async (path, text) => {
  await using t = await tenant()
  await t.write(path, text)
  await expect(load(t, path)).rejects.toMatchObject({ code: 'FILE_INVALID' })
})
