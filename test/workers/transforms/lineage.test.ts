import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Connection } from '../../../workers/lake/connection.ts'
import { checkStatement } from '../../../workers/lake/statement.ts'
import { catalogOf } from '../../../workers/transforms/keep-lineage.ts'
import { lineageOf } from '../../../workers/transforms/lineage.ts'
import { tenant, type Tenant } from '../../support/step-context.ts'

let t: Tenant
let connection: Connection
beforeAll(async () => {
  t = await tenant()
  connection = await t.lake.connectForTenant(new AbortController().signal)
  await connection.run(`CREATE TABLE lake.main.t AS SELECT 1 AS id, 2 AS a, 3 AS b, {'x': 1, 'y': 2} AS s, [1, 2] AS l`)
  await connection.run(`CREATE TABLE lake.main.u AS SELECT 1 AS id, 'x' AS name, 5 AS b`)
  await connection.run(`CREATE TABLE lake.raw.v AS SELECT 1 AS id, 2 AS version`)
})
afterAll(async () => {
  connection.close()
  await t[Symbol.asyncDispose]()
})

/** `column <- origins`, copies with `=`, and the tables behind a bar. */
async function lineage(text: string): Promise<string> {
  const statement = await checkStatement(connection, { text, values: [] })
  const names = statement.columns.map(({ name }) => name)
  const { tables, columns } = lineageOf(statement.tree, await catalogOf(connection), names)
  const parts = columns.map(({ name, origins }) => {
    const from = origins.map(({ table, column, isCopied }) => `${isCopied ? '=' : ''}${table}.${column}`)
    return `${name}: ${from.sort().join(' ')}`.trim()
  })
  return `${parts.join(', ')} | ${tables.join(' ')}`.trim()
}

test.each([
  ['SELECT id FROM t', 'id: =t.id | t'],
  ['SELECT a + b AS c, 1 AS one FROM t', 'c: t.a t.b, one: | t'],
  ['SELECT x.a AS z FROM t AS x', 'z: =t.a | t'],
  ['SELECT t.a, main.t.b, lake.main.t.id FROM t', 'a: =t.a, b: =t.b, id: =t.id | t'],
  ['SELECT * FROM u', 'id: =u.id, name: =u.name, b: =u.b | u'],
  ['SELECT * EXCLUDE (id) REPLACE (b + 1 AS b) FROM u', 'name: =u.name, b: u.b | u'],
  ['SELECT * RENAME (name AS n) FROM u', 'id: =u.id, n: =u.name, b: =u.b | u'],
  ["SELECT COLUMNS('^[ab]$') FROM t", 'a: =t.a, b: =t.b | t'],
  ['SELECT u.* FROM t JOIN u ON t.id = u.id', 'id: =u.id, name: =u.name, b: =u.b | t u'],
  ['SELECT a, name FROM t JOIN u USING (id)', 'a: =t.a, name: =u.name | t u'],
  ['SELECT * FROM v JOIN u USING (id)', 'id: =raw.v.id, version: =raw.v.version, name: =u.name, b: =u.b | raw.v u'],
  ['SELECT id FROM v FULL JOIN u USING (id)', 'id: =raw.v.id =u.id | raw.v u'],
  ['SELECT * FROM v NATURAL JOIN u', 'id: =raw.v.id, version: =raw.v.version, name: =u.name, b: =u.b | raw.v u'],
  ['SELECT name FROM u SEMI JOIN t USING (id)', 'name: =u.name | t u'],
  ['SELECT name FROM u WHERE id IN (SELECT a FROM t)', 'name: =u.name | t u'],
  ['SELECT name, EXISTS (SELECT 1 FROM t WHERE t.id = u.id) AS e FROM u', 'name: =u.name, e: | t u'],
  ['SELECT (SELECT max(a) FROM t WHERE t.id = u.id) AS m FROM u', 'm: t.a | t u'],
  ['WITH c AS (SELECT a AS k, b FROM t) SELECT k, b * 2 AS d FROM c', 'k: =t.a, d: t.b | t'],
  ['WITH c(p, q) AS (SELECT a, b FROM t), d AS (SELECT q FROM c) SELECT * FROM d', 'q: =t.b | t'],
  ['WITH t AS (SELECT name AS a FROM u) SELECT a FROM t', 'a: =u.name | u'],
  ['SELECT z.k FROM (SELECT a AS k FROM t) AS z', 'k: =t.a | t'],
  ['SELECT q FROM (SELECT a, b FROM t) AS z(p, q)', 'q: =t.b | t'],
  ['SELECT a FROM t UNION ALL SELECT b FROM u', 'a: =t.a =u.b | t u'],
  ['SELECT id, a FROM t UNION ALL BY NAME SELECT name, id FROM u', 'id: =t.id =u.id, a: =t.a, name: =u.name | t u'],
  ['SELECT a FROM t EXCEPT SELECT b FROM u', 'a: =t.a | t u'],
  [
    'WITH RECURSIVE r(n, m) AS (SELECT a, b FROM t UNION ALL SELECT m, n + 1 FROM r WHERE n < 3) SELECT n, m FROM r',
    'n: t.a t.b, m: t.a t.b | t',
  ],
  ['SELECT sum(a) AS s, count(*) AS n FROM t GROUP BY b HAVING max(b) > 1', 's: t.a, n: | t'],
  ['SELECT sum(a) FILTER (b > 1) AS s FROM t', 's: t.a | t'],
  [
    'SELECT lag(a) OVER (PARTITION BY b ORDER BY id) AS p, row_number() OVER (ORDER BY b) AS r FROM t',
    'p: t.a, r: | t',
  ],
  ['SELECT id FROM t QUALIFY row_number() OVER (PARTITION BY a ORDER BY b) = 1', 'id: =t.id | t'],
  ['SELECT CASE WHEN a > 1 THEN b ELSE id END AS c FROM t', 'c: t.b t.id | t'],
  ['SELECT a::VARCHAR AS c, coalesce(a, b) AS d FROM t', 'c: t.a, d: t.a t.b | t'],
  ['SELECT s.x AS sx, t.s.y AS sy FROM t', 'sx: t.s, sy: t.s | t'],
  ['SELECT list_transform(l, a -> a + b) AS m FROM t', 'm: t.b t.l | t'],
  ['SELECT [y * a for y in l if y > b] AS m FROM t', 'm: t.a t.b t.l | t'],
  ['SELECT k FROM t, unnest(t.l) AS z(k)', 'k: t.l | t'],
  ['SELECT w.m FROM t, LATERAL (SELECT t.a + 1 AS m) AS w', 'm: t.a | t'],
  ['SELECT a + 1 AS c, c * 2 AS d FROM t', 'c: t.a, d: t.a | t'],
  ['SELECT x.a, y.a AS other FROM t x JOIN t y ON x.id = y.b', 'a: =t.a, other: =t.a | t'],
  ['SELECT n FROM (VALUES (1), (2)) AS w(n)', 'n: |'],
  ['FROM u', 'id: =u.id, name: =u.name, b: =u.b | u'],
  ['SELECT t AS whole FROM (SELECT a, b FROM t) AS t', 'whole: t.a t.b | t'],
  ['SELECT * FROM (SELECT a, b FROM t) PIVOT (sum(a) FOR b IN (3, 4))', '3: t.a t.b, 4: t.a t.b | t'],
  ['SELECT name FROM u ORDER BY (SELECT max(version) FROM raw.v)', 'name: =u.name | raw.v u'],
])('%s', async (text, expected) => {
  expect(await lineage(text)).toBe(expected)
})
