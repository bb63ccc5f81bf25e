import { expect, test } from 'vitest'
import { tenant } from '../../../support/step-context.ts'
import provisionLake from '../../../../workers/processors/tenant/provision_lake.ts'

test('a new lake answers, and a repeat keeps its tables', async () => {
  await using t = await tenant()
  await t.run(provisionLake, {})
  await t.rows('create table lake.main.kept as select 1 as a')
  await t.run(provisionLake, {})
  expect(await t.rows('select a from lake.main.kept')).toEqual([{ a: 1 }])
})

test('an aborted step says so', async () => {
  await using t = await tenant()
  await expect(t.run(provisionLake, {}, { signal: AbortSignal.abort() })).rejects.toMatchObject({
    code: 'CANCELLED',
  })
})
