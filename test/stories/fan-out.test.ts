import { expect, test } from 'vitest'
import { world } from '../support/world.ts'

const pipeline = `pipeline_id: places_by_country
parameters:
  broken: { type: string, default: none }
steps:
  - step_id: each
    ps_type: file.export
    for_each:
      - { country: at, rows: 2, wanted: true }
      - { country: de, rows: 3, wanted: true }
      - { country: ch, rows: 0, wanted: false }
    when: "{item.wanted}"
    retry: { attempts: 1 }
    source: { query: "SELECT '{item.country}' AS country, range AS n FROM range({item.rows})" }
    destination: { path: "{item_index}_{item.country}.csv" }
  - step_id: pack
    ps_type: file.compress
    source: { paths: ["0_at.csv", "1_de.csv"] }
    destination: { path: "all.zip" }
  - step_id: names
    ps_type: file.export
    for_each: "{steps.each.items}"
    source: { query: "SELECT '{item_index}' AS n" }
    destination: { path: "again_{item_index}.csv" }
`

test('a step is done once per item, in children of its own, and what follows waits for all of them', async () => {
  await using w = await world()
  const t = await w.tenant('fan_out')
  await t.save('test/unit/fan', pipeline)
  const run = await t.run('test/unit/fan')
  expect(run.error).toBeNull()
  const outputs = Object.fromEntries(run.steps.map((step) => [step.key, step.outputs]))
  expect(outputs).toMatchObject({
    each: { count: 3 },
    'each[0]': { rows: 2 },
    'each[1]': { rows: 3 },
    'each[2]': { skipped: true },
    names: { count: 3 },
  })
  expect(await t.read('1_de.csv')).toBe('country,n\nde,0\nde,1\nde,2\n')
  expect(await t.read('again_2.csv')).toContain('2')
})
