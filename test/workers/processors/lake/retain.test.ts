import { expect, test } from 'vitest'
import ingest from '../../../../workers/processors/file/ingest.ts'
import classify from '../../../../workers/processors/lake/classify.ts'
import retain from '../../../../workers/processors/lake/retain.ts'
import validate from '../../../../workers/processors/lake/validate.ts'
import { tenant, type Tenant } from '../../../support/step-context.ts'

async function load(t: Tenant, content: string, table = 'orders'): Promise<void> {
  await t.write('in.csv', content)
  await t.run(ingest, { source: { path: 'in.csv' }, destination: { table, business_key: ['id'], delete_limit: 1 } })
}

/** Record 1 has 12 versions, record 2 has one, record 3 was deleted by the last load and has two. */
async function withVersions(): Promise<Tenant> {
  const t = await tenant()
  for (let version = 1; version <= 12; version++)
    await load(t, `id,amount\n1,${version}\n2,0\n${version === 12 ? '' : '3,0\n'}`)
  return t
}

const versions = async (t: Tenant): Promise<string[]> =>
  (
    await t.rows(
      `SELECT right(composite_key, 1) || ':' || version || CASE WHEN is_current THEN '*' ELSE '' END AS v
       FROM lake.raw.orders ORDER BY composite_key, version`,
    )
  ).map((row) => String(row['v']))

/** As if everything of a table had happened so many days ago. */
async function age(t: Tenant, days: number, where = 'true'): Promise<void> {
  await t.rows(`UPDATE lake.raw.orders SET last_modified = last_modified - to_days(${days}) WHERE ${where}`)
}

test('of 12 versions the newest 10 stay, the newest is current, and records with fewer are not touched', async () => {
  await using t = await withVersions()
  expect(await t.run(retain, { table: 'orders', keep_versions: 10 })).toMatchObject({ deleted: 2, compacted: true })
  const ten = [3, 4, 5, 6, 7, 8, 9, 10, 11].map((version) => `1:${version}`)
  expect(await versions(t)).toEqual([...ten, '1:12*', '2:1*', '3:1', '3:2*'])
  expect(await t.run(retain, { table: 'orders', keep_versions: 1 })).toMatchObject({ deleted: 10 })
  expect(await versions(t)).toEqual(['1:12*', '2:1*', '3:2*'])
  expect(await t.rows(`SELECT amount::INTEGER AS amount FROM lake.main.orders ORDER BY id`)).toEqual([
    { amount: 12 },
    { amount: 0 },
  ])
  expect(await t.run(validate, {})).toEqual({ findings: [], found: 0 })
  await load(t, 'id,amount\n1,13\n2,0\n3,7\n')
  expect(await versions(t)).toEqual(['1:12', '1:13*', '2:1*', '3:2', '3:3*'])
})

test('two records whose keys differ only by their organisation are counted apart', async () => {
  await using t = await withVersions()
  await t.rows(`INSERT INTO lake.raw.orders BY NAME SELECT * REPLACE ('other' AS org_id) FROM lake.raw.orders`)
  expect(await t.run(retain, { table: 'orders', keep_versions: 10 })).toMatchObject({ deleted: 4 })
  expect(await t.rows(`SELECT org_id, count(*)::INTEGER AS n FROM lake.raw.orders GROUP BY 1 ORDER BY 1`)).toEqual([
    { org_id: 'guru_232342', n: 13 },
    { org_id: 'other', n: 13 },
  ])
})

test('a version is as old as the moment it was replaced; the current one and a tombstone stay at any age', async () => {
  await using t = await withVersions()
  await age(t, 400, 'version <= 6')
  // Version 6 was replaced by 7, which is of today.
  expect(await t.run(retain, { table: 'orders', max_age_days: 365 })).toMatchObject({ deleted: 6 })
  expect(await versions(t)).toEqual(['1:6', '1:7', '1:8', '1:9', '1:10', '1:11', '1:12*', '2:1*', '3:2*'])
})

test('a deleted record is forgotten whole when it was deleted long enough ago', async () => {
  await using t = await withVersions()
  const forget = { table: 'orders', forget_deleted_after_days: 30 }
  expect(await t.run(retain, forget)).toMatchObject({ deleted: 0 })
  await age(t, 31)
  expect(await t.run(retain, forget)).toMatchObject({ deleted: 2 })
  expect((await versions(t)).filter((version) => version.startsWith('3'))).toEqual([])
  expect(await t.rows(`SELECT records_forgotten::INTEGER AS n FROM lake.raw.x_meta_retention ORDER BY 1`)).toEqual([
    { n: 0 },
    { n: 1 },
  ])
})

test('rows of a table without versions go by a column of theirs', async () => {
  await using t = await tenant()
  await t.write('log.csv', 'id,seen\n1,2020-01-01\n2,2999-01-01\n')
  await t.run(ingest, { source: { path: 'log.csv' }, destination: { table: 'log', mode: 'append' } })
  expect(await t.run(retain, { table: 'log', max_age_days: 365, age_column: 'seen' })).toMatchObject({ deleted: 1 })
  expect(await t.rows(`SELECT id::INTEGER AS id FROM lake.main.log`)).toEqual([{ id: 2 }])
  for (const wrong of [{ keep_versions: 2 }, { max_age_days: 1 }, { max_age_days: 1, age_column: 'id' }])
    await expect(t.run(retain, { table: 'log', ...wrong })).rejects.toMatchObject({ code: 'CONFIG_INVALID' })
})

test('a tag finds its tables, and one legal hold among them keeps all of them whole', async () => {
  await using t = await withVersions()
  for (const amount of [1, 2, 3]) await load(t, `id,amount\n1,${amount}\n`, 'people')
  for (const table of ['orders', 'people']) await t.run(classify, { table, classification: 'personal' })
  await t.run(classify, { table: 'people', legal_hold: 'case 17' })
  const policy = { classification: 'personal', keep_versions: 1 }
  await expect(t.run(retain, policy)).rejects.toMatchObject({
    code: 'CONFLICT',
    message: expect.stringContaining('case 17'),
  })
  expect(await versions(t)).toHaveLength(15)
  expect(await t.run(classify, { table: 'people', legal_hold: null })).toMatchObject({ classification: 'personal' })
  expect(await t.run(retain, policy)).toMatchObject({
    deleted: 14,
    tables: [
      { table: 'orders', deleted: 12 },
      { table: 'people', deleted: 2 },
    ],
  })
})

test('a rehearsal deletes nothing and its plan does exactly that; a repeat of a step counts once', async () => {
  await using t = await withVersions()
  const policy = { table: 'orders', keep_versions: 10 }
  const rehearsed = await t.run(retain, { ...policy, dry_run: true })
  expect(rehearsed).toMatchObject({ deleted: 2, compacted: false })
  expect(await versions(t)).toHaveLength(15)
  const [{ plan } = { plan: '' }] = rehearsed['tables'] as { plan: string }[]
  await expect(t.run(retain, { ...policy, keep_versions: 9, plan })).rejects.toMatchObject({ code: 'CONFLICT' })
  const step = { runId: 'run_r', stepKey: 'keep' }
  for (const fence of [90n, 91n])
    expect(await t.run(retain, { ...policy, plan }, { ...step, fence })).toMatchObject({ deleted: 2 })
  expect(await t.rows(`SELECT versions_deleted::INTEGER AS n FROM lake.raw.x_meta_retention`)).toEqual([{ n: 2 }])
})

test('rows that are deleted give their room back', async () => {
  await using t = await tenant()
  await t.write('in.csv', 'id,a\n1,1\n')
  for (let round = 1; round <= 4; round++) {
    const rows = Array.from({ length: 60_000 }, (_, id) => `${id},${(id * 7919 * round) % 1_000_003}-${round}`)
    await load(t, `id,a\n${rows.join('\n')}\n`)
  }
  await t.run(retain, { table: 'orders', keep_versions: 1 })
  const blocks = async (): Promise<number> =>
    Number((await t.rows(`SELECT sum(used_blocks)::INTEGER AS n FROM pragma_database_size()`))[0]?.['n'])
  const after = await blocks()
  await load(t, 'id,a\n')
  expect(await versions(t)).toHaveLength(120_000)
  await t.run(retain, { table: 'orders', keep_versions: 1 })
  expect(await blocks()).toBeLessThanOrEqual(after + 8)
})
