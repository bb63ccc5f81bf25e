import { expect, test } from 'vitest'
import ingest from '../../../../workers/processors/file/ingest.ts'
import check from '../../../../workers/processors/quality/check.ts'
import { tenant, type Tenant } from '../../../support/step-context.ts'

async function withPeople(mode: 'versioned' | 'replace'): Promise<Tenant> {
  const t = await tenant()
  await t.write(
    'in.csv',
    [
      'id,email,age,code,born',
      '1,a@b.example,30,7,2001-01-01',
      '2,broken,31,x8,1999-12-31',
      '3,,200,9,2030-01-01',
      '4,a@b.example,-1,10,2000-02-29',
      '5,e@f.example,,,',
    ].join('\n'),
  )
  await t.run(ingest, { source: { path: 'in.csv' }, destination: { table: 'people', mode, business_key: ['id'] } })
  return t
}

test.each(['versioned', 'replace'] as const)(
  'every rule counts its failures, and the score is the published formula (%s)',
  async (mode) => {
    await using t = await withPeople(mode)
    const outputs = await t.run(check, {
      table: 'people',
      rules: [
        { rule: 'required', columns: ['id', 'email'] },
        { rule: 'not_null', column: 'age' },
        { rule: 'unique', columns: ['email'] },
        { rule: 'type', column: 'code', type: 'INTEGER' },
        { rule: 'range', column: 'age', min: 0, max: 120.5 },
        { rule: 'range', column: 'born', max: '2025-01-01' },
        { rule: 'format', column: 'email', format: 'email', severity: 'warning' },
        { rule: 'format', column: 'code', pattern: '[0-9]+' },
        { rule: 'row_count', min: 6, severity: 'warning' },
      ],
      quarantine: 'people_rejected',
    })
    const failed = [0, 1, 1, 2, 1, 2, 1, 1, 1, 5]
    expect((outputs['rules'] as { failed: number }[]).map((rule) => rule.failed)).toEqual(failed)
    // Errors: 8 checks of 5 rows, 9 failed. Warnings: 2 of 5 rows, 6 failed, at a quarter.
    const score = 1 - (9 + 0.25 * 6) / (8 * 5 + 0.25 * 2 * 5)
    expect(outputs['score']).toBe(Math.floor(score * 10_000) / 10_000)
    const kept = await t.rows(
      `SELECT code, (raw->>'$.id')::INTEGER AS id FROM lake.raw.x_meta_rejected_rows ORDER BY code, id`,
    )
    expect(kept.map((row) => `${row['code']} ${row['id']}`)).toEqual([
      'RULE_FORMAT 2',
      'RULE_FORMAT 2',
      'RULE_NOT_NULL 5',
      'RULE_RANGE 3',
      'RULE_RANGE 3',
      'RULE_RANGE 4',
      'RULE_REQUIRED 3',
      'RULE_TYPE 2',
      'RULE_UNIQUE 1',
      'RULE_UNIQUE 4',
    ])
    expect(await t.rows(`SELECT count(*)::INTEGER AS n FROM lake.main.people_rejected`)).toEqual([{ n: 10 }])
  },
)

test('a score below the bound blocks, a repeat keeps one measurement, and what failed can be seen', async () => {
  await using t = await withPeople('versioned')
  const step = { runId: 'run_q', stepKey: 'check', fence: 90n }
  const settings = { table: 'people', rules: [{ rule: 'required' as const, columns: ['email'] }], fail_below: 0.95 }
  for (let attempt = 0; attempt < 2; attempt++)
    await expect(t.run(check, settings, step)).rejects.toMatchObject({
      code: 'QUALITY_BLOCKED',
      message: 'The score of people is 0.8, below 0.95: required email: 1 of 5.',
    })
  expect(
    await t.rows(`SELECT score, checks, failed FROM lake.raw.x_meta_quality_metrics WHERE run_id = 'run_q'`),
  ).toEqual([{ score: 0.8, checks: '5', failed: '1' }])
  expect(await t.rows(`SELECT count(*)::INTEGER AS n FROM lake.raw.x_meta_rejected_rows`)).toEqual([{ n: 1 }])
  expect(await t.run(check, { ...settings, fail_below: 0.8 })).toMatchObject({ score: 0.8 })
})

test.each([
  [{ rule: 'not_null' as const, column: 'nobody' }, /no column "nobody"/],
  [{ rule: 'format' as const, column: 'email', pattern: '(' }, /format: pattern: it is no regular expression/],
  [{ rule: 'format' as const, column: 'email', pattern: 'a{1001}' }, /format of email cannot be used/],
  [{ rule: 'range' as const, column: 'born', min: 'yesterday' }, /range of born cannot be used/],
  [{ rule: 'range' as const, column: 'born' }, /needs min or max/],
])('a rule that makes no sense is refused: %o', async (rule, message) => {
  await using t = await withPeople('replace')
  await expect(t.run(check, { table: 'people', rules: [rule] })).rejects.toMatchObject({
    code: 'CONFIG_INVALID',
    message: expect.stringMatching(message),
  })
})
