import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { checkStatement } from '../../../workers/lake/statement.ts'
import { tenant, type Tenant } from '../../support/step-context.ts'

async function check(t: Tenant, text: string): Promise<string> {
  using connection = await t.lake.connectForTenant(new AbortController().signal)
  return await checkStatement(connection, { text, values: [] }).then(
    () => 'allowed',
    (error) => `${error.code}: ${error.message}`,
  )
}

async function withTable(): Promise<Tenant> {
  const t = await tenant()
  using connection = await t.lake.connect(new AbortController().signal)
  await connection.run(`CREATE TABLE lake.main.customers AS SELECT 1 AS id, 'x' AS name`)
  await writeFile(join(t.root, 'own.csv'), 'a,b\n1,2\n')
  return t
}

test.each([
  'SELECT * FROM customers',
  'FROM main.customers SELECT name;',
  'SELECT id, count(*) OVER () FROM lake.customers -- a comment',
  'WITH c AS (SELECT * FROM customers) SELECT c.id FROM c JOIN lake.main.customers d USING (id)',
  'SELECT x FROM range(3) t(x), unnest([1, 2]) u(y) WHERE EXISTS (SELECT 1 FROM customers)',
  'VALUES (1), (2)',
  'SELECT * FROM x_meta_change_log',
  "SELECT 'a -- b; c' AS text FROM customers",
])('a SELECT over the own tables is allowed: %s', async (text) => {
  await using t = await withTable()
  expect(await check(t, text)).toBe('allowed')
})

test.each([
  ["SELECT * FROM read_csv('own.csv')", 'SQL_NOT_ALLOWED'],
  ["SELECT * FROM read_text('/etc/hostname')", 'SQL_NOT_ALLOWED'],
  ["SELECT * FROM glob('/*')", 'SQL_NOT_ALLOWED'],
  ["SELECT * FROM sniff_csv('own.csv')", 'SQL_NOT_ALLOWED'],
  ["SELECT * FROM parquet_metadata('x.parquet')", 'SQL_NOT_ALLOWED'],
  ["SELECT * FROM query('SELECT 1')", 'SQL_NOT_ALLOWED'],
  ["SELECT * FROM query_table('customers')", 'SQL_NOT_ALLOWED'],
  ["SELECT * FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))", 'SQL_NOT_ALLOWED'],
  ['SELECT * FROM duckdb_settings()', 'SQL_NOT_ALLOWED'],
  ['SELECT * FROM duckdb_databases()', 'SQL_NOT_ALLOWED'],
  ['SELECT * FROM duckdb_databases', 'TABLE_MISSING'],
  ['SELECT * FROM pragma_database_list', 'TABLE_MISSING'],
  ['SELECT * FROM pragma_version()', 'SQL_NOT_ALLOWED'],
  ["SELECT current_setting('temp_directory')", 'SQL_NOT_ALLOWED'],
  ["SELECT getenv('PATH')", 'SQL_NOT_ALLOWED'],
  ["SELECT write_log('x')", 'SQL_NOT_ALLOWED'],
  ["SELECT (SELECT id FROM (SELECT * FROM 'own.csv'))", 'TABLE_MISSING'],
  ['SELECT * FROM "/etc/passwd"', 'TABLE_MISSING'],
  ["SELECT * FROM '**/*.csv'", 'TABLE_MISSING'],
  ['SELECT 1 WHERE EXISTS (FROM duckdb_logs())', 'SQL_NOT_ALLOWED'],
  ["SELECT list_transform([1], x -> (SELECT count(*) FROM read_blob('/etc/passwd')))", 'SQL_NOT_ALLOWED'],
  ['SELECT * FROM duckdb_views, (WITH duckdb_views AS (SELECT 1) SELECT * FROM duckdb_views)', 'SQL_NOT_ALLOWED'],
  ['SELECT * FROM "own.csv", (WITH "own.csv" AS (SELECT 1) SELECT 1)', 'SQL_NOT_ALLOWED'],
  ['SHOW TABLES', 'SQL_NOT_ALLOWED'],
  ['SUMMARIZE customers', 'SQL_NOT_ALLOWED'],
  ['PRAGMA version', 'SQL_NOT_ALLOWED'],
  ['SELECT 1; SELECT 2', 'SQL_NOT_ALLOWED'],
  ["SELECT 1; COPY customers TO 'x.csv'", 'SQL_NOT_ALLOWED'],
  ["COPY customers TO 'x.csv'", 'SQL_NOT_ALLOWED'],
  ["ATTACH 'x.db' AS x", 'SQL_NOT_ALLOWED'],
  ["ATTACH ':memory:' AS x", 'SQL_NOT_ALLOWED'],
  ['SET threads = 64', 'SQL_NOT_ALLOWED'],
  ['SET VARIABLE x = 1', 'SQL_NOT_ALLOWED'],
  ['INSTALL httpfs', 'SQL_NOT_ALLOWED'],
  ['LOAD httpfs', 'SQL_NOT_ALLOWED'],
  ['CALL enable_logging()', 'SQL_NOT_ALLOWED'],
  ['DROP TABLE customers', 'SQL_NOT_ALLOWED'],
  ['DELETE FROM customers', 'SQL_NOT_ALLOWED'],
  ['CREATE TABLE y AS SELECT 1', 'SQL_NOT_ALLOWED'],
  ['EXPLAIN SELECT 1', 'SQL_NOT_ALLOWED'],
  ['PIVOT customers ON name', 'SQL_NOT_ALLOWED'],
  ['SELECT * FROM nobody', 'TABLE_MISSING'],
  ['SELECT * FROM temp.staged', 'TABLE_MISSING'],
  ['SELECT nothing FROM customers', 'SQL_INVALID'],
  ['SELEC 1', 'SQL_INVALID'],
  ['SELECT 1) TO STDOUT; --', 'SQL_INVALID'],
  ['', 'SQL_NOT_ALLOWED'],
  ['-- nothing', 'SQL_NOT_ALLOWED'],
])('%s is refused with %s', async (text, code) => {
  await using t = await withTable()
  const answer = await check(t, text)
  expect(answer).toMatch(new RegExp(`^${code}: `))
  expect(answer).not.toMatch(/\/tmp\/|lake\.duckdb/)
})

const outcome = (running: Promise<unknown>): Promise<string> =>
  running.then(
    () => 'done',
    (error: Error) => error.name,
  )

// The walls hold without the check, too: this is what stands if a statement slips past it.
test('the engine itself reaches no file outside the tenant, no setting and no extension', async () => {
  await using t = await withTable()
  await using other = await tenant({ id: 'other' })
  await writeFile(join(other.root, 'secret.csv'), 'a\n1\n')
  using connection = await t.lake.connectForTenant(new AbortController().signal)
  for (const text of [
    `SELECT * FROM read_csv('${join(other.root, 'secret.csv')}')`,
    `SELECT * FROM read_text('/etc/hostname')`,
    `SELECT * FROM read_text('${t.root}/../lake.duckdb')`,
    `COPY (SELECT 1) TO '/tmp/outside-the-lake.csv'`,
    `ATTACH '${join(other.root, 'x.db')}' AS x`,
    `SET memory_limit = '64GB'`,
    `SET enable_external_access = true`,
    `SET allowed_directories = ['/']`,
    `INSTALL httpfs`,
  ])
    expect(`${text}: ${await outcome(connection.run(text))}`).toBe(`${text}: AppError`)
})

test('an abort ends a query that would never end', async () => {
  await using t = await withTable()
  const stop = new AbortController()
  using connection = await t.lake.connectForTenant(stop.signal)
  const running = connection.rows('SELECT count(*) FROM range(10000000) a(x), range(10000000) b(y) WHERE x + y = 7')
  stop.abort()
  await expect(running).rejects.toMatchObject({ code: 'CANCELLED' })
})
