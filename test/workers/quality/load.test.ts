import { expect, test } from 'vitest'
import type { z } from 'zod'
import type { loadQuality } from '../../../schema/config/quality.ts'
import ingest from '../../../workers/processors/file/ingest.ts'
import profile from '../../../workers/processors/quality/profile.ts'
import report from '../../../workers/processors/quality/report.ts'
import { tenant, type Tenant } from '../../support/step-context.ts'

type Quality = z.input<typeof loadQuality>

const load = async (t: Tenant, lines: string[], quality: Quality, to: object = {}) => {
  await t.write('in.csv', [...lines, ''].join('\n'))
  return await t.run(ingest, {
    source: { path: 'in.csv' },
    destination: { table: 'people', business_key: ['id'], quality, ...to },
  })
}
const qualityOf = (outputs: Record<string, unknown>) =>
  outputs['quality'] as {
    status: string
    alerts: { alert: string; on: string; value: number; limit: number | null }[]
  } & Record<string, number>

const rules: Quality['rules'] = [
  { rule: 'required', columns: ['email'], action: 'log' },
  { rule: 'range', column: 'age', min: 0, max: 120, action: 'log' },
  { rule: 'format', column: 'email', format: 'email', severity: 'warning' },
  { rule: 'unique', columns: ['email'] },
]
const people = [
  'id,email,age',
  '1,a@b.example,30',
  '2,broken,31',
  '3,,200',
  '4,d@b.example,-1',
  '5,d@b.example,7',
  ',x@y.example,1',
]

test('each record says what is wrong with it, and its score is the share of its weighted checks that it passed', async () => {
  await using t = await tenant()
  await load(t, people, { rules })
  const records = `SELECT v.id::INTEGER AS id, q.status, q.errors, q.warnings, q.score FROM lake.raw.x_meta_record_quality q
    JOIN lake.raw.people_current v USING (composite_key, version) ORDER BY id`
  // Three errors and a warning of a quarter: 3.25 in all.
  expect(await t.rows(records)).toEqual([
    { id: 2, status: 'WARNED', errors: [], warnings: ['email has not the form email'], score: 0.923 },
    { id: 3, status: 'FAILED', errors: ['email is missing', 'age is outside 0..120'], warnings: [], score: 0.3846 },
  ])
  const rejected = await t.rows(`SELECT line, code, reason FROM lake.raw.x_meta_rejected_rows ORDER BY line`)
  expect(rejected).toMatchObject([
    { line: '5', code: 'RULE_UNIQUE', reason: 'age is outside 0..120; another row has the same email' },
    { line: '6', code: 'RULE_UNIQUE' },
    { line: '7', code: 'KEY_NULL' },
  ])
  // A record that was put right has no verdict any more.
  await load(t, ['id,email,age', '2,b@b.example,31', '3,,200'], { rules })
  expect(await t.rows(records)).toMatchObject([{ id: 3, score: 0.3846 }])
})

test('the scores of a load can be worked out again from its results by the published formula', async () => {
  await using t = await tenant()
  const quality = qualityOf(await load(t, people, { rules }))
  const results = await t.rows(
    `SELECT dimension, severity, checked, failed, rule_name, status FROM lake.raw.x_meta_dq_results`,
  )
  expect(results.map((row) => [row['rule_name'], Number(row['checked']), Number(row['failed'])])).toEqual([
    ['load', 6, 1],
    ['required email', 6, 1],
    ['range age', 6, 2],
    ['format email', 6, 1],
    ['unique email', 6, 2],
  ])
  const weighed = (key: string, dimension?: string): number =>
    results
      .filter((row) => dimension === undefined || row['dimension'] === dimension)
      .reduce((sum, row) => sum + Number(row[key]) * (row['severity'] === 'warning' ? 0.25 : 1), 0)
  const score = (dimension?: string): number =>
    Math.floor((1 - weighed('failed', dimension) / weighed('checked', dimension)) * 10_000 + 1e-9) / 10_000
  const scores = {
    overall: score(),
    completeness: score('completeness'),
    consistency: score('consistency'),
    validity: score('validity'),
  }
  // By hand: 1 - (1 + 1 + 2 + 1/4 + 2) / (4 × 6 + 6/4), and so on.
  expect(scores).toEqual({ overall: 0.7549, completeness: 0.8333, consistency: 0.7592, validity: 0.6666 })
  expect(quality).toMatchObject(scores)
  const [metrics] = await t.rows(
    `SELECT score AS overall, completeness, consistency, validity, row_count::INTEGER AS n, records_with_errors::INTEGER AS errors,
       records_with_warnings::INTEGER AS warnings, average_record_score AS average FROM lake.raw.x_meta_quality_metrics`,
  )
  // Records: 1; 0.923 (warned); 0.3846; 1.25/3.25; 2.25/3.25; 0 for the row without a key.
  expect(metrics).toEqual({ ...scores, n: 6, errors: 4, warnings: 1, average: 0.564 })
})

test('thresholds raise alerts beyond them and not at them, and people are told without a value of a row', async () => {
  await using t = await tenant()
  const lines = ['id,email', ...Array.from({ length: 100 }, (_, i) => `${i},${i === 0 ? '' : `p${i}@x.example`}`)]
  const rule = { rule: 'required' as const, columns: ['email'], action: 'log' as const }
  const only = { rules: [rule], profile: false }
  expect(qualityOf(await load(t, lines, only)).alerts).toEqual([])
  const alerts = async (thresholds: object) =>
    qualityOf(await load(t, lines, { ...only, thresholds })).alerts.map(({ alert, value, limit }) => [
      alert,
      value,
      limit,
    ])
  expect(await alerts({ error_rate_percent: 1, completeness: 0.99, overall: 0.995 })).toEqual([])
  expect(await alerts({ error_rate_percent: 0.9, completeness: 0.991, overall: 0.996 })).toEqual([
    ['overall', 0.995, 0.996],
    ['error_rate', 1, 0.9],
    ['completeness', 0.99, 0.991],
  ])
  const defaults = lines.map((line, i) => (i > 0 && i <= 11 ? `${i - 1},` : line))
  const ctx = await t.context()
  await t.write('in.csv', defaults.join('\n'))
  const to = { table: 'people', business_key: ['id'], quality: { ...only, alert_to: ['dq@guru.example'] } }
  const { outputs, mail } = await ingest.run(
    ctx,
    ingest.settings.parse({ source: { path: 'in.csv' }, destination: to }),
  )
  expect(qualityOf(outputs).alerts.map(({ alert }) => alert)).toEqual(['overall', 'error_rate', 'completeness'])
  expect(mail).toMatchObject([{ to: ['dq@guru.example'], subject: 'Data quality: 3 alerts for people' }])
  expect(JSON.stringify(mail)).not.toContain('x.example')
})

test('a score below fail_below stops the load and leaves the table as it was, and the failing rows can be seen', async () => {
  await using t = await tenant()
  await load(t, ['id,email,age', '1,a@b.example,30'], { rules })
  await expect(load(t, people, { rules, fail_below: 0.76 })).rejects.toMatchObject({
    code: 'QUALITY_BLOCKED',
    message: expect.stringMatching(/Nothing was loaded into people: its score is 0.7307, below 0.76/),
  })
  expect(await t.rows(`SELECT count(*)::INTEGER AS n FROM lake.raw.people`)).toEqual([{ n: 1 }])
  expect(await t.rows(`SELECT status, load_number FROM lake.raw.x_meta_quality_metrics ORDER BY measured_at`)).toEqual([
    { status: 'PASSED', load_number: '1' },
    { status: 'BLOCKED', load_number: null },
  ])
  expect(
    await t.rows(
      `SELECT code, status, count(*)::INTEGER AS n FROM lake.raw.x_meta_rejected_rows GROUP BY ALL ORDER BY 1`,
    ),
  ).toEqual([
    { code: 'RULE_FORMAT', status: 'flagged', n: 1 },
    { code: 'RULE_RANGE', status: 'flagged', n: 2 },
    { code: 'RULE_REQUIRED', status: 'flagged', n: 1 },
    { code: 'RULE_UNIQUE', status: 'flagged', n: 2 },
  ])
})

const figures = `SELECT column_name AS c, row_count::INTEGER AS n, nulls::INTEGER AS nulls, distinct_count::INTEGER AS d, min_value AS lo,
  max_value AS hi, mean, quantiles, top_values::VARCHAR AS top, patterns::VARCHAR AS patterns FROM lake.raw.x_meta_profiles`

test('a profile has the counts, bounds, quantiles, top values and patterns of each column', async () => {
  await using t = await tenant()
  const lines = [
    'id,n,v',
    ...Array.from({ length: 101 }, (_, i) => `${i},${i === 100 ? '' : i % 10},${i < 60 ? 'Ab-1' : i < 90 ? 'x2' : ''}`),
  ]
  await load(t, lines, {})
  const [v] = await t.rows(`${figures} WHERE column_name = 'v'`)
  expect({ ...v, top: JSON.parse(String(v?.['top'])), patterns: JSON.parse(String(v?.['patterns'])) }).toEqual({
    c: 'v',
    n: 101,
    nulls: 11,
    d: 2,
    lo: 'Ab-1',
    hi: 'x2',
    mean: null,
    quantiles: null,
    top: [
      { value: 'Ab-1', count: 60 },
      { value: 'x2', count: 30 },
    ],
    patterns: [
      { pattern: 'Aa-9', count: 60 },
      { pattern: 'a9', count: 30 },
    ],
  })
  const [id] = await t.rows(`${figures} WHERE column_name = 'id'`)
  expect(id).toMatchObject({ nulls: 0, d: 101, lo: '0', hi: '100', mean: 50, quantiles: [5, 25, 50, 75, 95] })
  const outputs = await t.run(profile, { table: 'people', columns: ['N'] })
  expect(outputs).toEqual({
    table: 'people',
    rows: 101,
    columns: [{ column: 'n', type: 'BIGINT', nulls: 1, distinct: 10, distinct_is_estimate: false }],
  })
})

test('a profile of many rows is of a sample where it must be, and says so', async () => {
  await using t = await tenant()
  const lines = ['id,v,key', ...Array.from({ length: 60_000 }, (_, i) => `${i},${i % 7},${i}`)]
  await load(t, lines, { rules: [{ rule: 'unique', columns: ['key'] }] }, { mode: 'replace' })
  const rows = await t.rows(
    `SELECT column_name AS c, row_count::INTEGER AS n, distinct_count::INTEGER AS d, distinct_is_estimate AS e, sample_rows::INTEGER AS s, pattern_rows::INTEGER AS p, quantiles[3] AS m
     FROM lake.raw.x_meta_profiles ORDER BY 1`,
  )
  for (const row of rows) expect(row).toMatchObject({ n: 60_000, e: row['c'] !== 'key' })
  // Counted for its rule.
  expect(rows[1]).toMatchObject({ c: 'key', d: 60_000 })
  expect(Number(rows[0]?.['s'])).toBeGreaterThan(3000)
  expect(Number(rows[0]?.['s'])).toBeLessThan(10_000)
  expect(Number(rows[0]?.['p'])).toBeGreaterThan(900)
  expect(Number(rows[0]?.['p'])).toBeLessThan(2000)
  expect(Math.abs(Number(rows[0]?.['d']) / 60_000 - 1)).toBeLessThan(0.1)
  expect(Math.abs(Number(rows[0]?.['m']) / 30_000 - 1)).toBeLessThan(0.1)
  expect(rows[2]).toMatchObject({ d: 7, m: 3 })
})

test('a load that is far from the loads before it has drifted, one like them has not, and the report tells the trend', async () => {
  await using t = await tenant()
  const bring = async (rows: number, nulls: number, shift: number) => {
    const lines = ['id,v', ...Array.from({ length: rows }, (_, i) => `${i},${i < nulls ? '' : shift + (i % 20)}`)]
    return qualityOf(
      await load(t, lines, { rules: [{ rule: 'not_null', column: 'v', action: 'log' }] }, { mode: 'replace' }),
    )
      .alerts.filter(({ alert }) => alert === 'drift')
      .map(({ on }) => on)
      .toSorted()
  }
  for (const rows of [200, 204, 198, 202, 201]) expect(await bring(rows, 2, 100)).toEqual([])
  expect(await bring(203, 3, 100)).toEqual([])
  expect(await bring(200, 60, 100)).toContain('v.null_rate')
  expect(await bring(200, 2, 150)).toEqual(['v.mean', 'v.median'])
  expect(await bring(600, 6, 100)).toEqual(['id.distinct', 'id.mean', 'id.median', 'rows'])
  const { tables } = await t.run(report, { days: 7 })
  expect(tables).toMatchObject([
    {
      table: 'people',
      total_records: 600,
      records_with_errors: 6,
      quality_issues: [{ issue_type: 'missing_required_field', field: 'v', count: 81, severity: 'error' }],
      recommendations: ['Review the source for completeness of v, and validate it there.'],
      trend: { measurements: 9, daily: [{ records: 2208 }] },
    },
  ])
})
