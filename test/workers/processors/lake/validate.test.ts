import { expect, test } from 'vitest'
import ingest from '../../../../workers/processors/file/ingest.ts'
import restore from '../../../../workers/processors/lake/restore.ts'
import retain from '../../../../workers/processors/lake/retain.ts'
import validate from '../../../../workers/processors/lake/validate.ts'
import { tenant, type Tenant } from '../../../support/step-context.ts'

async function withHistory(): Promise<Tenant> {
  const t = await tenant()
  for (const amount of [1, 2, 3, 4]) {
    await t.write('in.csv', `id,amount\n1,${amount}\n2,${amount}\n2,${amount + 1}\n`)
    await t.run(ingest, { source: { path: 'in.csv' }, destination: { table: 'orders', business_key: ['id'] } })
  }
  return t
}

test('nothing is found after loads, duplicates, a restore and retention', async () => {
  await using t = await withHistory()
  await t.run(restore, { table: 'orders', load: 2 })
  await t.run(retain, { table: 'orders', keep_versions: 3 })
  expect(await t.run(validate, { fail_on_findings: true })).toEqual({ findings: [], found: 0 })
})

test.each([
  [
    'DELETE FROM lake.raw.orders WHERE version = 2',
    ['orphaned_changes 2', 'rows_against_receipts 2', 'version_gaps 2'],
  ],
  ['DELETE FROM lake.raw.orders WHERE version = 4', ['current_versions 2', 'rows_against_receipts 2']],
  ['UPDATE lake.raw.orders SET is_current = true WHERE version = 1', ['current_versions 2']],
  ['UPDATE lake.raw.orders SET previous_version = 9 WHERE version = 3', ['orphaned_changes 2']],
  [`UPDATE lake.raw.orders SET run_id = 'run_x' WHERE version = 3`, ['rows_without_receipt 2']],
  [
    'INSERT INTO lake.raw.orders SELECT * FROM lake.raw.orders WHERE version = 1',
    ['duplicate_versions 2', 'rows_against_receipts 2'],
  ],
  [
    `INSERT INTO lake.raw.x_meta_step_logs VALUES ('run_9', 'load', 'p', 'manual', 'u', 'file.ingest', 0, 1, 1, 'SUCCEEDED',
       NULL, NULL, '{"table": "orders", "load": 9}', now() - INTERVAL 2 day, now())`,
    ['steps_without_receipt 1'],
  ],
  [
    `INSERT INTO lake.raw.x_meta_step_logs VALUES ('run_9', 'x', 'p', 'manual', 'u', 'file.delete', 0, 1, 1, 'SUCCEEDED',
       NULL, NULL, '{}', now() - INTERVAL 2 day, now());
     UPDATE lake.raw.x_meta_load_receipts SET completed_at = now() - INTERVAL 1 day`,
    ['receipts_without_step 4'],
  ],
])('%s is found, with its count', async (damage, expected) => {
  await using t = await withHistory()
  await t.rows(damage)
  const { findings } = await t.run(validate, {})
  const found = (findings as { finding: string; count: number }[]).map(({ finding, count }) => `${finding} ${count}`)
  expect(found.sort()).toEqual(expected)
  await expect(t.run(validate, { table: 'orders', fail_on_findings: true })).rejects.toMatchObject({
    code: 'QUALITY_BLOCKED',
  })
  expect(await t.rows(`SELECT count(*)::INTEGER AS n FROM lake.raw.x_meta_findings`)).toEqual([
    { n: 2 * expected.length },
  ])
})
