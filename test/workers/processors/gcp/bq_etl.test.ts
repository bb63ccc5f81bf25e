import { expect, test } from 'vitest'
import bqEtl from '../../../../workers/processors/gcp/bq_etl.ts'
import bigquery from '../../../../workers/sources/bigquery.ts'
import { fakeBigQuery, type FakeBigQuery, type Result } from '../../../fakes/bigquery/server.ts'
import { rowCanary } from '../../../support/canary.ts'
import { type Given, tenant, type Tenant } from '../../../support/step-context.ts'

const query = "SELECT * FROM {source_table} WHERE date='{date}'"
const values = { source_table: 'billing_export', date: '2024-11-01' }
const days: Result = {
  fields: [
    { name: 'date', type: 'DATE' },
    { name: 'service', type: 'STRING' },
    { name: 'cost', type: 'NUMERIC' },
  ],
  rows: [
    ['2024-11-01', 'Compute "A", B', '12.340000001'],
    ['2024-11-01', null, '-0.5'],
    ['2024-11-01', '', null],
  ],
}

const load = (t: Tenant, server: FakeBigQuery, given: Given = {}, destination: object = {}, text = query) =>
  t.run(
    bqEtl,
    { source: { query: text }, destination: { table: 'billing_cost_daily', ...destination } },
    { secret: server.secret, values, ...given },
  )
const failureOf = (work: Promise<unknown>): Promise<Error & { code?: string }> =>
  work.then(
    () => new Error('it succeeded'),
    (error) => error,
  )

test('a query becomes a table, its value bound, its name quoted and looked for in the dataset', async () => {
  await using server = await fakeBigQuery()
  await using t = await tenant()
  server.result(days)
  expect(await load(t, server)).toMatchObject({ rows: 3, inserted: 3, score: 1 })
  expect(server.jobs.map(({ request }) => request)).toMatchObject([
    {
      query: 'SELECT * FROM `billing_export` WHERE date=@p1',
      parameterMode: 'NAMED',
      queryParameters: [{ name: 'p1', parameterType: { type: 'STRING' }, parameterValue: { value: '2024-11-01' } }],
      defaultDataset: { projectId: 'my-project-1', datasetId: 'billing' },
    },
  ])
  expect(await t.rows(`SELECT * FROM lake.main.billing_cost_daily ORDER BY cost`)).toEqual([
    { date: '2024-11-01', service: null, cost: '-0.500000000' },
    { date: '2024-11-01', service: 'Compute "A", B', cost: '12.340000001' },
    { date: '2024-11-01', service: '', cost: null },
  ])
})

test('a day that is run again doubles nothing, and a repeat of a step asks nothing', async () => {
  await using server = await fakeBigQuery()
  await using t = await tenant()
  server.result(days)
  await load(t, server)
  const step = { runId: 'run_again', stepKey: 'extract' }
  const counts = await load(t, server, { ...step, fence: 70n })
  const calls = server.calls.length
  expect(await load(t, server, { ...step, fence: 71n })).toEqual(counts)
  expect(server.calls).toHaveLength(calls)
  expect(await t.rows(`SELECT count(*)::INTEGER AS n FROM lake.main.billing_cost_daily`)).toEqual([{ n: 3 }])
})

test('with a business key the table keeps versions', async () => {
  await using server = await fakeBigQuery()
  await using t = await tenant()
  const result = (cost: string): Result => ({ ...days, rows: [['2024-11-01', 'Compute', cost]] })
  server.result(result('1'))
  const destination = { business_key: ['date', 'service'], snapshot: 'delta' }
  expect(await load(t, server, {}, destination)).toMatchObject({ inserted: 1 })
  server.result(result('2'))
  expect(await load(t, server, {}, destination)).toMatchObject({ inserted: 0, updated: 1 })
})

test.each([`'; DROP TABLE billing_export; --`, `' OR '1'='1`, '`', '@p1', '\\'])(
  'the value %s never becomes SQL',
  async (date) => {
    await using server = await fakeBigQuery()
    await using t = await tenant()
    await load(t, server, { values: { ...values, date } })
    expect(server.jobs[0]?.request).toMatchObject({
      query: 'SELECT * FROM `billing_export` WHERE date=@p1',
      queryParameters: [{ parameterValue: { value: date } }],
    })
  },
)

test('numbers, truth values and nothing are bound as what they are', async () => {
  await using server = await fakeBigQuery()
  await using t = await tenant()
  const text = "SELECT {a}, {b}, {c}, '{d}', {a} FROM `{source_table}`"
  await load(t, server, { values: { ...values, a: 5, b: 0.5, c: true, d: null, source_table: 'p-1.d.t' } }, {}, text)
  const { request } = server.jobs[0] ?? {}
  expect(request?.query).toBe('SELECT @p1, @p2, @p3, @p4, @p5 FROM `p-1`.`d`.`t`')
  const parameters = request?.queryParameters.map((p) => [p.parameterType.type, p.parameterValue.value])
  expect(parameters).toEqual([
    ['INT64', '5'],
    ['FLOAT64', '0.5'],
    ['BOOL', 'true'],
    ['STRING', null],
    ['INT64', '5'],
  ])
})

test('every value arrives as it was, whatever its type', async () => {
  await using server = await fakeBigQuery()
  await using t = await tenant()
  const column = (name: string, type: string, mode = 'NULLABLE') => ({ name, type, mode })
  const parts = [column('n', 'INTEGER'), column('at', 'TIMESTAMP'), column('tags', 'STRING', 'REPEATED')]
  const fields = [
    column('i', 'INTEGER'),
    column('f', 'FLOAT'),
    column('num', 'NUMERIC'),
    column('big', 'BIGNUMERIC'),
    column('yes', 'BOOLEAN'),
    column('s', 'STRING'),
    column('by', 'BYTES'),
    column('d', 'DATE'),
    column('tm', 'TIME'),
    column('dt', 'DATETIME'),
    column('ts', 'TIMESTAMP'),
    column('j', 'JSON'),
    column('g', 'GEOGRAPHY'),
    column('list', 'FLOAT', 'REPEATED'),
    { ...column('rec', 'RECORD'), fields: parts },
    { ...column('recs', 'RECORD', 'REPEATED'), fields: parts },
  ]
  const record = { f: [{ v: '9007199254740993' }, { v: '1730419200123456' }, { v: [{ v: 'a"b' }] }] }
  server.result({
    fields,
    rows: [
      [
        '9007199254740993',
        '0.30000000000000004',
        '99999999999999999999999999999.999999999',
        '1e38'.padEnd(60, '0'),
        'true',
        'two\nlines, "q" \\N ß😀',
        '3q2+7w==',
        '0001-01-01',
        '23:59:59.999999',
        '2024-02-29T23:59:59.123456',
        '1709251199123456',
        '{"k":[1,"x"]}',
        'POINT(1 2)',
        [{ v: '1.5' }, { v: 'NaN' }],
        record,
        [{ v: record }],
      ],
      [
        '-1',
        'NaN',
        '0',
        '0',
        'false',
        '',
        '',
        '9999-12-31',
        '00:00:00',
        '0001-01-01T00:00:00',
        '-1',
        'null',
        '',
        [],
        null,
        [],
      ],
      [
        '-2',
        '-Infinity',
        null,
        null,
        null,
        null,
        null,
        null,
        null,
        null,
        '-62135596800000000',
        null,
        null,
        [],
        null,
        [],
      ],
    ],
  })
  await load(t, server)
  const columns = await t.rows(`SELECT column_type AS t FROM (DESCRIBE lake.main.billing_cost_daily)`)
  expect(columns.map((row) => row['t']).join()).toBe(
    'BIGINT,DOUBLE,DECIMAL(38,9),VARCHAR,BOOLEAN,VARCHAR,VARCHAR,DATE,TIME,TIMESTAMP,TIMESTAMP WITH TIME ZONE,JSON,VARCHAR,JSON,JSON,JSON',
  )
  const rows = await t.rows(`SELECT * REPLACE (f::VARCHAR AS f) FROM lake.main.billing_cost_daily ORDER BY i DESC`)
  const json = '{"n":9007199254740993,"at":"2024-11-01T00:00:00.123456+00","tags":["a\\"b"]}'
  expect(rows).toEqual([
    {
      i: '9007199254740993',
      f: '0.30000000000000004',
      num: '99999999999999999999999999999.999999999',
      big: '1e38'.padEnd(60, '0'),
      yes: true,
      s: 'two\nlines, "q" \\N ß😀',
      by: '3q2+7w==',
      d: '0001-01-01',
      tm: '23:59:59.999999',
      dt: '2024-02-29 23:59:59.123456',
      ts: '2024-02-29 23:59:59.123456+00',
      j: '{"k":[1,"x"]}',
      g: 'POINT(1 2)',
      list: '[1.5,"NaN"]',
      rec: json,
      recs: `[${json}]`,
    },
    {
      i: '-1',
      f: 'nan',
      num: '0.000000000',
      big: '0',
      yes: false,
      s: '',
      by: '',
      d: '9999-12-31',
      tm: '00:00:00',
      dt: '0001-01-01 00:00:00',
      ts: '1969-12-31 23:59:59.999999+00',
      j: 'null',
      g: '',
      list: '[]',
      rec: null,
      recs: '[]',
    },
    expect.objectContaining({ i: '-2', f: '-inf', num: null, ts: '0001-01-01 00:00:00+00', j: null, rec: null }),
  ])
  expect(t.lines).toContain('info: by: BYTES are kept as base64 text.')
})

test('rows of nothing but NULL, and texts with anything in them, are rows all the same', async () => {
  await using server = await fakeBigQuery()
  await using t = await tenant()
  server.result({ fields: [{ name: 's', type: 'STRING' }], rows: [[null], ['a\u0000b'], ['\r'], [null]] })
  expect(await load(t, server)).toMatchObject({ rows: 4 })
  const rows = await t.rows(`SELECT s FROM lake.main.billing_cost_daily ORDER BY s NULLS LAST`)
  expect(rows.map((row) => row['s'])).toEqual(['\r', 'a\u0000b', null, null])
})

test('a result of many pages arrives whole, after a job that takes its time', async () => {
  await using server = await fakeBigQuery()
  await using t = await tenant()
  const rows = Array.from({ length: 25 }, (_, i) => [String(i)])
  server.result({ fields: [{ name: 'i', type: 'INT64' }], rows, pageRows: 10, waits: 3 })
  expect(await load(t, server)).toMatchObject({ rows: 25 })
  expect(await t.rows(`SELECT sum(i)::INTEGER AS n FROM lake.main.billing_cost_daily`)).toEqual([{ n: 300 }])
  expect(server.calls).toEqual(['token', 'query', 'page', 'page', 'page', 'page', 'page'])
})

test('an empty result is an empty table', async () => {
  await using server = await fakeBigQuery()
  await using t = await tenant()
  server.result({ ...days, rows: [] })
  expect(await load(t, server)).toMatchObject({ rows: 0, score: 1 })
  expect(await t.rows(`SELECT * FROM lake.main.billing_cost_daily`)).toEqual([])
})

test('a server that is busy or hangs up is asked again, and a query sent twice is one job', async () => {
  await using server = await fakeBigQuery()
  await using t = await tenant()
  server.result({ ...days, pageRows: 2 })
  server.fail('token', { status: 503, reason: 'backendError', retryAfter: '0' })
  server.fail('query', { status: 403, reason: 'rateLimitExceeded', retryAfter: '0' })
  server.fail('query', 'lost')
  server.fail('page', 'lost')
  server.fail('page', { status: 429, reason: 'rateLimitExceeded', retryAfter: '0' }, 4)
  expect(await load(t, server)).toMatchObject({ rows: 3 })
  expect(server.jobs).toHaveLength(1)
})

test('it is asked five times again and no more', async () => {
  await using server = await fakeBigQuery()
  await using t = await tenant()
  server.fail('query', { status: 503, reason: 'backendError', retryAfter: '0' }, 20)
  expect(await failureOf(load(t, server))).toMatchObject({ code: 'SOURCE_FAILED', retry: 'later' })
  expect(server.calls.filter((call) => call === 'query')).toHaveLength(6)
})

test('a server that wants more than a minute is left to the next attempt of the step', async () => {
  await using server = await fakeBigQuery()
  await using t = await tenant()
  server.fail('query', { status: 429, reason: 'rateLimitExceeded', retryAfter: '3600' })
  expect(await failureOf(load(t, server))).toMatchObject({ code: 'SOURCE_FAILED', retry: 'later' })
})

test('a token that Google took back is replaced once', async () => {
  await using server = await fakeBigQuery()
  await using t = await tenant()
  server.result({ ...days, pageRows: 2 })
  server.fail('page', { status: 401, reason: 'authError' })
  expect(await load(t, server)).toMatchObject({ rows: 3 })
  server.fail('page', { status: 401, reason: 'authError' }, 2)
  expect(await failureOf(load(t, server))).toMatchObject({ code: 'CREDENTIAL_REJECTED' })
})

test.each([
  ['invalidQuery', { status: 400, reason: 'invalidQuery', message: 'Unrecognized name: x at [1:8]' }, 'SQL_INVALID'],
  ['accessDenied', { status: 403, reason: 'accessDenied', message: '' }, 'CREDENTIAL_REJECTED'],
  ['notFound', { status: 404, reason: 'notFound', message: 'Not found: Table a:b.c' }, 'SOURCE_FAILED'],
  ['quotaExceeded', { status: 403, reason: 'quotaExceeded', message: '' }, 'SOURCE_FAILED'],
])('%s ends with a code to act on, at once or when the job has run', async (_reason, error, code) => {
  await using server = await fakeBigQuery()
  await using t = await tenant()
  server.fail('query', error)
  expect(await failureOf(load(t, server))).toMatchObject({ code })
  server.result({ ...days, waits: 2, error })
  const failure = await failureOf(load(t, server))
  expect(failure).toMatchObject({ code, retry: error.reason === 'quotaExceeded' ? 'later' : 'never' })
  expect(failure.message).toContain(error.message)
  expect(await t.rows(`SELECT count(*)::INTEGER AS n FROM lake.raw.x_meta_tables`)).toEqual([{ n: 0 }])
})

test('a value of a row that BigQuery quotes is not told', async () => {
  await using server = await fakeBigQuery()
  await using t = await tenant()
  for (const says of ['Bad int64 value: ', "Could not cast literal '", 'Query error: Invalid date: ']) {
    server.fail('query', { status: 400, reason: 'invalidQuery', message: `${says}${rowCanary('of-bigquery')}` })
    const { code, message } = await failureOf(load(t, server))
    expect([says, code, message.includes(rowCanary('of-bigquery'))]).toEqual([says, 'SQL_INVALID', false])
  }
})

test('credentials that are wrong are refused by what is wrong with them', async () => {
  await using server = await fakeBigQuery()
  await using other = await fakeBigQuery()
  await using t = await tenant()
  const codeOf = async (change: object) =>
    (await failureOf(load(t, server, { secret: { ...server.secret, ...change } }))).code
  expect(await codeOf({ private_key: other.secret['private_key'] })).toBe('CREDENTIAL_REJECTED')
  expect(await codeOf({ client_email: 'somebody@else.example' })).toBe('CREDENTIAL_REJECTED')
  expect(await codeOf({ private_key: 'no key' })).toBe('CREDENTIAL_INVALID')
  expect(await codeOf({ private_key: undefined })).toBe('CREDENTIAL_INVALID')
  expect(await codeOf({ project_id: 'another-project' })).toBe('SOURCE_FAILED')
  expect(await codeOf({ token_uri: 'http://169.254.169.254/token' })).toBe('EGRESS_DENIED')
})

test('where private addresses are closed, neither URL of a credential opens one', async () => {
  await using server = await fakeBigQuery()
  const ctx = { signal: new AbortController().signal, allowPrivateNetwork: false }
  const secret = bigquery.secret.parse(server.secret)
  await expect(bigquery.check(ctx, secret)).rejects.toMatchObject({ code: 'EGRESS_DENIED' })
  expect(server.calls).toEqual([])
})

test('the check of a credential runs a query that reads nothing', async () => {
  await using server = await fakeBigQuery()
  const ctx = { signal: new AbortController().signal, allowPrivateNetwork: true }
  await bigquery.check(ctx, bigquery.secret.parse(server.secret))
  expect(server.jobs.map((job) => job.request.query)).toEqual(['SELECT 1'])
})

test('no error and no line of the log shows a secret, even where the server repeats one', async () => {
  await using server = await fakeBigQuery()
  await using t = await tenant()
  await load(t, server)
  const token = server.secrets.at(-1) ?? ''
  server.fail('token', { status: 400, reason: String(server.secret['private_key']) })
  const failures = [await failureOf(load(t, server))]
  // The token that the coming run is given is known when it asks.
  server.fail('query', {
    status: 400,
    reason: 'invalidQuery',
    get message() {
      return `bad request: Bearer ${server.secrets.at(-1)}`
    },
  })
  failures.push(await failureOf(load(t, server)))
  failures.push(await failureOf(load(t, server, { secret: { ...server.secret, private_key: 'secret-key' } })))
  expect(server.secrets.at(-1)).not.toBe(token)
  expect(failures[1]?.message).toContain('Bearer …')
  const seen = [...t.lines, ...failures.flatMap((error) => [error.message, JSON.stringify(error), String(error.cause)])]
  for (const secret of [...server.secrets, 'secret-key']) expect(seen.join('\n')).not.toContain(secret)
})

test('what is no SELECT, repeats a name or comes in another form is refused', async () => {
  await using server = await fakeBigQuery()
  await using t = await tenant()
  server.result({ fields: [], rows: [] })
  expect(await failureOf(load(t, server))).toMatchObject({ code: 'SQL_NOT_ALLOWED' })
  const n = { name: 'n', type: 'INTEGER' }
  server.result({ fields: [n, { ...n, name: 'N' }], rows: [] })
  expect(await failureOf(load(t, server))).toMatchObject({ code: 'SQL_INVALID' })
  for (const row of [[], ['1', '2'], [1], [{}]]) {
    server.result({ fields: [n], rows: [row] })
    expect(await failureOf(load(t, server))).toMatchObject({ code: 'SOURCE_FAILED' })
  }
  server.result({ fields: [n], rows: [['many']] })
  expect((await failureOf(load(t, server))).message).toContain('The column n holds a value which is no BIGINT')
})

test('an abort ends the step at once and cancels the job that runs', async () => {
  await using server = await fakeBigQuery()
  await using t = await tenant()
  const stop = new AbortController()
  server.result({ ...days, waits: 1_000_000 })
  const loading = failureOf(load(t, server, { signal: stop.signal }))
  await expect.poll(() => server.calls).toContain('page')
  stop.abort()
  expect(await loading).toMatchObject({ code: 'CANCELLED' })
  await expect.poll(() => server.jobs.map((job) => job.cancelled)).toEqual([true])
})

test('an abort while a job is being started cancels it as soon as it has a name', async () => {
  await using server = await fakeBigQuery()
  await using t = await tenant()
  const stop = new AbortController()
  server.result({ ...days, waits: 1 })
  const release = server.hold('query')
  const loading = failureOf(load(t, server, { signal: stop.signal }))
  await expect.poll(() => server.jobs).toHaveLength(1)
  stop.abort()
  expect(await loading).toMatchObject({ code: 'CANCELLED' })
  expect(server.jobs[0]?.cancelled).toBe(false)
  release()
  await expect.poll(() => server.jobs[0]?.cancelled).toBe(true)
})

test('an abort between two pages ends the step', async () => {
  await using server = await fakeBigQuery()
  await using t = await tenant()
  const stop = new AbortController()
  server.result({ ...days, pageRows: 1 })
  const release = server.hold('page')
  const loading = failureOf(load(t, server, { signal: stop.signal }))
  await expect.poll(() => server.calls).toContain('page')
  stop.abort()
  expect(await loading).toMatchObject({ code: 'CANCELLED' })
  release()
  expect(await t.rows(`SELECT count(*)::INTEGER AS n FROM lake.raw.x_meta_tables`)).toEqual([{ n: 0 }])
})

test('a result that is shorter than announced is not taken for the whole', async () => {
  await using server = await fakeBigQuery()
  await using t = await tenant()
  server.result({ ...days, announced: 4 })
  expect(await failureOf(load(t, server))).toMatchObject({ code: 'SOURCE_FAILED' })
  expect(await t.rows(`SELECT count(*)::INTEGER AS n FROM lake.raw.x_meta_tables`)).toEqual([{ n: 0 }])
})

test('a job that is done is not cancelled, nor one whose query is at fault', async () => {
  await using server = await fakeBigQuery()
  await using t = await tenant()
  await load(t, server)
  server.result({ ...days, waits: 1, error: { status: 400, reason: 'invalidQuery' } })
  await failureOf(load(t, server))
  expect(server.calls).not.toContain('cancel')
})
