import { expect, test } from 'vitest'
import { parsePipeline } from '../../../shared/config/parse.ts'
import { planRun, runTimeoutMs } from '../../../shared/runs/plan.ts'
import { sampleCatalog } from '../config/sample-catalog.ts'

const check = 'ps_type: quality.check, table: t, rules: [{ rule: not_null, column: c }]'

function planOf(steps: string[], head = '') {
  const text = `pipeline_id: p\n${head}\nsteps:\n${steps.map((step) => `  - { ${step}, ${check} }`).join('\n')}`
  const parsed = parsePipeline(text, { catalog: sampleCatalog })
  if (!('pipeline' in parsed)) throw new Error(JSON.stringify(parsed.problems))
  return planRun(parsed.pipeline, sampleCatalog)
}

const needsOf = (steps: string[]) => Object.fromEntries(planOf(steps).map((step) => [step.key, step.needs]))

test('steps run one after another; failure and always steps wait for all normal ones and hold up none', () => {
  expect(
    needsOf([
      'step_id: f, trigger: on_failure',
      'step_id: a',
      'step_id: w, trigger: always',
      'step_id: b',
      'step_id: c',
    ]),
  ).toEqual({ f: ['a', 'b', 'c'], a: [], w: ['a', 'b', 'c'], b: ['a'], c: ['b'] })
})

test('depends_on and covers say it themselves, once each', () => {
  expect(
    needsOf([
      'step_id: a',
      'step_id: b, depends_on: [c, c]',
      'step_id: c, depends_on: [a]',
      'step_id: d',
      'step_id: f, trigger: on_failure, covers: [a, b]',
    ]),
  ).toEqual({ a: [], b: ['c'], c: ['a'], d: ['c'], f: ['a', 'b'] })
})

test('a step is planned with its queue, limits and raw settings', () => {
  expect(planOf(['step_id: a, credential: pg, on_error: continue, timeout: 90s, when: "{date}"'])).toEqual([
    {
      key: 'a',
      position: 0,
      ps_type: 'quality.check',
      queue: 'transform',
      trigger: 'on_success',
      needs: [],
      max_attempts: 3,
      backoff_ms: 5000,
      backoff_cap_ms: 300_000,
      timeout_ms: 90_000,
      allow_failure: true,
      settings: { table: 't', rules: [{ rule: 'not_null', column: 'c' }] },
      credential: 'pg',
    },
  ])
})

test('a step is told how to retry by itself, then by defaults, then by the pipeline', () => {
  const limits = (steps: string[], head?: string) =>
    planOf(steps, head).map((step) => [step.max_attempts, step.backoff_ms, step.backoff_cap_ms, step.timeout_ms])
  const own = 'step_id: a, retry: { attempts: 5, initial: 15s, max: 10m, jitter: true }'
  const fixed = 'step_id: b, retry: { backoff: fixed, initial: 1m }'
  expect(limits([own, fixed, 'step_id: c'], 'retry: { attempts: 1 }')).toEqual([
    [5, 15_000, 600_000, 3_600_000],
    [3, 60_000, 60_000, 3_600_000],
    [1, 5000, 300_000, 3_600_000],
  ])
  expect(limits(['step_id: c'], 'retry: { attempts: 1 }\ndefaults: { retry: { attempts: 2 }, timeout: 2h }')).toEqual([
    [2, 5000, 300_000, 7_200_000],
  ])
})

test('notify adds mails at the end that cannot fail the run', () => {
  const head = 'notify: { on_success: [ok@a.example], on_failure: ["{admin_email}"] }'
  const plan = planOf(['step_id: a', 'step_id: w, trigger: always'], head)
  expect(
    plan.map(({ key, position, trigger, needs, allow_failure }) => [key, position, trigger, needs, allow_failure]),
  ).toEqual([
    ['a', 0, 'on_success', [], false],
    ['w', 1, 'always', ['a'], false],
    ['notify_on_success', 2, 'on_success', ['a'], true],
    ['notify_on_failure', 3, 'on_failure', ['a'], true],
  ])
  expect(plan[3]).toMatchObject({ queue: 'delivery', settings: { to_emails: ['{admin_email}'] } })
})

test('a run has the time that its pipeline gives, or no limit', () => {
  const timeout = (head: string) => {
    const parsed = parsePipeline(`pipeline_id: p\n${head}\nsteps: [{ step_id: a, ${check} }]`, {
      catalog: sampleCatalog,
    })
    return 'pipeline' in parsed ? runTimeoutMs(parsed.pipeline) : parsed.problems
  }
  expect([timeout('timeout: 4h'), timeout('timeout: 1.5h'), timeout('')]).toEqual([14_400_000, 5_400_000, null])
})

test('a processor that this deployment does not have is no plan', () => {
  const parsed = parsePipeline(`pipeline_id: p\nsteps: [{ step_id: a, ${check} }]`, { catalog: sampleCatalog })
  if (!('pipeline' in parsed)) throw new Error('not parsed')
  expect(() => planRun(parsed.pipeline, [])).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }))
})
