import { expect, test } from 'vitest'
import { world } from '../support/world.ts'

const inner = `pipeline_id: inner
parameters:
  n: { type: integer, default: 1 }
steps:
  - step_id: write
    ps_type: file.export
    retry: { attempts: 1 }
    source: { query: "SELECT {n} AS n" }
    destination: { path: "inner_{n}.csv" }
  - step_id: judge
    ps_type: sql.transform
    when: "{n} == 13"
    retry: { attempts: 1 }
    query: "SELECT * FROM nowhere"
    destination: { table: t }
`
const outer = `pipeline_id: outer
steps:
  - step_id: each
    ps_type: pipeline.run
    for_each: [7, 8]
    pipeline: test/unit/inner
    parameters: { n: "{item}" }
  - step_id: after
    ps_type: file.export
    source: { query: "SELECT '{steps.each.count}' AS n" }
    destination: { path: "after.csv" }
`

test('a step runs another pipeline and ends as that run ends, with one worker slot for both', async () => {
  await using w = await world()
  const t = await w.tenant('child_runs')
  await t.save('test/unit/inner', inner)
  await t.save('test/unit/outer', outer)
  const run = await t.run('test/unit/outer')
  expect(run).toMatchObject({ state: 'SUCCEEDED', error: null })
  expect(await t.read('inner_7.csv')).toBe('n\n7\n')
  expect(await t.read('inner_8.csv')).toBe('n\n8\n')
  expect(await t.read('after.csv')).toBe('n\n2\n')

  await t.save('test/unit/outer', outer.replace('[7, 8]', '[13]'))
  const failed = await t.run('test/unit/outer')
  expect(failed).toMatchObject({ state: 'FAILED', error: { code: 'TABLE_MISSING', stepKey: 'each[0]' } })
  expect(failed.error?.message).toContain('at judge')

  await t.save('test/unit/outer', outer.replace('[7, 8]', '[1]').replace(/test.unit.inner\n.*/, 'test/unit/outer'))
  const endless = await t.run('test/unit/outer')
  expect(endless).toMatchObject({ state: 'FAILED', error: { code: 'CONFIG_INVALID', stepKey: 'each[0]' } })
  expect(endless.error?.message).toContain('five deep')
})
