import { expect, test } from 'vitest'
import ingest from '../../../../workers/processors/file/ingest.ts'
import { tenant, type Tenant } from '../../../support/step-context.ts'

const load = (t: Tenant, source: object, destination: object = {}) =>
  t.run(ingest, {
    source: { path: 'in.csv', ...source },
    destination: { table: 'orders', mode: 'replace', ...destination },
  })
const types = (t: Tenant, table = 'orders') =>
  t.rows(
    `SELECT column_name AS name, data_type AS type FROM duckdb_columns() WHERE database_name = 'lake' AND schema_name = 'main' AND table_name = '${table}' ORDER BY column_index`,
  )
const rejected = (t: Tenant) =>
  t.rows(`SELECT line, column_name AS "column", code, raw FROM lake.raw.x_meta_rejected_rows ORDER BY line`)

test('a type is given only to a column whose every value it keeps', async () => {
  await using t = await tenant()
  await t.write(
    'in.csv',
    [
      'zip,n,big,price,long,day,at,yes,note,void',
      '00501,1,9007199254740993,19.5,0.12345678901234567890,2024-02-29,2024-01-01T10:00:00,true,"a, ""b""",',
      '10001,-2,-1,20,1.5,2024-12-31,2024-01-01 10:00:00.123456,false,"two\nlines",',
      '10002,3,,0.25,2,1999-01-01,2024-01-01 23:59:59,true,x,',
    ].join('\n'),
  )
  const outputs = await load(t, {})
  expect(outputs).toMatchObject({ rows: 3, rejected: 0, score: 1 })
  expect(Object.fromEntries((await types(t)).map((c) => [c['name'], c['type']]))).toEqual({
    zip: 'VARCHAR',
    n: 'BIGINT',
    big: 'BIGINT',
    price: 'DOUBLE',
    long: 'DECIMAL(38,20)',
    day: 'DATE',
    at: 'TIMESTAMP',
    yes: 'BOOLEAN',
    note: 'VARCHAR',
    void: 'VARCHAR',
  })
  expect(
    await t.rows(`SELECT zip, big, long::VARCHAR AS long, note FROM lake.main.orders ORDER BY zip LIMIT 2`),
  ).toEqual([
    { zip: '00501', big: '9007199254740993', long: '0.12345678901234567890', note: 'a, "b"' },
    { zip: '10001', big: '-1', long: '1.50000000000000000000', note: 'two\nlines' },
  ])
})

test('one value at the end decides against a type', async () => {
  await using t = await tenant()
  const names = ['n', 'f', 'd', 't', 'b']
  const rows = Array.from({ length: 30_000 }, (_, i) => `${i},${i}.5,2024-01-01,2024-01-01T00:00:00,true`)
  await t.write('in.csv', [names.join(','), ...rows, 'x8,x8,x8,x8,x8'].join('\n'))
  expect(await load(t, {})).toMatchObject({ rows: 30_001, rejected: 0 })
  expect((await types(t)).map((column) => column['type'])).toEqual(names.map(() => 'VARCHAR'))
})

test('a value that does not fit a declared type is quarantined with its line, never rounded', async () => {
  await using t = await tenant()
  const good = Array.from({ length: 3000 }, (_, i) => `${i},"line one\nline two"`)
  await t.write('in.csv', ['n,note', '', ...good, '', '3.75,last', ''].join('\r\n'))
  const outputs = await load(t, { columns: { n: 'BIGINT' } })
  expect(outputs).toMatchObject({ rows: 3000, rows_in: 3001, rejected: 1 })
  const [row] = await rejected(t)
  expect(row).toMatchObject({ column: 'n', code: 'TYPE', line: String(2 + 2 * 3000 + 1 + 1) })
  expect(JSON.parse(String(row?.['raw']))).toEqual({ n: '3.75', note: 'last' })
  expect(await t.rows(`SELECT count(*) AS n, sum(n)::BIGINT AS s FROM lake.main.orders`)).toEqual([
    { n: '3000', s: String((2999 * 3000) / 2) },
  ])
})

test('the types of a table are the contract of later loads', async () => {
  await using t = await tenant()
  const to = { mode: 'versioned', business_key: ['id'] }
  await t.write('in.csv', 'id,n,day\n1,10,2024-01-01\n2,20,2024-01-02\n')
  await load(t, {}, to)
  await t.write('in.csv', 'id,n,day\n1,10,2024-01-01\n2,twenty,2024-01-02\n3,30,2024-02-30\n4,4e1,2024-03-01\n')
  const outputs = await load(t, {}, to)
  expect(outputs).toMatchObject({ rejected: 3, unchanged: 1, inserted: 0, deleted: 0 })
  expect(await rejected(t)).toMatchObject([
    { line: '3', column: 'n', code: 'TYPE' },
    { line: '4', column: 'day', code: 'TYPE' },
    { line: '5', column: 'n', code: 'TYPE' },
  ])
})

test('rows of another width, broken quotes and bytes that are no text are quarantined with exact lines', async () => {
  await using t = await tenant()
  const text = Buffer.concat([
    Buffer.from('a,b\n1,"x\n\ny"\n\n3\n4,5,6\n"5","q"z\n6,"a"b"\n7,'),
    Buffer.from([0xff, 0xfe]),
    Buffer.from('\n8,ok\n9,x"y\n10,""\n'),
  ])
  await t.write('in.csv', text)
  const outputs = await load(t, {})
  expect(await rejected(t)).toMatchObject([
    { line: '6', code: 'MISSING_COLUMNS', raw: '3' },
    { line: '7', code: 'TOO_MANY_COLUMNS', raw: '4,5,6' },
    { line: '8', code: 'UNQUOTED_VALUE', raw: '"5","q"z' },
    { line: '9', code: 'UNQUOTED_VALUE' },
    { line: '10', code: 'INVALID_ENCODING' },
  ])
  expect(outputs).toMatchObject({ rows: 4, rejected: 5, rows_in: 9, score: 0.4444 })
  expect(await t.rows(`SELECT a, b FROM lake.main.orders ORDER BY a`)).toEqual([
    { a: '1', b: 'x\n\ny' },
    { a: '8', b: 'ok' },
    { a: '9', b: 'x"y' },
    { a: '10', b: '' },
  ])
})

test.each([true, false])(
  'rows of a file that several threads read are numbered as they stand in it (types: %s)',
  async (isTyped) => {
    await using t = await tenant()
    const rows = Array.from({ length: 500_000 }, (_, i) => `${i % 499_990},"a\n""${i}"" ${'x'.repeat(60)}",${i}`)
    rows[450_000] = '450000,broken type,x'
    await t.write('in.csv', ['id,note,n', ...rows, ''].join('\n'))
    const columns = { id: 'BIGINT', n: 'BIGINT', ...(isTyped ? { note: 'VARCHAR' } : {}) }
    const destination = { table: 'orders', business_key: ['id'] }
    expect(await t.run(ingest, { source: { path: 'in.csv', columns }, destination })).toMatchObject({ rows: 499_989 })
    expect(await t.rows('SELECT n::INTEGER AS n FROM lake.main.orders WHERE id = 3')).toEqual([{ n: 499_993 }])
    expect(await rejected(t)).toContainEqual(expect.objectContaining({ code: 'TYPE', line: String(2 + 2 * 450_000) }))
  },
)

test('a quote that never closes loses nothing silently', async () => {
  await using t = await tenant()
  await t.write('in.csv', 'a,b\n1,x\n2,"open\n3,y\n')
  expect(await load(t, {})).toMatchObject({ rows: 1, rejected: 1 })
  expect(await rejected(t)).toMatchObject([{ line: '3', code: 'UNQUOTED_VALUE', raw: '2,"open\n3,y\n' }])
})

test('an unquoted empty field is NULL, a quoted one is the empty text, and own NULL texts are taken', async () => {
  await using t = await tenant()
  await t.write('in.csv', 'a,b\n1,\n2,""\n3,\\N\n4,"\\N"\n')
  await load(t, {})
  expect(await t.rows(`SELECT b FROM lake.main.orders ORDER BY a`)).toEqual([
    { b: null },
    { b: '' },
    { b: '\\N' },
    { b: '\\N' },
  ])
  await load(t, { null_values: ['\\N'] })
  expect(await t.rows(`SELECT b FROM lake.main.orders ORDER BY a`)).toEqual([
    { b: '' },
    { b: '' },
    { b: null },
    { b: '\\N' },
  ])
})

test.each([
  ['a name twice', 'a,B,b\n1,2,3\n', /columns 2 and 3 .* same name/],
  ['no name', 'a,,b\n1,2,3\n', /column 2 of in.csv has no name/],
  ['semicolons', 'a;b;c\n1;2;3\n', /set delimiter to ";"/],
  ['tabs', 'a\tb\n1\t2\n', /set delimiter to "\\t"/],
  ['nothing at all', '', /is empty/],
  ['mixed line endings', 'a,b\n1,2\r\n3,4\n', /mixes line endings/],
])('a file with %s is refused with a reason', async (_, text, reason) => {
  await using t = await tenant()
  await t.write('in.csv', text)
  await expect(load(t, {})).rejects.toMatchObject({ code: 'FILE_INVALID', message: expect.stringMatching(reason) })
})

test('a file with a header only makes an empty table, or changes nothing that a delta could not', async () => {
  await using t = await tenant()
  await t.write('in.csv', 'id,n\n')
  expect(await load(t, {}, { mode: 'versioned', business_key: ['id'] })).toMatchObject({ rows: 0, score: 1 })
  expect(await types(t)).toMatchObject([{ name: 'id' }, { name: 'n' }])
})

test.each([
  ['latin-1', Buffer.from('a,b\n1,caf\xe9\n2,"x\ny"\nz,\n', 'latin1')],
  ['utf-16', Buffer.from('\ufeffa,b\n1,café\n2,"x\ny"\nz,\n', 'utf16le')],
  ['utf-8', Buffer.from('\ufeffa,b\n1,café\n2,"x\ny"\nz,\n')],
])('%s is read letter by letter, and lines are counted the same', async (encoding, bytes) => {
  await using t = await tenant()
  await t.write('in.csv', bytes)
  await load(t, { encoding, columns: { a: 'BIGINT' } })
  expect(await t.rows(`SELECT b FROM lake.main.orders ORDER BY a`)).toEqual([{ b: 'café' }, { b: 'x\ny' }])
  expect(await rejected(t)).toMatchObject([{ line: '5', column: 'a' }])
})

test('several files load as one, in whatever order their columns stand', async () => {
  await using t = await tenant()
  await t.write('d/1.csv', 'id,n\n1,1\nx\n')
  await t.write('d/2.csv', 'n,id\n2,2\n\ny\n')
  const outputs = await load(t, { path: 'd/*.csv' }, { mode: 'versioned', business_key: ['id'] })
  expect(outputs).toMatchObject({ rows: 2, rejected: 2 })
  expect(await t.rows(`SELECT id, n, source_file FROM lake.raw.orders ORDER BY id`)).toEqual([
    { id: '1', n: '1', source_file: 'd/1.csv' },
    { id: '2', n: '2', source_file: 'd/2.csv' },
  ])
  expect(await t.rows(`SELECT source_file AS f, line FROM lake.raw.x_meta_rejected_rows ORDER BY f`)).toEqual([
    { f: 'd/1.csv', line: '3' },
    { f: 'd/2.csv', line: '4' },
  ])
})

test('lines are exact in a file of several buffers', async () => {
  await using t = await tenant()
  const rows: string[] = ['id,note']
  const bad: number[] = []
  let line = 2
  for (let i = 0; i < 700_000; i++) {
    if (i % 99_991 === 7) {
      rows.push(i % 2 ? 'short' : `x${i},not a number`)
      bad.push(line)
      line++
    } else if (i % 1000 === 0) {
      rows.push(`${i},"two\nlines of ${i} and some text that makes it longer"`, '')
      line += 3
    } else {
      rows.push(`${i},some text that makes the file longer than one buffer of the reader ${i}`)
      line++
    }
  }
  await t.write('in.csv', rows.join('\n'))
  await load(t, { columns: { id: 'BIGINT' } })
  expect((await rejected(t)).map((row) => Number(row['line']))).toEqual(bad)
}, 60_000)

test('a row that is quarantined does not delete the record it was to update', async () => {
  await using t = await tenant()
  const versioned = { mode: 'versioned', business_key: ['id'] }
  await t.write('in.csv', 'name,id,amount\na,1,10\nb,2,20\nc,3,30\nd,4,40\n')
  await load(t, {}, versioned)
  // 2 does not fit its type, 3 has a field too many, 4 is really gone.
  await t.write('in.csv', 'name,id,amount\na,1,11\nb,2,twenty\nc,3,30,30\n')
  expect(await load(t, {}, versioned)).toMatchObject({ rows_in: 3, rejected: 2, updated: 1, deleted: 1 })
  expect(await t.rows('SELECT id, amount FROM lake.main.orders ORDER BY id')).toEqual([
    { id: '1', amount: '11' },
    { id: '2', amount: '20' },
    { id: '3', amount: '30' },
  ])
  await t.write('in.json', '[{"id": 1, "name": "a", "amount": 11}, {"id": 2, "name": "b", "amount": "x"}]')
  expect(await load(t, { path: 'in.json' }, versioned)).toMatchObject({ rejected: 1, deleted: 1 })
  expect(await t.rows('SELECT id FROM lake.main.orders ORDER BY id')).toEqual([{ id: '1' }, { id: '2' }])
})
