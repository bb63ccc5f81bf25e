import { existsSync } from 'node:fs'
import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { AppError } from '../../../shared/errors.ts'
import type { Binding, Job } from '../../../workers/process/messages.ts'
import { type ProcessPool, processPool } from '../../../workers/process/pool.ts'

let folder = ''
let pool: ProcessPool
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cage-'))
  pool = processPool({ idleMs: 120_000, killAfterMs: 500 })
  await run('hostile', 'SELECT 1 AS a, 1 AS b')
  await run('calm', 'SELECT 1 AS a')
  await writeFile(join(folder, 'hostile', 'files', 'own.csv'), 'a,b\n1,2\n')
  await writeFile(join(folder, 'calm', 'files', 'secret.csv'), 'a\ncanary\n')
})
afterAll(async () => {
  await pool.close()
  await rm(folder, { recursive: true, force: true })
})

const disk = 256 * 2 ** 20
const binding = (tenantId: string): Binding => ({
  tenant: { id: tenantId, companyName: tenantId, adminEmail: 'admin@example.com' },
  store: { file: join(folder, tenantId, 'lake.duckdb') },
  filesRoot: join(folder, tenantId, 'files'),
  workRoot: join(folder, tenantId, 'work'),
  limits: { memoryBytes: 512 * 2 ** 20, threads: 1, diskBytes: disk, rowsMax: 50_000_000 },
  allowPrivateNetwork: true,
})

let fence = 0n
const job = (query: string, table = 't', mode = 'replace'): Job => ({
  id: `job ${++fence}`,
  psType: 'sql.transform',
  run: { id: `run_${fence}`, pipelineId: 'test', trigger: 'manual', actor: 'key:test' },
  step: { key: 'step', attempt: 1, cycle: 0, fence },
  settings: { query, destination: { table, mode } },
  values: {},
  secret: null,
})
const quiet = { progress: () => undefined, log: () => undefined }
const run = (tenantId: string, query: string, signal = new AbortController().signal) =>
  pool.run(binding(tenantId), job(query), quiet, signal)

/** Runs it as the hostile tenant while another tenant works, and gives what the hostile one was told. */
async function attack(query: string, signal?: AbortSignal): Promise<AppError> {
  const [answer, beside] = await Promise.all([
    run('hostile', query, signal).then(
      () => expect.fail(`it ran: ${query}`),
      (error: AppError) => error,
    ),
    run('calm', 'SELECT sum(range) AS s FROM range(1000)'),
  ])
  expect(beside.outputs).toMatchObject({ rows: 1 })
  return answer
}

test.each([
  // Files and the network
  `SELECT * FROM read_csv('own.csv')`,
  `SELECT * FROM read_csv_auto('/etc/passwd')`,
  `SELECT * FROM read_text('/proc/self/environ')`,
  `SELECT * FROM read_blob('/proc/1/mem')`,
  `SELECT * FROM read_json('x.json')`,
  `SELECT * FROM read_json_objects('/etc/hostname')`,
  `SELECT * FROM read_ndjson('/etc/hostname')`,
  `SELECT * FROM read_parquet('https://example.com/x.parquet')`,
  `SELECT * FROM parquet_scan('x.parquet')`,
  `SELECT * FROM parquet_schema('x.parquet')`,
  `SELECT * FROM parquet_kv_metadata('x.parquet')`,
  `SELECT * FROM read_duckdb('../calm/lake.duckdb')`,
  `SELECT * FROM glob('/**')`,
  `SELECT * FROM sniff_csv('../../calm/files/secret.csv')`,
  `SELECT * FROM '../../calm/files/secret.csv'`,
  `SELECT * FROM '/etc/passwd'`,
  `FROM "own.csv"`,
  `SELECT (SELECT count(*) FROM 'own.csv')`,
  `WITH x AS (SELECT * FROM read_text('/etc/hostname')) SELECT * FROM x`,
  `SELECT list_transform([1], x -> (SELECT count(*) FROM read_blob('/etc/passwd')))`,
  `SELECT 1 AS a UNION ALL SELECT size FROM read_text('/etc/hostname')`,
  `SELECT 1 AS a ORDER BY (SELECT count(*) FROM glob('*'))`,
  `SELECT * FROM t, LATERAL (SELECT * FROM read_csv('own.csv'))`,
  `SELECT * FROM (PIVOT (SELECT * FROM read_csv('own.csv')) ON a USING sum(b))`,
  `COPY t TO '/tmp/stolen.csv'`,
  `COPY t FROM 'own.csv'`,
  `COPY (SELECT 1) TO '/dev/stdout'`,
  `EXPORT DATABASE '/tmp/stolen'`,
  `IMPORT DATABASE '/tmp/stolen'`,
  `ATTACH '../calm/lake.duckdb' AS other`,
  `ATTACH ':memory:' AS m`,
  `DETACH lake`,
  `USE memory`,
  // Extensions and secrets
  `INSTALL httpfs`,
  `LOAD httpfs`,
  `LOAD '/tmp/evil.duckdb_extension'`,
  `CREATE SECRET s (TYPE s3, KEY_ID 'a', SECRET 'b')`,
  `SELECT * FROM duckdb_secrets()`,
  `SELECT * FROM which_secret('s3://x', 's3')`,
  // The machine and the engine
  `SELECT getenv('PATH') AS a`,
  `SELECT system.main.getenv('PATH') AS a`,
  `SELECT current_setting('temp_directory') AS a`,
  `SELECT version() AS a`,
  `SELECT current_query() AS a`,
  `SELECT pg_postmaster_start_time() AS a`,
  `SELECT getvariable('x') AS a`,
  `SELECT * FROM duckdb_settings()`,
  `SELECT * FROM duckdb_databases()`,
  `SELECT * FROM duckdb_databases`,
  `SELECT * FROM duckdb_temporary_files()`,
  `SELECT * FROM duckdb_memory()`,
  `SELECT * FROM pragma_database_size()`,
  `SELECT * FROM pragma_database_list`,
  `SELECT * FROM pragma_storage_info('t')`,
  `SELECT * FROM sqlite_master`,
  `SELECT * FROM information_schema.tables`,
  `SELECT * FROM pg_catalog.pg_settings`,
  `SELECT * FROM memory.main.t`,
  `SELECT * FROM enable_logging(storage = 'file', storage_path = '/tmp/log')`,
  `WITH x AS (SELECT * FROM enable_logging()) SELECT * FROM x`,
  `CALL enable_logging(storage = 'file', storage_path = '/tmp/log')`,
  `SELECT * FROM enable_profiling()`,
  `SELECT * FROM force_checkpoint()`,
  `SELECT write_log('x') AS a`,
  `SELECT sleep_ms(60000) AS a`,
  `PRAGMA enable_profiling`,
  `PRAGMA database_list`,
  `SET memory_limit = '64GB'`,
  `RESET memory_limit`,
  `SET VARIABLE x = 1`,
  `SET search_path = 'system'`,
  // SQL in a text
  `SELECT * FROM query('SELECT * FROM duckdb_settings()')`,
  `SELECT * FROM query_table('duckdb_settings')`,
  `SELECT * FROM query_table(['t'])`,
  `SELECT * FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))`,
  `PRAGMA json_execute_serialized_sql('{}')`,
  `SELECT json_serialize_plan('SELECT * FROM read_text(''/etc/hostname'')') AS a`,
  `SELECT * FROM sql_auto_complete('SEL')`,
  `PREPARE p AS SELECT 1`,
  `EXECUTE p`,
  // Writing
  `DROP TABLE raw.x_meta_tables`,
  `DELETE FROM raw.x_meta_load_receipts`,
  `UPDATE t SET a = 2`,
  `INSERT INTO t SELECT 1`,
  `CREATE TABLE x AS SELECT 1`,
  `CREATE MACRO m() AS TABLE SELECT * FROM 'own.csv'`,
  `ALTER TABLE t RENAME TO u`,
  `TRUNCATE t`,
  `CHECKPOINT`,
  `VACUUM`,
  `BEGIN`,
  `COMMIT`,
  `EXPLAIN ANALYZE SELECT 1`,
  // Out of the bracket
  `SELECT 1; COPY t TO 'x.csv'`,
  `SELECT 1) TO 'x.csv'; --`,
  `SELECT 1) UNION ALL SELECT * FROM read_text('/etc/hostname'); --`,
  `SELECT 1 /* */; ATTACH 'x' AS y`,
  `SELECT $$ $$; DROP TABLE t`,
  // Faults whose messages could tell a place
  `SELECT CAST('/etc/passwd' AS INTEGER) AS a`,
  `SELECT error('x') AS a`,
  `SELECT * FROM nobody`,
])('%s is refused', async (query) => {
  const pid = pool.pids().get('hostile')
  const error = await attack(query)
  expect(error.code).toMatch(/^(SQL_NOT_ALLOWED|SQL_INVALID|TABLE_MISSING)$/)
  expect(error.message).not.toContain(folder)
  expect(error.message).not.toMatch(/lake\.duckdb|canary|root:/)
  expect(pool.pids().get('hostile')).toBe(pid)
})

const linux = existsSync('/proc/self/limits')
const bombs: [string, string, RegExp][] = [
  ['string', `SELECT length(repeat('x', 4000000000)) AS n`, /^MEMORY_EXCEEDED$/],
  [
    'doubling strings',
    `SELECT length(repeat(repeat(repeat('x', 65536), 65536), 9)) AS n`,
    /^(MEMORY_EXCEEDED|SQL_INVALID)$/,
  ],
  ['list', `SELECT len(list(range)) AS n FROM range(2000000000)`, /^(MEMORY_EXCEEDED|DISK_FULL)$/],
  [
    'aggregate of texts',
    `SELECT length(string_agg(repeat('x', 1000), '')) AS n FROM range(100000000)`,
    /^MEMORY_EXCEEDED$/,
  ],
  [
    'sort',
    `SELECT range, hash(range) AS h, repeat('x', 100) AS x FROM range(1000000000) ORDER BY h`,
    /^(DISK_FULL|MEMORY_EXCEEDED)$/,
  ],
  ['disk', `SELECT hash(range) AS a, hash(range + 1) AS b, hash(range + 2) AS c FROM range(50000000)`, /^DISK_FULL$/],
  ['rows', `SELECT 1::UTINYINT AS a FROM range(60000000)`, /^QUOTA_EXCEEDED$/],
]
test.skipIf(!linux).each(bombs)(
  'a %s bomb ends at the limits of its own process, and the tenant goes on',
  async (_, query, code) => {
    expect((await attack(query, AbortSignal.timeout(50_000))).code).toMatch(code)
    expect((await run('hostile', 'SELECT 1 AS a, 1 AS b')).outputs).toMatchObject({ rows: 1 })
    expect((await stat(binding('hostile').store.file)).size).toBeLessThan(2 * disk)
  },
  60_000,
)

test.each([
  ['cross join', `SELECT count(*) AS n FROM range(10000000) a, range(10000000) b WHERE a.range % 7 = b.range % 11`],
  ['recursive query', `WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n FROM r) SELECT count(*) AS n FROM r`],
  ['series', `SELECT count(*) AS n FROM range(9000000000000)`],
  ['function', `SELECT levenshtein(repeat('a', 150000), repeat('b', 150000)) AS n`],
])('a %s without end ends with the time of its step', async (_, query) => {
  const begun = performance.now()
  const error = await attack(query, AbortSignal.timeout(1_500))
  expect(error.code).toMatch(/^(CANCELLED|PROCESS_DIED|MEMORY_EXCEEDED|DISK_FULL)$/)
  expect(performance.now() - begun).toBeLessThan(30_000)
})

test('expressions that cost a naive engine hours are answered at once', async () => {
  const begun = performance.now()
  await run('hostile', `SELECT regexp_matches(repeat('a', 100000) || '!', '(a+)+$') AS m, 1 AS b`)
  expect((await attack(`SELECT ${'1+'.repeat(90_000)}1 AS a`)).code).toBe('SQL_INVALID')
  expect(performance.now() - begun).toBeLessThan(30_000)
})
