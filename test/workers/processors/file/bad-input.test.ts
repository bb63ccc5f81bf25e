import { expect, test } from 'vitest'
import ingest from '../../../../workers/processors/file/ingest.ts'
import { tenant, type Tenant } from '../../../support/step-context.ts'

// Whatever a file holds, it ends as rows with the right values, as rejects with line and reason, or as one clear error.
const load = async (t: Tenant, content: string | Buffer, source: object = {}, to: object = {}, path = 'in.csv') => {
  await t.write(path, content)
  return await t.run(ingest, {
    source: { path, ...source },
    destination: { table: 'rows', mode: 'replace', ...to },
  })
}
const rejects = (t: Tenant) =>
  t.rows(`SELECT line, column_name AS c, code FROM lake.raw.x_meta_rejected_rows ORDER BY line, c`)
const rows = (t: Tenant, query: string) => t.rows(`SELECT ${query} FROM lake.main.rows`)
const typeOf = async (t: Tenant, column: string) =>
  (
    await t.rows(
      `SELECT data_type AS type FROM duckdb_columns() WHERE table_name = 'rows' AND column_name = '${column}'`,
    )
  )[0]?.['type']

const million = ['id,n', ...Array.from({ length: 1_000_000 }, (_, i) => `${i},${i === 999_999 ? '3.75' : i}`), ''].join(
  '\n',
)

test('an integer column whose millionth row is 3.75 keeps every value: as decimals, or with that row quarantined', async () => {
  await using t = await tenant()
  expect(await load(t, million)).toMatchObject({ rows: 1_000_000, rejected: 0 })
  expect(
    await rows(
      t,
      `max(n)::VARCHAR AS max, sum(n)::DECIMAL(38,2)::VARCHAR AS sum, min(n) FILTER (id = 999999)::VARCHAR AS last`,
    ),
  ).toEqual([{ max: '999998.0', sum: '499998500004.75', last: '3.75' }])
  const first = million.slice(0, million.indexOf('\n50000,'))
  expect(await load(t, `${first}\n50000,3.75\n`, { columns: { n: 'BIGINT' } })).toMatchObject({
    rows: 50_000,
    rejected: 1,
  })
  expect(await rejects(t)).toEqual([{ line: '50002', c: 'n', code: 'TYPE' }])
})

test('a column of mixed kinds stays text, letter by letter', async () => {
  await using t = await tenant()
  const values = ['1', '01', '1.0', '1e3', 'true', 'TRUE', '2026-01-01', 'x', '-0', '+5', '١', ' 7 ']
  expect(await load(t, ['id,v', ...values.map((value, i) => `${i},${value}`)].join('\n'))).toMatchObject({
    rejected: 0,
  })
  expect((await rows(t, 'v').then((all) => all.map((row) => row['v']))).toSorted()).toEqual(values.toSorted())
})

test('dates in several orders stay text; where a date is declared, only those without doubt get in', async () => {
  await using t = await tenant()
  const text = 'id,d\n1,2026-02-01\n2,01/02/2026\n3,13/02/2026\n4,01.02.2026\n5,2026-13-01\n6,2026-02-30\n7,20260201\n'
  expect(await load(t, text)).toMatchObject({ rows: 7, rejected: 0 })
  expect(await typeOf(t, 'd')).toBe('VARCHAR')
  expect(await load(t, text, { columns: { d: 'DATE' } })).toMatchObject({ rows: 1, rejected: 6 })
  expect((await rejects(t)).map((row) => [row['line'], row['code']])).toEqual(
    ['3', '4', '5', '6', '7', '8'].map((line) => [line, 'TYPE']),
  )
})

test('bytes that are no UTF-8 reject their row, wherever it stands', async () => {
  await using t = await tenant()
  const bad = Buffer.concat([
    Buffer.from('id,v\n1,ok\n2,'),
    Buffer.from([0xc3, 0x28]),
    Buffer.from('\n3,fine\n4,'),
    Buffer.from([0xe2, 0x82]),
    Buffer.from('\n5,end\n'),
  ])
  expect(await load(t, bad)).toMatchObject({ rows: 3, rejected: 2 })
  expect((await rejects(t)).map((row) => [row['line'], row['code']])).toEqual([
    ['3', 'INVALID_ENCODING'],
    ['5', 'INVALID_ENCODING'],
  ])
})

test('a field of a megabyte comes through, in CSV and in JSON, and its twin that differs in the last letter is another value', async () => {
  await using t = await tenant()
  const long = 'x'.repeat(1 << 20)
  const to = { mode: 'versioned', business_key: ['id'] }
  expect(await load(t, `id,v\n1,${long}a\n2,"${long}\n"\n`, {}, to)).toMatchObject({ inserted: 2 })
  expect(await load(t, `id,v\n1,${long}b\n2,"${long}\n"\n`, {}, to)).toMatchObject({ updated: 1, unchanged: 1 })
  const lines = [
    { id: 1, v: `${long}b` },
    { id: 2, v: `${long}\n` },
  ].map((row) => JSON.stringify(row))
  expect(await load(t, lines.join('\n'), {}, to, 'in.ndjson')).toMatchObject({ unchanged: 2, rejected: 0 })
})

test('a row longer than the reader takes is rejected or refused, and the process lives', async () => {
  await using t = await tenant()
  const outcome = await load(t, `id,v\n1,ok\n2,${'x'.repeat(17 << 20)}\n`).then(
    ({ rows, rejected }) => [rows, rejected],
    (error: { code: string }) => error.code,
  )
  expect([JSON.stringify([1, 1]), '"FILE_INVALID"']).toContain(JSON.stringify(outcome))
  expect(await load(t, 'id,v\n1,ok\n')).toMatchObject({ rows: 1 })
})

test.each([
  ['names twice', 'id,v,V\n1,2,3\n', /same name/],
  ['a name missing', 'id,,v\n1,2,3\n', /has no name/],
  ['a name with a control character', 'id,v\u0007\n1,2\n', /cannot be used/],
  ['nothing in it', '', /is empty/],
  ['only line breaks', '\n\n\n', /has no name/],
])('a file with %s is refused with one clear error', async (_, text, message) => {
  await using t = await tenant()
  await expect(load(t, text)).rejects.toMatchObject({ code: 'FILE_INVALID', message: expect.stringMatching(message) })
})

test('headers only, or nearly nothing, as a full snapshot deletes no table unless that is allowed', async () => {
  await using t = await tenant()
  const to = { mode: 'versioned', business_key: ['id'] }
  const lines = (count: number) => ['id,v', ...Array.from({ length: count }, (_, i) => `${i},a`), ''].join('\n')
  const refused = { code: 'QUALITY_BLOCKED', hint: expect.stringMatching(/delete_limit: 1.*snapshot: delta/) }
  await load(t, lines(2), {}, to)
  await expect(load(t, 'id,v\n', {}, to)).rejects.toMatchObject(refused)
  expect(await load(t, lines(1), {}, to)).toMatchObject({ deleted: 1 })
  await load(t, lines(100), {}, to)
  await expect(load(t, lines(9), {}, to)).rejects.toMatchObject(refused)
  expect(await t.rows(`SELECT count(*)::INTEGER AS n FROM lake.main.rows`)).toEqual([{ n: 100 }])
  expect(await load(t, lines(9), {}, { ...to, dry_run: true })).toMatchObject({ deleted: 91 })
  expect(await load(t, lines(10), {}, to)).toMatchObject({ rows: 10, deleted: 90 })
  expect(await load(t, 'id,v', {}, { ...to, snapshot: 'delta' })).toMatchObject({ rows: 0, deleted: 0 })
  expect(await load(t, 'id,v\n', {}, { ...to, delete_limit: 1 })).toMatchObject({ rows: 0, deleted: 10 })
})

test('columns in another order are the same columns', async () => {
  await using t = await tenant()
  const to = { mode: 'versioned', business_key: ['id'] }
  await load(t, 'id,first,last\n1,Ada,Byron\n2,Alan,T\n', {}, to)
  expect(await load(t, 'LAST,id,First\nByron,1,Ada\nT,2,Alan\n', {}, to)).toMatchObject({ unchanged: 2, updated: 0 })
})

test('a NUL byte stays in its value, and takes nothing with it', async () => {
  await using t = await tenant()
  expect(await load(t, 'id,v\n1,a\u0000b\n2,a\n')).toMatchObject({ rows: 2, rejected: 0 })
  expect(await rows(t, 'id, strlen(v)::INTEGER AS n, v = chr(97) AS same')).toEqual([
    { id: '1', n: 3, same: false },
    { id: '2', n: 1, same: true },
  ])
})

test('JSON that nests deeply is kept as it is or rejected by its line', async () => {
  await using t = await tenant()
  const deep = (depth: number) => `{"id": ${depth}, "v": ${'['.repeat(depth)}1${']'.repeat(depth)}}`
  const outputs = await load(
    t,
    [deep(3), deep(500), deep(100_000), '{"id": 1, "v": []}', ''].join('\n'),
    {},
    {},
    'in.ndjson',
  )
  expect(Number(outputs['rows']) + Number(outputs['rejected'])).toBe(4)
  expect(
    await rows(t, 'id, strlen(v)::INTEGER AS n').then((all) => all.filter((row) => Number(row['id']) <= 500)),
  ).toEqual([
    { id: '3', n: 7 },
    { id: '500', n: 1001 },
    { id: '1', n: 2 },
  ])
  for (const row of await rejects(t)) expect(row).toMatchObject({ line: '3', code: 'JSON_INVALID' })
})
