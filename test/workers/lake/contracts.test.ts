import { expect, test } from 'vitest'
import ingest from '../../../workers/processors/file/ingest.ts'
import { tenant, type Tenant } from '../../support/step-context.ts'
import { proveSchemaChanges } from '../../lake/schema-changes.ts'

const load = async (t: Tenant, text: string, to: object = {}, columns: Record<string, string> = {}) => {
  await t.write('in.csv', text)
  return await t.run(ingest, {
    source: { path: 'in.csv', columns },
    destination: { table: 'orders', business_key: ['id'], snapshot: 'delta', ...to },
  })
}
const types = async (t: Tenant): Promise<Record<string, unknown>> =>
  Object.fromEntries(
    (
      await t.rows(
        `SELECT column_name AS name, data_type AS type FROM duckdb_columns()
         WHERE database_name = 'lake' AND schema_name = 'main' AND table_name = 'orders' ORDER BY column_index`,
      )
    ).map((column) => [String(column['name']), column['type']]),
  )
const quarantined = (t: Tenant) =>
  t.rows(`SELECT line, column_name AS c, code, raw FROM lake.raw.x_meta_rejected_rows ORDER BY line, c`)
const rows = (t: Tenant, columns: string) => t.rows(`SELECT ${columns} FROM lake.main.orders ORDER BY id`)

test.each([
  ['1', '3.75', 'DECIMAL(21,2)', ['1.00', '3.75']],
  ['9007199254740993', '0.1', 'DECIMAL(20,1)', ['9007199254740993.0', '0.1']],
  ['1', '123456789012345678901', 'HUGEINT', ['1', '123456789012345678901']],
  ['1', 'one', 'VARCHAR', ['1', 'one']],
  ['1', '007', 'BIGINT', ['1', '7']],
  ['1.5', '0.12345678901234567890', 'VARCHAR', ['1.5', '0.12345678901234567890']],
  ['2026-01-01', '2026-01-01T10:00:00', 'TIMESTAMP', ['2026-01-01 00:00:00', '2026-01-01 10:00:00']],
  ['2026-01-01', '31.12.2026', 'VARCHAR', ['2026-01-01', '31.12.2026']],
  ['true', 'maybe', 'VARCHAR', ['true', 'maybe']],
])(
  'evolve: a column of %s that gets %s becomes %s, and the row of before gets no version',
  async (a, b, type, texts) => {
    await using t = await tenant()
    await load(t, `id,v\n1,${a}\n`)
    expect(await load(t, `id,v\n1,${a}\n2,${b}\n`, { contract: 'evolve' })).toMatchObject({
      inserted: 1,
      updated: 0,
      unchanged: 1,
      rejected: 0,
    })
    expect((await types(t))['v']).toBe(type)
    expect((await rows(t, 'v::VARCHAR AS v')).map((row) => row['v'])).toEqual(texts)
  },
)

test('freeze refuses a new column, a missing one and a value of another type, and writes nothing', async () => {
  await using t = await tenant()
  await load(t, 'id,n\n1,1\n')
  for (const text of ['id,n,x\n2,2,\n', 'id\n2\n', 'id,n\n2,2\n3,many\n'])
    await expect(load(t, text, { contract: 'freeze' })).rejects.toMatchObject({ code: 'SCHEMA_MISMATCH' })
  expect(await rows(t, 'id, n')).toEqual([{ id: '1', n: '1' }])
})

test('discard_row quarantines what does not fit, with its line, and takes the rest', async () => {
  await using t = await tenant()
  await load(t, 'id,n\n1,1\n')
  const outputs = await load(t, 'id,n,x\n2,2,\n3,3,new\n4,many,\n', { contract: 'discard_row' })
  expect(outputs).toMatchObject({ inserted: 1, rejected: 2, schema_changes: [] })
  expect(await quarantined(t)).toMatchObject([
    { line: '3', c: 'x', code: 'NEW_COLUMN' },
    { line: '4', c: 'n', code: 'TYPE' },
  ])
})

test('discard_value takes the row without the value, and keeps the value beside', async () => {
  await using t = await tenant()
  await load(t, 'id,n\n1,1\n')
  const outputs = await load(t, 'id,n,x\n2,2,\n3,3.75,new\n4,many,\n', { contract: 'discard_value' })
  expect(outputs).toMatchObject({ inserted: 3, rejected: 0, discarded_values: 3 })
  expect(await rows(t, 'id, n')).toEqual([
    { id: '1', n: '1' },
    { id: '2', n: '2' },
    { id: '3', n: null },
    { id: '4', n: null },
  ])
  expect(await quarantined(t)).toEqual([
    { line: '3', c: 'n', code: 'VALUE_DISCARDED', raw: '3.75' },
    { line: '3', c: 'x', code: 'NEW_COLUMN', raw: 'new' },
    { line: '4', c: 'n', code: 'VALUE_DISCARDED', raw: 'many' },
  ])
})

test('a contract holds column by column', async () => {
  await using t = await tenant()
  await load(t, 'id,n,m\n1,1,1\n')
  const contract = { new_columns: 'discard_value', types: 'evolve', columns: { m: 'freeze', wanted: 'evolve' } }
  expect(await load(t, 'id,n,m,wanted,other\n2,many,2,w,o\n', { contract })).toMatchObject({
    inserted: 1,
    discarded_values: 1,
    schema_changes: [
      { change: 'widen', column: 'n', from: 'BIGINT', to: 'VARCHAR' },
      { change: 'add', column: 'wanted', type: 'VARCHAR' },
    ],
  })
  await expect(load(t, 'id,n,m,wanted\n3,x,many,w\n', { contract })).rejects.toMatchObject({ code: 'SCHEMA_MISMATCH' })
})

test('a renamed column keeps its history, also where it is part of the key', async () => {
  await using t = await tenant()
  await load(t, 'id,n\n1,1\n2,2\n')
  const to = { business_key: ['no'], rename_columns: { id: 'no', n: 'amount' }, snapshot: 'full' }
  const outputs = await load(t, 'amount,no\n1,1\n3,2\n', to)
  expect(outputs).toMatchObject({ inserted: 0, updated: 1, deleted: 0, unchanged: 1 })
  expect(await load(t, 'amount,no\n1,1\n3,2\n', to)).toMatchObject({ unchanged: 2, schema_changes: [] })
  expect(await t.rows(`SELECT no, amount, version FROM lake.raw.orders ORDER BY no, version`)).toEqual([
    { no: '1', amount: '1', version: 1 },
    { no: '2', amount: '2', version: 1 },
    { no: '2', amount: '3', version: 2 },
  ])
  expect(await t.rows(`SELECT amount FROM lake.main.orders_as_of_load(1) ORDER BY 1`)).toEqual([
    { amount: '1' },
    { amount: '2' },
  ])
})

test('what takes values away is done only with the plan that says how many', async () => {
  await using t = await tenant()
  await load(t, 'id,n,old\n1,1.5,a\n2,2,\n')
  const to = { contract: { missing_columns: 'drop' } }
  const text = 'id,n\n1,1\n2,2\n'
  await expect(load(t, text, to)).rejects.toMatchObject({ code: 'SCHEMA_MISMATCH', message: /approved plan/ })
  await expect(load(t, 'id,n,old\n3,3,\n', {}, { n: 'BIGINT' })).rejects.toMatchObject({ message: /approved plan/ })
  const dry = await t.write('in.csv', text).then(() => load(t, text, { ...to, dry_run: true }, { n: 'BIGINT' }))
  expect(dry).toMatchObject({
    schema_changes: [
      { change: 'drop', column: 'old', from: 'VARCHAR', lost: 1, destructive: true },
      { change: 'narrow', column: 'n', from: 'DOUBLE', to: 'BIGINT', lost: 1, destructive: true },
    ],
  })
  expect(await types(t)).toEqual({ id: 'BIGINT', n: 'DOUBLE', old: 'VARCHAR' })
  expect(await load(t, text, { ...to, plan: dry['plan'] }, { n: 'BIGINT' })).toMatchObject({ updated: 1, unchanged: 1 })
  expect(await types(t)).toEqual({ id: 'BIGINT', n: 'BIGINT' })
  expect(
    await t.rows(
      `SELECT load_number AS load, changes->>'$[0].change' AS c, json_array_length(columns)::INTEGER > 2 AS all FROM lake.raw.x_meta_schema_changes`,
    ),
  ).toEqual([{ load: '2', c: 'drop', all: true }])
})

test('schema files of the organisation give types, the most specific one wins, and what may not be empty is held', async () => {
  await using t = await tenant()
  await t.write('user_schemas/guru_232342_schema.csv', 'column_name,data_type\nid,TEXT\nzip,VARCHAR(5)\nn,BIGINT\n')
  await t.write(
    'user_schemas/guru_232342_orders_schema.csv',
    [
      'column_name,data_type',
      'org_id,TEXT NOT NULL',
      'version,INTEGER NOT NULL DEFAULT 1',
      '# the others come by themselves',
      'n,"DECIMAL(10,2)"',
      'm,NUMERIC(12, 1)',
      'day,DATE NOT NULL',
      'at,TIMESTAMP WITH TIME ZONE',
    ].join('\r\n'),
  )
  const header = 'id,zip,n,m,day,at,free\n'
  const text = `${header}1,10001,1,2.5,2026-01-01,2026-01-01T00:00:00Z,1\n2,00501,x,1,2026-01-01,,2\n3,1,1,1,,,3\n`
  expect(await load(t, text, {}, { m: 'DECIMAL(20,4)' })).toMatchObject({ inserted: 1, rejected: 2 })
  expect(await types(t)).toEqual({
    id: 'VARCHAR',
    zip: 'VARCHAR',
    n: 'DECIMAL(10,2)',
    m: 'DECIMAL(20,4)',
    day: 'DATE',
    at: 'TIMESTAMP WITH TIME ZONE',
    free: 'BIGINT',
  })
  expect(await quarantined(t)).toMatchObject([
    { line: '3', c: 'n', code: 'TYPE' },
    { line: '4', c: 'day', code: 'REQUIRED' },
  ])
})

test.each(['n,BIGINTEGER', 'n', ',TEXT', 'n,TEXT\nN,TEXT', 'n,"TEXT'])(
  'a schema file with %j is refused by its line',
  async (text) => {
    await using t = await tenant()
    await t.write('user_schemas/guru_232342_orders_schema.csv', `column_name,data_type\n${text}\n`)
    await expect(load(t, 'id,n\n1,1\n')).rejects.toMatchObject({
      code: 'FILE_INVALID',
      message: /^Line [23] of user_schemas/,
    })
  },
)

test.each(['evolve', 'freeze', 'discard_row', 'discard_value'] as const)(
  'under %s no row is lost, however the source changes its shape',
  async (mode) => {
    expect(await proveSchemaChanges(mode, 8)).toMatchObject({ lost: 0 })
  },
)

test('columns may have any name that no versioned table needs, also as key', async () => {
  await using t = await tenant()
  const names = [
    'h',
    'f',
    'k',
    'change',
    'place',
    'file',
    'first_seen',
    'old_row',
    'moment',
    'load',
    's',
    'o',
    'order',
    'row id',
    "it's",
  ]
  const text = (values: (name: string) => string) => `${names.join()}\n${names.map(values).join()}\n`
  const to = { business_key: ['h', 'load'], snapshot: 'full' }
  await load(
    t,
    text((name) => `of ${name}`),
    to,
  )
  expect(
    await load(
      t,
      text((name) => (name === 'f' ? 'new' : `of ${name}`)),
      to,
    ),
  ).toMatchObject({ updated: 1 })
  expect(
    await load(
      t,
      text((name) => (name === 'h' ? 'new' : `of ${name}`)),
      to,
    ),
  ).toMatchObject({ inserted: 1, deleted: 1 })
  expect(await t.rows('SELECT f, place FROM lake.main.orders_as_of_load(2)')).toEqual([{ f: 'new', place: 'of place' }])
})

test('a row that breaks two contracts is rejected once', async () => {
  await using t = await tenant()
  await load(t, 'id,n\n1,1\n')
  expect(await load(t, 'id,n,x,y\n2,many,new,new\n', { contract: 'discard_row' })).toMatchObject({
    rows_in: 1,
    rejected: 1,
  })
})
