import { DuckDBInstance } from '@duckdb/node-api'
import { PGlite } from '@electric-sql/pglite'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Value } from '../../../schema/config/variables.ts'
import { AppError } from '../../../shared/errors.ts'
import { bindSql } from '../../../shared/config/sql.ts'

const values: Record<string, Value> = {
  date: '2024-11-01',
  name: "O'Hara",
  drop: "x'; DROP TABLE orders; --",
  tautology: "' OR '1'='1",
  table: 'orders',
  schema: 'crm',
  dotted: 'crm.orders',
  column: 'day',
  n: 5,
  flag: true,
  nothing: null,
  list: ['a', 'b'],
  brace: '{date}',
  comment: 'orders--',
  quote: 'orders" --',
  unicode: 'ordеrs',
}

test.each<[string, string, unknown[]]>([
  ["WHERE d='{date}'", 'WHERE d=$1', ['2024-11-01']],
  ["WHERE d = '{date | date_add:-1d}'", 'WHERE d = $1', ['2024-10-31']],
  ["a = '{drop}' OR b='{tautology}'", 'a = $1 OR b=$2', [values['drop'], values['tautology']]],
  ["a = '{n}' AND b = '{nothing}'", 'a = $1 AND b = $2', ['5', null]],
  ["'{brace}'", '$1', ['{date}']],
  ["DATE '{date}' + INTERVAL '1 day'", " CAST($1 AS DATE) + INTERVAL '1 day'", ['2024-11-01']],
  ["interval '{name}'", ' CAST($1 AS INTERVAL)', ["O'Hara"]],
  ["x AS date, '{date}'::date", 'x AS date, $1::date', ['2024-11-01']],
  ['SELECT * FROM {table}', 'SELECT * FROM "orders"', []],
  [
    'SELECT * FROM {dotted} JOIN {schema}.{table} USING (id)',
    'SELECT * FROM "crm"."orders" JOIN "crm"."orders" USING (id)',
    [],
  ],
  [
    'SELECT {column}, {n} FROM a, {table} ORDER BY {column}, {table}',
    'SELECT "day", $1 FROM a, "orders" ORDER BY "day", "orders"',
    [5],
  ],
  [
    'SELECT x AS {column} FROM t WHERE "{column}" > {n} AND ok = {flag}',
    'SELECT x AS "day" FROM t WHERE "day" > $1 AND ok = $2',
    [5, true],
  ],
  ['SELECT * FROM `{table}` LIMIT {n}', 'SELECT * FROM `orders` LIMIT $1', [5]],
  [
    "-- '{date}' {drop}\nSELECT /* {x} /* '{y}' */ ' */ '{date}'",
    "-- '{date}' {drop}\nSELECT /* {x} /* '{y}' */ ' */ $1",
    ['2024-11-01'],
  ],
  [
    "SELECT 'it''s', E'a\\'b', $$a'b$$, $t$ ' $t$, '{date}'",
    "SELECT 'it''s', E'a\\'b', $$a'b$$, $t$ ' $t$, $1",
    ['2024-11-01'],
  ],
  ["SELECT '{{date}', {'k': 1}, 'a{b,c}'", "SELECT '{date}', {'k': 1}, 'a{b,c}'", []],
  ["SELECT 'Größe 😀' AS \"größe\", '{name}'", 'SELECT \'Größe 😀\' AS "größe", $1', ["O'Hara"]],
])('%s', (text, sql, bound) => {
  expect(bindSql(text, values)).toEqual({ text: sql, values: bound })
})

test.each([
  ['WHERE d = {date}', '1:11'],
  ['WHERE d = {tautology}', '1:11'],
  ["WHERE a\n  LIKE '%{name}%'", '2:8'],
  ["WHERE a = E'{name}'", '1:11'],
  ['WHERE a = $${name}$$', '1:11'],
  ["WHERE a = N'{name}'", '1:12'],
  ["SELECT ü'{date}'", '1:9'],
  ["INTERVAL '{n}' DAY", '1:10'],
  ['SELECT $1', '1:8'],
  ['SELECT * FROM {drop}', '1:15'],
  ['SELECT * FROM {comment}', '1:15'],
  ['SELECT * FROM {quote}', '1:15'],
  ['SELECT * FROM {unicode}', '1:15'],
  ['SELECT * FROM "{quote}"', '1:15'],
  ['SELECT * FROM "x_{table}"', '1:15'],
  ['SELECT * FROM "{dotted}"', '1:15'],
  ['SELECT * FROM {schema}.{dotted}', '1:24'],
  ['SELECT * FROM {n}', '1:15'],
  ['SELECT * FROM {list}', '1:15'],
  ["SELECT '{list}'", '1:8'],
  ['SELECT lower({table})', '1:14'],
  ['SELECT * FROM t WHERE {table}', '1:23'],
  ['SELECT a IS DISTINCT FROM {table}', '1:27'],
  ['SELECT extract(day FROM {table})', '1:25'],
  ['SELECT trim(both FROM {table}) FROM t', '1:23'],
  ['SELECT CAST(x AS {table})', '1:18'],
  ['{table}', '1:1'],
])('%s is refused at %s', (text, place) => {
  expect(codeOf(text)).toBe(`SQL_INTERPOLATION ${place}`)
})

describe('BigQuery', () => {
  const given = { ...values, billing: 'my-project-1.billing.gcp_export_v1', hyphen: 'my-project', path: 'a`b' }
  const bigquery = (text: string) => bindSql(text, given, 'bigquery')

  test.each<[string, string, unknown[]]>([
    ["SELECT * FROM {table} WHERE date='{date}'", 'SELECT * FROM `orders` WHERE date=@p1', ['2024-11-01']],
    ['SELECT * FROM {billing}', 'SELECT * FROM `my-project-1`.`billing`.`gcp_export_v1`', []],
    ['SELECT * FROM `{billing}` b', 'SELECT * FROM `my-project-1`.`billing`.`gcp_export_v1` b', []],
    ['SELECT * FROM {hyphen}.{schema}.`{table}`', 'SELECT * FROM `my-project`.`crm`.`orders`', []],
    ["a = '{drop}' AND b = {n} AND c = '{n}'", 'a = @p1 AND b = @p2 AND c = @p3', [values['drop'], 5, '5']],
    ['WHERE d = "{date}" AND e = "it\'s"', 'WHERE d = @p1 AND e = "it\'s"', ['2024-11-01']],
    ['DATETIME \'{date}\', NUMERIC "{n}"', ' CAST(@p1 AS DATETIME),  CAST(@p2 AS NUMERIC)', ['2024-11-01', '5']],
    [
      "# it's {x}\nSELECT 'a\\'{{' /* /* {x} */ , '{date}' -- '",
      "# it's {x}\nSELECT 'a\\'{' /* /* {x} */ , @p1 -- '",
      ['2024-11-01'],
    ],
    [
      "SELECT '''it's \\''' ''', \"\"\"a\"b\"\"\", r'\\'', b\"x\", rb'''y''', '', '{date}'",
      "SELECT '''it's \\''' ''', \"\"\"a\"b\"\"\", r'\\'', b\"x\", rb'''y''', '', @p1",
      ['2024-11-01'],
    ],
    ["SELECT @@project_id, $1, `a\\`{{`, '{date}'", 'SELECT @@project_id, $1, `a\\`{`, @p1', ['2024-11-01']],
  ])('%s', (text, sql, bound) => {
    expect(bigquery(text)).toEqual({ text: sql, values: bound })
  })

  test.each([
    ['SELECT @p1', '1:8'],
    ['SELECT ?', '1:8'],
    ["SELECT r'{date}'", '1:8'],
    ['SELECT B"{date}"', '1:8'],
    ["SELECT '''{date}'''", '1:8'],
    ["SELECT DATE'{date}'", '1:12'],
    ['SELECT * FROM `{hyphen}.{schema}.t`', '1:15'],
    ['SELECT * FROM {hyphen}.{dotted}', '1:24'],
    ['SELECT * FROM {path}', '1:15'],
    ['SELECT * FROM {drop}', '1:15'],
    ['SELECT * FROM `{quote}`', '1:15'],
    ['SELECT "%{name}%"', '1:8'],
  ])('%s is refused at %s', (text, place) => {
    expect(codeOf(text, () => bigquery(text))).toBe(`SQL_INTERPOLATION ${place}`)
  })
})

test('an unknown name is told by its name', () => {
  expect(() => bindSql("SELECT '{nobody}'", values)).toThrow(expect.objectContaining({ code: 'VARIABLE_UNKNOWN' }))
})

test('no refusal shows the value', () => {
  for (const text of ['SELECT * FROM {drop}', 'WHERE a = {drop}', "LIKE '%{drop}'"])
    expect(() => bindSql(text, values)).toThrow(
      expect.not.objectContaining({ message: expect.stringContaining('DROP') }),
    )
})

test('the text of the SQL never depends on a bound value', () => {
  const hostile = [
    "'",
    "''",
    '"',
    '$1',
    '$$',
    '--',
    '/*',
    '\\',
    "\\'",
    '{date}',
    '{{',
    ';',
    ' ',
    '%',
    'ʼ',
    '’',
    '\u0000',
  ]
  const texts = hostile.map((value) => bindSql("SELECT '{v}', DATE '{v}' FROM t -- {v}", { v: value }).text)
  expect(new Set(texts)).toEqual(new Set(['SELECT $1,  CAST($2 AS DATE) FROM t -- {v}']))
})

describe('a value that is SQL stays a value', () => {
  let duck: Awaited<ReturnType<DuckDBInstance['connect']>>
  let postgres: PGlite
  const setUp = `CREATE TABLE orders (day date, customer text, amount int);
    INSERT INTO orders VALUES ('2024-11-01', 'O''Hara', 5), ('2024-11-02', 'x', 6)`
  const query = `SELECT customer FROM {table} WHERE day = '{date}' AND customer = '{who}' AND amount >= {n} AND amount + 1 > '{n}' ORDER BY {column}`

  beforeAll(async () => {
    duck = await (await DuckDBInstance.create(':memory:')).connect()
    await duck.run(setUp)
    postgres = new PGlite()
    await postgres.exec(setUp)
  })
  afterAll(async () => {
    duck.closeSync()
    await postgres.close()
  })

  test.each([
    ["O'Hara", 1],
    ["O'Hara' OR '1'='1", 0],
    ["'; DROP TABLE orders; --", 0],
    ["' UNION SELECT customer FROM orders --", 0],
    ['$1', 0],
    ["\\'; DELETE FROM orders; --", 0],
  ])('%s finds %i rows in DuckDB and PostgreSQL, and the table stands', async (who, rows) => {
    const bound = bindSql(query, { ...values, who })
    expect((await duck.runAndReadAll(bound.text, bound.values)).getRows()).toHaveLength(rows)
    expect((await postgres.query(bound.text, bound.values)).rows).toHaveLength(rows)
    expect((await duck.runAndReadAll('SELECT * FROM orders')).getRows()).toHaveLength(2)
    expect((await postgres.query('SELECT * FROM orders')).rows).toHaveLength(2)
  })

  test('typed literals are cast in both engines', async () => {
    const bound = bindSql("SELECT customer FROM orders WHERE day = DATE '{date}' + INTERVAL '1 day'", values)
    expect((await duck.runAndReadAll(bound.text, bound.values)).getRows()).toEqual([['x']])
    expect((await postgres.query(bound.text, bound.values)).rows).toEqual([{ customer: 'x' }])
  })
})

function codeOf(text: string, bind = () => bindSql(text, values)): string {
  try {
    bind()
  } catch (error) {
    if (error instanceof AppError) return `${error.code} ${error.place?.line}:${error.place?.column}`
    throw error
  }
  return 'nothing was thrown'
}
