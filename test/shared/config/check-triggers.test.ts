import { describe, expect, test } from 'vitest'
import { parsePipeline } from '../../../shared/config/parse.ts'
import { formatProblem } from '../../../shared/config/problems.ts'
import { sampleCatalog } from './sample-catalog.ts'

const steps = 'steps:\n  - { step_id: a, ps_type: quality.check, table: t, rules: [{ rule: not_null, column: c }] }\n'
const linesOf = (head: string, scheduleMinutesMin = 1): string[] => {
  const options = { file: 'x.yml', catalog: sampleCatalog, scheduleMinutesMin }
  const parsed = parsePipeline(`pipeline_id: p\n${head}\n${steps}`, options)
  return ('problems' in parsed ? parsed.problems : parsed.warnings).map(formatProblem)
}

test('a schedule is in force, and says nothing', () => {
  expect(linesOf('schedule: { cron: "0 2 * * *", timezone: Europe/Berlin, catchup: true, overlap: queue }')).toEqual([])
  expect(linesOf('schedule: { cron: "@hourly", catchup: skip }')).toEqual([])
})

describe('a fault of a schedule stands at its place:', () => {
  test.for([
    ['schedule:\n  cron: "0 0 30 2 *"', 'x.yml:3:9 error BAD_VALUE cron: there is no such day in any year'],
    [
      'schedule:\n  cron: "0 2 * *"',
      'x.yml:3:9 error BAD_VALUE cron: expected five fields such as "0 2 * * *": minute hour day month weekday',
    ],
    [
      'schedule:\n  cron: "0 2 * * *"\n  timezone: Mars/Phobos',
      'x.yml:4:13 error BAD_VALUE timezone: expected an IANA name such as "Europe/Vienna"',
    ],
    [
      'schedule:\n  cron: "0 2 * * *"\n  parameters: { regoin: EU }\nparameters: { region: { type: string } }',
      'x.yml:4:17 error BAD_VALUE "regoin": did you mean "region"?',
    ],
    [
      'schedule:\n  cron: "0 2 * * *"\n  parameters: { n: many }\nparameters: { n: { type: integer } }',
      'x.yml:4:20 error BAD_VALUE n: expected a whole number',
    ],
    [
      'schedule:\n  cron: "0 2 * * *"\nparameters: { region: { type: string, required: true } }',
      'x.yml:2:1 error MISSING_KEY "region" is required and not given here',
    ],
  ] as const)('%s', ([head, line]) => expect(linesOf(head)).toEqual([line]))
})

test('the plan says how often', () => {
  const head = 'schedule:\n  cron: "*/2 * * * *"'
  expect(linesOf(head)).toEqual([])
  expect(linesOf(head, 5)).toEqual([
    'x.yml:3:9 error BAD_VALUE cron: the times lie less than 5 minutes apart, and the plan allows no more often',
  ])
})

test('files and pipelines are triggers', () => {
  expect(
    linesOf(
      `parameters: { file: { type: string }, region: { type: string, required: true } }
triggers:
  - { on: file, path: "in/orders_*.csv", parameters: { region: EU } }
  - { on: file, path: "orders?.csv", credential: partner, every: 5m, settle: 1m, parameters: { region: EU } }
  - { on: pipeline, pipeline: a/b/c, parameters: { region: "{upstream.parameters.region}" } }`,
    ),
  ).toEqual([])
})

describe('a fault of a trigger stands at its place, here after the mark:', () => {
  const file = 'parameters: { file: { type: string } }\ntriggers:\n  - '
  test.for([
    ['triggers:\n  - { on: ¦file, path: a.csv }', 'declares no parameter "file"'],
    [`${file}{ on: file, path: ¦"../a.csv" }`, 'expected a folder and a name'],
    [`${file}{ on: file, path: ¦"/etc/passwd" }`, 'expected a folder and a name'],
    [`${file}{ on: file, path: ¦"in/*/a.csv" }`, 'in the name only'],
    [`${file}{ on: file, path: ¦"in/{a,b}.csv" }`, 'only * and ?'],
    [`${file}{ on: file, path: a.csv, credential: c, every: ¦2s }`, 'at least 10s'],
    [`${file}{ on: file, path: a.csv, every: ¦2d }`, 'expected 1s to 1d'],
    [`${file}{ on: file, path: a.csv, parameters: { ¦file: b.csv } }`, 'comes with the file'],
    [`${file}{ on: file, path: a.csv }\n  - ¦{ on: file, path: a.csv }`, 'waits for the same'],
    ['triggers:\n  - { on: pipeline, pipeline: ¦nowhere }', 'expected <provider>/<domain>/<template>'],
    [
      'parameters: { r: { type: string } }\ntriggers:\n  - { on: pipeline, pipeline: a/b/c, parameters: { r: ¦"{run_id}" } }',
      '{run_id} stands for nothing here',
    ],
    ['triggers:\n  - { on: ¦moon }', 'on: expected file or pipeline'],
  ] as const)('%s', ([marked, text]) => {
    const before = `pipeline_id: p\n${marked}`.split('¦')[0]?.split('\n') ?? []
    expect(linesOf(marked.replace('¦', ''))).toEqual([expect.stringContaining(text)])
    const place = `x.yml:${before.length}:${(before.at(-1) ?? '').length + 1} error`
    expect(linesOf(marked.replace('¦', ''))[0]).toContain(place)
  })
})
