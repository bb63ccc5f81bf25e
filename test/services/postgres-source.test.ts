import pg from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import ingest from '../../workers/processors/db/ingest.ts'
import postgres from '../../workers/sources/postgres.ts'
import { rowCanary } from '../support/canary.ts'
import { postgresLogin, startPostgres } from '../support/postgres.ts'
import { tenant, type Tenant } from '../support/step-context.ts'

const server = await startPostgres()
const admin = 'skipped' in server ? undefined : new pg.Client({ connectionString: server.url })

describe.skipIf('skipped' in server)(
  `db.ingest from PostgreSQL${'skipped' in server ? `, left out: ${server.skipped}` : ''}`,
  () => {
    const port = 'skipped' in server ? 0 : server.port
    const secret = { host: '127.0.0.1', port, ...postgresLogin }
    const sql = async (text: string): Promise<void> => void (await admin?.query(text))
    const load = (t: Tenant, query: string, given: object = {}, destination: object = {}) =>
      t.run(
        ingest,
        { source: { query }, destination: { table: 'orders', business_key: ['id'], ...destination } },
        { secret, ...given },
      )

    beforeAll(async () => {
      await admin?.connect()
    })
    afterAll(async () => {
      await admin?.end()
      if (!('skipped' in server)) await server.stop()
    })

    test('every value arrives as it was, whatever its type', async () => {
      await sql(`CREATE TYPE mood AS ENUM ('ok', 'so "so"');
      CREATE TABLE kinds (id bigint, n numeric(38,10), loose numeric, f float8, t text, e text, ts timestamptz, d date, u uuid,
        j jsonb, b bytea, a text[], m mood, yes boolean, i interval, tm time);
      INSERT INTO kinds VALUES (9007199254740993, 1234567890123456789012345678.0123456789, 1.10, 0.30000000000000004,
        E'two\\nlines, "q" \\\\N', '', '2024-02-29 23:59:59.123456+05:30', '0001-01-01',
        '00000000-0000-0000-0000-00000000000a', '{"k": [1, "x"]}', '\\xdeadbeef', '{a,"b c"}', 'so "so"', true, '1 day', '23:59:59'),
        (2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)`)
      await using t = await tenant()
      expect(await load(t, 'SELECT * FROM kinds;')).toMatchObject({ rows: 2, inserted: 2, score: 1 })
      expect(await t.rows(`SELECT * FROM lake.main.orders ORDER BY id DESC`)).toEqual([
        {
          id: '9007199254740993',
          n: '1234567890123456789012345678.0123456789',
          loose: '1.10',
          f: 0.30000000000000004,
          t: 'two\nlines, "q" \\N',
          e: '',
          ts: '2024-02-29 18:29:59.123456+00',
          d: '0001-01-01',
          u: '00000000-0000-0000-0000-00000000000a',
          j: '{"k": [1, "x"]}',
          b: '\\xdeadbeef',
          a: '{a,"b c"}',
          m: 'so "so"',
          yes: true,
          i: '1 day',
          tm: '23:59:59',
        },
        Object.fromEntries(
          ['id', 'n', 'loose', 'f', 't', 'e', 'ts', 'd', 'u', 'j', 'b', 'a', 'm', 'yes', 'i', 'tm'].map((name) => [
            name,
            name === 'id' ? '2' : null,
          ]),
        ),
      ])
    })

    test('a second load writes what changed, placeholders are bound, and a repeat reads nothing', async () => {
      await sql(`CREATE TABLE sales AS SELECT i AS id, i % 5 AS kind, 'n' || i AS name FROM generate_series(1, 1000) i`)
      await using t = await tenant()
      const query = `SELECT id, kind, name FROM sales WHERE name <> '{not}' AND id <= {upto}`
      const values = { not: "n'7", upto: 900 }
      expect(await load(t, query, { values })).toMatchObject({ inserted: 900 })
      expect(await load(t, query, { values })).toMatchObject({ inserted: 0, updated: 0, deleted: 0, unchanged: 900 })
      await sql(`UPDATE sales SET name = NULL WHERE id = 1; DELETE FROM sales WHERE id = 2`)
      const step = { runId: 'run_again', stepKey: 'ingest', values: { ...values, not: '', upto: 901 } }
      const counts = await load(t, `${query} OR id = 1`, { ...step, fence: 70n })
      expect(counts).toMatchObject({ rows: 900, inserted: 1, updated: 1, deleted: 1 })
      await sql(`TRUNCATE sales`)
      expect(await load(t, query, { ...step, fence: 71n })).toEqual(counts)
    })

    test('values that the table cannot take are quarantined, and the greatest cursor wins a key', async () => {
      await sql(`CREATE TABLE a1 AS SELECT i AS id, i AS n FROM generate_series(1, 3) i;
      CREATE TABLE a2 AS SELECT i AS id, i + 0.5 AS n FROM generate_series(1, 3) i;
      CREATE TABLE a3 (id int, n int, at int); INSERT INTO a3 VALUES (1, 5, 2), (1, 9, 3), (1, 7, 1), (NULL, 1, 1)`)
      await using t = await tenant()
      await load(t, 'SELECT * FROM a1')
      expect(await load(t, 'SELECT id, n FROM a2 UNION ALL SELECT 4, 4')).toMatchObject({
        rows: 1,
        rejected: 3,
        deleted: 0,
      })
      const outputs = await t.run(
        ingest,
        { source: { query: 'SELECT * FROM a3', cursor: 'at' }, destination: { table: 'latest', business_key: ['id'] } },
        { secret },
      )
      expect(outputs).toMatchObject({ rows: 1, rejected: 3 })
      expect(await t.rows(`SELECT n FROM lake.main.latest`)).toEqual([{ n: 9 }])
    })

    test.each([
      [{ password: 'wrong' }, 'SELECT 1 AS id', 'CREDENTIAL_REJECTED'],
      [{ database: 'nowhere' }, 'SELECT 1 AS id', 'CREDENTIAL_REJECTED'],
      [{ port: 1 }, 'SELECT 1 AS id', 'CONNECTION_FAILED'],
      [{ ssl: true }, 'SELECT 1 AS id', 'CONNECTION_FAILED'],
      [{}, 'SELECT nothing FROM nowhere', 'SQL_INVALID'],
      [{}, 'SELECT 1 AS id; SELECT 2 AS id', 'SQL_INVALID'],
      [{}, 'SELECT 1 AS id) q; DROP TABLE kinds; --', 'SQL_INVALID'],
      [{}, 'DELETE FROM kinds RETURNING id', 'SQL_INVALID'],
      [{}, `SELECT id FROM kinds WHERE nextval('s') > 0`, 'SQL_INVALID'],
      [{}, 'SELECT 1 AS id, 2 AS id', 'SQL_INVALID'],
      [{}, 'SELECT 1 / (i - 500) AS id FROM generate_series(1, 1000) i', 'SQL_INVALID'],
    ])('%o %s ends with a code to act on', async (change, query, code) => {
      await using t = await tenant()
      const failure = await load(t, query, { secret: { ...secret, ...change } }).then(
        () => undefined,
        (error) => error,
      )
      expect(failure).toMatchObject({ code })
      expect(String(failure.message)).not.toContain(postgresLogin.password)
      expect(await t.rows(`SELECT count(*)::INTEGER AS n FROM lake.raw.x_meta_tables`)).toEqual([{ n: 0 }])
    })

    test('a value of a row that the server quotes is not told', async () => {
      await using t = await tenant()
      const word = rowCanary('of-postgres')
      const quoting = [
        `SELECT id::int FROM (SELECT '${word}'::text AS id OFFSET 0) q`,
        `SELECT 1 AS id, to_date(w, 'YYYY') AS d FROM (SELECT '${word}'::text AS w OFFSET 0) q`,
        `SELECT xmlparse(document w)::text AS id FROM (SELECT '${word}'::text AS w OFFSET 0) q`,
      ]
      for (const query of quoting) {
        const message: string = await load(t, query).then(
          () => 'it went through',
          (error) => error.message,
        )
        expect([query, message.startsWith('The server '), message.includes(word)]).toEqual([query, true, false])
      }
    })

    test('a value that its type cannot hold here is named', async () => {
      await using t = await tenant()
      await expect(load(t, `SELECT 1 AS id, 'NaN'::numeric(10,2) AS n`)).rejects.toMatchObject({
        code: 'SOURCE_FAILED',
        message: expect.stringMatching(/^The column n holds "NaN", which is no DECIMAL/),
      })
    })

    test('an abort ends the read and lets go of the server', async () => {
      await using t = await tenant()
      const stop = new AbortController()
      const reading = load(t, 'SELECT i AS id, pg_sleep(0.01) IS NULL AS s FROM generate_series(1, 100000) i', {
        signal: stop.signal,
      })
      await expect.poll(() => running()).toBe(1)
      stop.abort()
      await expect(reading).rejects.toMatchObject({ code: 'CANCELLED' })
      await expect.poll(() => running(), { timeout: 15_000 }).toBe(0)
    }, 30_000)

    async function running(): Promise<number> {
      const found = await admin?.query(
        `SELECT 1 FROM pg_stat_activity WHERE application_name = 'tributary' AND state = 'active'`,
      )
      return found?.rowCount ?? -1
    }

    test('the check of a credential opens a connection, or says what is wrong', async () => {
      const ctx = { signal: new AbortController().signal, allowPrivateNetwork: true }
      const full = postgres.secret.parse(secret)
      await postgres.check(ctx, full)
      await expect(postgres.check(ctx, { ...full, password: 'x' })).rejects.toMatchObject({
        code: 'CREDENTIAL_REJECTED',
      })
      await expect(postgres.check({ ...ctx, allowPrivateNetwork: false }, full)).rejects.toMatchObject({
        code: 'EGRESS_DENIED',
      })
    })
  },
)

test.runIf('skipped' in server)('db.ingest from PostgreSQL is skipped', () => {
  expect(server).toMatchObject({ skipped: expect.any(String) })
})
