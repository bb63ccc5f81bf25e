import { expect, test } from 'vitest'
import type { z } from 'zod'
import type { qualityRule } from '../../../schema/config/quality.ts'
import ingest from '../../../workers/processors/file/ingest.ts'
import { tenant, type Tenant } from '../../support/step-context.ts'

type Rule = z.input<typeof qualityRule>

const people = [
  'id,email,age,code,seen,country,low,high,stamp',
  '1,a@b.example,30,7,2001-01-01,DE,1,9,2001-01-01T00:00:00Z',
  '2,broken,31,x8,1999-12-31,FR,2,8,',
  '3,,200,9,2002-01-01,XX,9,3,',
  `4,a@b.example,-1,10,2000-02-29,DE,1,1,${new Date().toISOString()}`,
  '5,e@f.example,,,,,9,,',
  '',
].join('\n')

async function withPeople(): Promise<Tenant> {
  const t = await tenant()
  await t.write('in.csv', people)
  await t.write('countries.csv', 'code\nDE\nFR\n')
  await t.run(ingest, { source: { path: 'countries.csv' }, destination: { table: 'countries', mode: 'replace' } })
  return t
}

const load = (t: Tenant, table: string, rules: Rule[]) =>
  t.run(ingest, {
    source: { path: 'in.csv' },
    destination: { table, business_key: ['id'], quality: { rules, profile: false } },
  })
const ids = async (t: Tenant, sql: string): Promise<number[]> =>
  (await t.rows(`SELECT (${sql}`)).map((row) => Number(row['id'])).toSorted((a, b) => a - b)
const loaded = (t: Tenant, table: string) => ids(t, `id)::INTEGER AS id FROM lake.main.${table}`)
const quality = (outputs: Record<string, unknown>) =>
  outputs['quality'] as {
    status: string
    rules: { rule: string; failed: number; checked: number; passed: boolean }[]
    alerts: { alert: string }[]
  }

const aboutRows: [Rule, number[]][] = [
  [{ rule: 'required', columns: ['email'] }, [3]],
  [{ rule: 'not_null', column: 'AGE' }, [5]],
  [{ rule: 'type', column: 'code', type: 'INTEGER' }, [2]],
  [{ rule: 'range', column: 'age', min: 0, max: 120.5 }, [3, 4]],
  [{ rule: 'range', column: 'seen', min: '2000-01-01' }, [2]],
  [{ rule: 'format', column: 'email', format: 'email' }, [2]],
  [{ rule: 'format', column: 'code', pattern: '[0-9]+' }, [2]],
  [{ rule: 'unique', columns: ['email'] }, [1, 4]],
  [{ rule: 'allowed', column: 'country', values: ['DE', 'FR'] }, [3]],
  [{ rule: 'reference', columns: ['country'], table: 'countries', to: ['code'] }, [3]],
  [{ rule: 'expression', expression: "low <= high AND (country <> 'XX' OR age < 100)" }, [3]],
]

test.each(aboutRows)('%o keeps its rows out, lets them in with a word, or stops the load', async (rule, failing) => {
  await using t = await withPeople()
  const others = [1, 2, 3, 4, 5].filter((id) => !failing.includes(id))
  for (const action of ['log', 'warn', undefined] as const) {
    const table = `t_${action ?? 'quarantine'}`
    const outputs = await load(t, table, [action ? { ...rule, action } : rule])
    expect(quality(outputs).rules.at(-1)).toMatchObject({ checked: 5, failed: failing.length, passed: false })
    expect(quality(outputs).status).toBe('FAILED')
    expect(quality(outputs).alerts.some(({ alert }) => alert === 'rule')).toBe(action !== 'log')
    expect(outputs['rejected']).toBe(action ? 0 : failing.length)
    expect(await loaded(t, table)).toEqual(action ? [1, 2, 3, 4, 5] : others)
  }
  expect(
    await ids(t, `raw->>'$.id')::INTEGER AS id FROM lake.raw.x_meta_rejected_rows WHERE status = 'quarantined'`),
  ).toEqual(failing)
  const [code] = await t.rows(`SELECT DISTINCT code, line IS NULL AS lost FROM lake.raw.x_meta_rejected_rows`)
  expect(code).toEqual({ code: `RULE_${rule.rule.toUpperCase()}`, lost: false })

  await expect(load(t, 't_log', [{ ...rule, action: 'block' }])).rejects.toMatchObject({ code: 'QUALITY_BLOCKED' })
  await expect(load(t, 't_new', [{ ...rule, action: 'block' }])).rejects.toMatchObject({ code: 'QUALITY_BLOCKED' })
  expect(await t.rows(`SELECT count(*)::INTEGER AS n, max(version) AS v FROM lake.raw.t_log`)).toEqual([{ n: 5, v: 1 }])
  expect(await t.rows(`SELECT 1 FROM lake.raw.x_meta_tables WHERE table_name = 't_new'`)).toEqual([])
  expect(
    await t.rows(
      `SELECT status, failed::INTEGER AS failed FROM lake.raw.x_meta_quality_metrics WHERE table_name = 't_new'`,
    ),
  ).toEqual([{ status: 'BLOCKED', failed: failing.length }])
})

const aboutTables: [Rule, Rule][] = [
  [
    { rule: 'schema', columns: { id: 'BIGINT', email: 'VARCHAR' } },
    { rule: 'schema', columns: { id: 'BIGINT', email: 'DATE' } },
  ],
  [
    { rule: 'schema', columns: { ID: 'BIGINT' } },
    { rule: 'schema', columns: { id: 'BIGINT' }, exact: true },
  ],
  [
    { rule: 'completeness', columns: ['email', 'id'], min: 0.9 },
    { rule: 'completeness', columns: ['email', 'id'], min: 0.91 },
  ],
  [
    { rule: 'row_count', min: 5, max: 5 },
    { rule: 'row_count', min: 6 },
  ],
  [
    { rule: 'freshness', column: 'stamp', max_age: '1h' },
    { rule: 'freshness', column: 'seen', max_age: '366d' },
  ],
]

test.each(aboutTables)(
  '%o passes and %o does not: it warns or blocks, and has no rows to quarantine',
  async (good, bad) => {
    await using t = await withPeople()
    expect(quality(await load(t, 'people', [good])).rules.at(-1)).toMatchObject({ passed: true })
    await expect(load(t, 'people', [bad])).rejects.toMatchObject({ code: 'QUALITY_BLOCKED' })
    expect(quality(await load(t, 'people', [{ ...bad, severity: 'warning' }])).rules.at(-1)).toMatchObject({
      passed: false,
    })
    const logged = quality(await load(t, 'people', [{ ...bad, action: 'log' }]))
    expect(logged.rules.at(-1)).toMatchObject({ passed: false })
    expect(logged.alerts.some(({ alert }) => alert === 'rule')).toBe(false)
    await expect(load(t, 'people', [{ ...bad, action: 'quarantine' }])).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
    })
    expect(await loaded(t, 'people')).toEqual([1, 2, 3, 4, 5])
  },
)

test('the volume of a load is held against the loads before it, and blocked ones are none of them', async () => {
  await using t = await tenant()
  const rule: Rule = { rule: 'volume', max_change: 0.2, loads: 4, min_loads: 3 }
  const bring = async (rows: number) => {
    await t.write('in.csv', ['id', ...Array.from({ length: rows }, (_, i) => String(i)), ''].join('\n'))
    return await load(t, 'events', [rule]).then(
      () => 'in',
      (error: { code: string }) => error.code,
    )
  }
  const outcomes = []
  for (const rows of [10, 100, 90, 500, 110, 300, 40, 72]) outcomes.push(await bring(rows))
  // Medians: of 10, 100, 90 it is 90; of 110, 90, 100, 10 it is 95.
  expect(outcomes).toEqual([
    'in',
    'in',
    'in',
    'QUALITY_BLOCKED',
    'QUALITY_BLOCKED',
    'QUALITY_BLOCKED',
    'QUALITY_BLOCKED',
    'in',
  ])
})

test('each named format takes what it names and nothing near it', async () => {
  await using t = await tenant()
  const cases = {
    email: [
      ['a.b+c@d-e.example', "o'neil@x.y.example"],
      ['a@b', 'a b@c.example', 'a@-b.example', 'a@b..example'],
    ],
    url: [
      ['https://x.example/a?b=c#d', 'http://127.0.0.1:8080'],
      ['ftp://x.example', 'x.example', 'http:///a', 'http://a b'],
    ],
    uuid: [
      ['123e4567-e89b-12d3-a456-426614174000'],
      ['123e4567e89b12d3a456426614174000', '123e4567-e89b-12d3-a456-42661417400g'],
    ],
    phone: [
      ['+49 (30) 123-4567', '030/1234567'],
      ['12345', '+49 30 abc', '1234567890123456'],
    ],
    date: [['2024-02-29'], ['2023-02-29', '29.02.2024', '2024-2-29', '2024-02-29 00:00']],
    datetime: [
      ['2024-02-29T12:00:00Z', '2024-02-29 12:00+01:00'],
      ['2024-02-29', '2024-02-30T12:00:00Z', '2024-02-29T25:00:00Z'],
    ],
    time: [
      ['23:59', '00:00:00.5'],
      ['24:00', '1:00', '12:60'],
    ],
    country: [
      ['DE', 'GB'],
      ['de', 'UK', 'DEU'],
    ],
    currency: [
      ['EUR', 'JPY'],
      ['eur', 'DEM', 'EURO'],
    ],
    language: [
      ['de', 'en'],
      ['DE', 'xx', 'eng'],
    ],
    postcode: [
      ['12345', 'SW1A 1AA'],
      ['1', '12_45'],
    ],
    ipv4: [
      ['0.0.0.0', '255.255.255.255'],
      ['256.1.1.1', '1.1.1', '01.1.1.1'],
    ],
    ipv6: [
      ['::1', '2001:db8::ff00:42:8329', '::'],
      ['1::2::3', '12345::', ':1', '1:2:3:4:5:6:7:8:9'],
    ],
    iban: [
      ['DE89370400440532013000', 'GB29NWBK60161331926819', 'MT84MALT011000012345MTLCAST001S'],
      ['DE88370400440532013000', 'DE89', 'de89370400440532013000'],
    ],
    slug: [['a-b-3'], ['A-b', 'a--b', '-a']],
  } satisfies Record<string, [string[], string[]]>
  for (const [format, [good, bad]] of Object.entries(cases)) {
    await t.write('in.csv', ['id,v', ...[...good, ...bad].map((text, i) => `${i},"${text}"`), ''].join('\n'))
    const outputs = await t.run(ingest, {
      source: { path: 'in.csv', columns: { v: 'VARCHAR' } },
      destination: {
        table: 'v',
        mode: 'replace',
        quality: { rules: [{ rule: 'format', column: 'v', format: format as keyof typeof cases }], profile: false },
      },
    })
    expect({ format, rejected: outputs['rejected'] }).toEqual({ format, rejected: bad.length })
    expect((await t.rows(`SELECT v FROM lake.main.v`)).map((row) => row['v']).toSorted()).toEqual(good.toSorted())
  }
})

test('NULL passes every rule but those that ask for values', async () => {
  await using t = await tenant()
  await t.write('in.csv', 'id,a,b\n1,,\n2,,\n')
  const rules: Rule[] = [
    { rule: 'type', column: 'a', type: 'INTEGER' },
    { rule: 'range', column: 'a', min: 1 },
    { rule: 'format', column: 'a', format: 'email' },
    { rule: 'unique', columns: ['a', 'b'] },
    { rule: 'allowed', column: 'a', values: ['x'] },
    { rule: 'reference', columns: ['a'], table: 'empty', to: ['id'] },
    { rule: 'expression', expression: 'a = b' },
  ]
  expect(quality(await load(t, 'empty', rules))).toMatchObject({ status: 'PASSED' })
})
