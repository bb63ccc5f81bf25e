import { expect, test } from 'vitest'
import { fakeBigQuery } from '../fakes/bigquery/server.ts'
import { world } from '../support/world.ts'

const template = 'gcp/cost/cost_billing'

test('the billing template runs as it ships, with the only Google credential of its tenant', async () => {
  await using w = await world()
  await using server = await fakeBigQuery()
  const t = await w.tenant('guru_232342')
  server.result({
    fields: [
      { name: 'date', type: 'DATE' },
      { name: 'service', type: 'STRING' },
      { name: 'cost', type: 'NUMERIC' },
    ],
    rows: [
      ['2024-11-01', 'Compute Engine', '12.5'],
      ['2024-11-01', 'BigQuery', '0.25'],
    ],
  })

  const without = await t.run(template, { date: '2024-11-01' })
  expect(without).toMatchObject({ state: 'FAILED', error: { code: 'CREDENTIAL_MISSING' } })

  await t.credential('billing', 'gcp', server.secret)
  for (const _again of [1, 2]) {
    const run = await t.run(template, { date: '2024-11-01', source_table: 'my-project-1.exports.gcp_billing_v1' })
    expect(run).toMatchObject({ state: 'SUCCEEDED', error: null })
    expect(run.steps).toMatchObject([
      { key: 'extract', state: 'SUCCEEDED', outputs: { table: 'billing_cost_daily', rows: 2 } },
      { key: 'notify_failure', state: 'SKIPPED' },
    ])
  }
  expect(server.jobs.map((job) => job.request)).toMatchObject([
    {
      query: 'SELECT * FROM `my-project-1`.`exports`.`gcp_billing_v1` WHERE date=@p1',
      queryParameters: [{ parameterValue: { value: '2024-11-01' } }],
    },
    {},
  ])
  expect(await t.rows('SELECT count(*) AS n, sum(cost) AS cost FROM billing_cost_daily')).toEqual([
    { n: 2, cost: 12.75 },
  ])

  await t.credential('another', 'gcp', server.secret)
  const torn = await t.run(template, { date: '2024-11-01' })
  expect(torn.error).toMatchObject({ code: 'CREDENTIAL_MISSING', hint: expect.stringContaining('credential:') })
})
