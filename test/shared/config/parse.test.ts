import { beforeAll, expect, test } from 'vitest'
import { parsePipeline } from '../../../shared/config/parse.ts'
import { formatProblem, type Problem } from '../../../shared/config/problems.ts'
import { leastMs } from '../../support/timing.ts'
import { sampleCatalog } from './sample-catalog.ts'

const parse = (text: string) => parsePipeline(text, { file: 'configs/x.yml', catalog: sampleCatalog })
const linesOf = (text: string): string[] => {
  const parsed = parse(text)
  return ('problems' in parsed ? parsed.problems : parsed.warnings).map(formatProblem)
}
const step = '  - { step_id: a, ps_type: quality.check, table: t, rules: [{ rule: not_null, column: c }] }'

test('a problem is one line that says where, what and what was meant', () => {
  expect(linesOf(`pipeline_id: p\nsteps:\n  - step_id: a\n    ps_type: "db.laod"\n`)).toEqual([
    'configs/x.yml:4:14 error UNKNOWN_PS_TYPE "db.laod": did you mean "db.load"?',
  ])
})

test('each problem carries the path of the value', () => {
  const parsed = parse(`pipeline_id: p\nsteps:\n${step.replace('column: c', 'colum: c')}\n`)
  expect('problems' in parsed && parsed.problems.map(({ code, path }) => [code, path])).toEqual([
    ['MISSING_KEY', 'steps[0].rules[0].column'],
    ['UNKNOWN_KEY', 'steps[0].rules[0].colum'],
  ])
})

test('defaults are filled in and settings stay beside the common keys', () => {
  const parsed = parse(`pipeline_id: p\nsteps:\n${step}\n`)
  expect('pipeline' in parsed && { pipeline: parsed.pipeline, warnings: parsed.warnings }).toEqual({
    pipeline: {
      version: 1,
      pipeline_id: 'p',
      description: '',
      labels: {},
      parameters: {},
      variables: {},
      defaults: {},
      triggers: [],
      steps: [
        {
          step_id: 'a',
          ps_type: 'quality.check',
          trigger: 'on_success',
          table: 't',
          rules: [{ rule: 'not_null', column: 'c' }],
        },
      ],
    },
    warnings: [],
  })
})

test('a literal secret is a warning that does not repeat it', () => {
  const key = `AKIA${'ABCD'.repeat(4)}`
  const parsed = parse(
    `pipeline_id: p\nvariables:\n  db_password: hunter2\n  url: "postgres://u:pw1@h/db"\n  k: ${key}\n  ok: billing_export\nsteps:\n${step}\n`,
  )
  const warnings: Problem[] = 'warnings' in parsed ? parsed.warnings : []
  expect(warnings.map(({ code, severity, path }) => `${severity} ${code} ${path}`)).toEqual([
    'warning SECRET_LITERAL variables.db_password',
    'warning SECRET_LITERAL variables.url',
    'warning SECRET_LITERAL variables.k',
  ])
  expect(JSON.stringify(warnings)).not.toMatch(/hunter2|pw1|AKIA/)
})

test('what looks like a placeholder and is none, and what may be absent, is a warning', () => {
  const text = `pipeline_id: p\nsteps:\n${step.replace('table: t', 'table: "{Date}{ date }{{date}"')}
  - { step_id: f, trigger: always, ps_type: notify_systems.email_notification, to_emails: [a@b.example], subject: "{steps.a.rows}{steps.a.rows | default:0}" }`
  expect(linesOf(text).map((line) => line.replace(/ \(.*/, ''))).toEqual([
    'configs/x.yml:3:51 warning UNKNOWN_VARIABLE "{Date}" is no placeholder and stays as it is',
    'configs/x.yml:3:57 warning UNKNOWN_VARIABLE "{ date }" is no placeholder and stays as it is',
    'configs/x.yml:4:116 warning UNKNOWN_VARIABLE "{steps.a.rows}": the step may not have run when this one starts',
  ])
})

test('an item stands in steps with for_each alone, and its list cannot speak of it', () => {
  const each = (list: string, table: string): string => {
    const listed = step.replace('table: t', `table: "${table}"`).replace(/ }$/, `, for_each: ${list} }`)
    return `pipeline_id: p\nsteps:\n${listed}`
  }
  expect(linesOf(each('[x, y]', '{item}_{item_index}'))).toEqual([])
  expect(linesOf(each('[{ name: x }]', '{item.name}'))).toEqual([])
  expect(linesOf(each('["{item}"]', 't'))).toEqual([expect.stringContaining('only steps with for_each know an item')])
  expect(linesOf(each('all files', 't'))).toEqual([expect.stringContaining('expected a list or one placeholder')])
  const without = `pipeline_id: p\nsteps:\n${step.replace('table: t', 'table: "{item}"')}`
  expect(linesOf(without)).toEqual([expect.stringContaining('only steps with for_each know an item')])
})

test('a problem in a block of SQL stands at its own line and column', () => {
  const text = [
    'pipeline_id: p',
    'steps:',
    '  - step_id: a',
    '    ps_type: file.export',
    '    source:',
    '      query: |',
    "        SELECT * FROM t WHERE day = '{date}'",
    '          AND name = {company_name} AND other = {company_name}',
    '    destination: { path: x }',
  ].join('\n')
  expect(linesOf(text).map((line) => line.split(':').slice(1, 3).join(':'))).toEqual(
    ['8', '8'].map((l, i) => `${l}:${[22, 49][i]} error SQL_INTERPOLATION {company_name} cannot stand here`),
  )
})

test('Unicode before a problem counts as what an editor counts: UTF-16 units', () => {
  expect(linesOf(`pipeline_id: "Größe 😀 {nichts}"\nsteps:\n${step}`)[0]).toMatch(
    /^configs\/x\.yml:1:24 error UNKNOWN_VARIABLE/,
  )
})

const nested = (depth: number): string => `${'['.repeat(depth)}${']'.repeat(depth)}`
const laughs = [
  'a: &a [x, x, x, x, x, x, x, x, x]',
  ...'bcdefghij'.split('').map((name, i) => `${name}: &${name} [${Array(9).fill(`*${'abcdefghi'[i]}`)}]`),
].join('\n')

// As large as a file may be, within a few KiB.
const usualFile = `pipeline_id: p\nsteps:\n${Array.from({ length: 170 }, (_, i) =>
  [
    `  - step_id: s${i}`,
    '    ps_type: db.load',
    '    source: { query: SELECT 1 }',
    `    destination: { table: t, mode: versioned, business_key: [${Array(130).fill('column_a').join(', ')}] }\n`,
  ].join('\n'),
).join('')}`
let usualMs = 0
beforeAll(async () => {
  usualMs = await leastMs(0, () => parse(usualFile))
})

test('the file that attacks are measured by is none', () => {
  expect(parse(usualFile)).toMatchObject({ pipeline: { pipeline_id: 'p' } })
})

test.each([
  ['billion laughs', laughs, 'ALIAS_REFUSED'],
  ['33 levels', `a: ${nested(33)}`, 'TOO_LARGE'],
  ['120,000 open brackets', '['.repeat(120_000), 'TOO_LARGE'],
  ['100,000 levels of lists', `${'- '.repeat(100_000)}x`, 'TOO_LARGE'],
  ['more than 256 KiB', `a: ${'x'.repeat(262_144)}`, 'TOO_LARGE'],
  ['more than 256 KiB in UTF-8 only', `a: ${'ß'.repeat(140_000)}`, 'TOO_LARGE'],
  ['30,000 keys', Array.from({ length: 30_000 }, (_, i) => `k${i}:`).join('\n'), 'TOO_LARGE'],
  ['999 unknown keys', Array.from({ length: 999 }, (_, i) => `k${i}:`).join('\n'), 'MISSING_KEY'],
  [
    '30,000 unknown names in a list',
    `pipeline_id: p\nsteps:\n${step.replace('table: t', `table: [${'"{x}",'.repeat(30_000)}]`)}`,
    'BAD_VALUE',
  ],
  [
    '80,000 unknown names in a text',
    `pipeline_id: p\nsteps:\n${step.replace('table: t', `table: "${'{x}'.repeat(80_000)}"`)}`,
    'UNKNOWN_VARIABLE',
  ],
  ['30,000 unknown steps', waits(150), 'UNKNOWN_STEP'],
  ['60,000 steps', `pipeline_id: p\nsteps:\n${'- a\n'.repeat(60_000)}`, 'BAD_VALUE'],
  ['an unclosed placeholder of 200,000 spaces', `description: "{a | b:${' '.repeat(200_000)}"`, 'MISSING_KEY'],
  ['100,000 open quotes in SQL', sqlStep(`${"E''".repeat(60_000)}`), 'OK'],
  ['80,000 open comments in SQL', sqlStep('/*'.repeat(80_000)), 'OK'],
])('%s costs no more than a few files of the same size that are no attack', async (_name, text, code) => {
  // At most 4 times here; anything quadratic would take hundreds.
  const bound = 20 * usualMs
  let parsed = parse('')
  expect(await leastMs(bound, () => (parsed = parse(text)))).toBeLessThan(bound)
  expect('problems' in parsed ? parsed.problems[0]?.code : 'OK').toBe(code)
})

test('201 steps are too many and 200 are not', () => {
  const steps = (count: number): string =>
    Array.from({ length: count }, (_, i) => step.replace('step_id: a', `step_id: s${i}`)).join('\n')
  expect('pipeline' in parse(`pipeline_id: p\nsteps:\n${steps(200)}`)).toBe(true)
  expect(linesOf(`pipeline_id: p\nsteps:\n${steps(201)}`)).toEqual([
    'configs/x.yml:2:1 error BAD_VALUE steps: Too big: expected array to have <=200 items',
  ])
})

function sqlStep(sql: string): string {
  return `pipeline_id: p\nsteps:\n  - step_id: a\n    ps_type: file.export\n    source: { query: "${sql}" }\n    destination: { path: x }`
}

function waits(count: number): string {
  const list = Array.from({ length: count }, (_, i) => `x${i}`).join()
  const steps = Array.from({ length: 200 }, (_, i) =>
    step.replace('step_id: a', `step_id: s${i}, depends_on: [${list}]`),
  )
  return `pipeline_id: p\nsteps:\n${steps.join('\n')}`
}

test('a placeholder without quotes is explained where it begins, inside braces too', () => {
  const text = 'pipeline_id: x\nsteps:\n  - step_id: a\n    ps_type: file.export\n    source: { table: t }\n'
  for (const [line, column] of [
    ['    destination: { path: {date}.csv, format: csv }', 26],
    ['    destination: { format: csv, path: {date}/{run_id}.csv }', 39],
  ] as const) {
    expect(parsePipeline(`${text}${line}\n`)).toMatchObject({
      problems: [{ code: 'QUOTE_PLACEHOLDER', line: 6, column }],
    })
  }
})
