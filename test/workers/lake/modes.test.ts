import { join } from 'node:path'
import { rename } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { z } from 'zod'
import type { AppError } from '../../../shared/errors.ts'
import { defineSource } from '../../../workers/define.ts'
import { destination } from '../../../workers/lake/destination.ts'
import ingest from '../../../workers/processors/file/ingest.ts'
import { loadQuery } from '../../../workers/sources/load-query.ts'
import { type Given, tenant, type Tenant } from '../../support/step-context.ts'

const load = async (t: Tenant, text: string, to: object = {}, source: object = {}, given: Given = {}) => {
  await t.write('in.csv', text)
  return await t.run(
    ingest,
    { source: { path: 'in.csv', ...source }, destination: { table: 'orders', business_key: ['id'], ...to } },
    given,
  )
}
const current = (t: Tenant, columns = 'id, day, n') => t.rows(`SELECT ${columns} FROM lake.main.orders ORDER BY ALL`)

// Another table of the same engine as the source: a query runs, and its rows come as CSV, as from any source.
const source = defineSource({
  provider: 'shop',
  title: 'Shop',
  dialect: 'standard',
  secret: z.object({ lake: z.custom<Tenant['lake']>() }),
  check: async () => {},
  async read(ctx, { lake }, query) {
    using connection = await lake.connect(ctx.signal)
    const text = query.text.replace(/;$/, '')
    const columns = await connection.rows(`DESCRIBE SELECT * FROM (${text})`, query.values)
    const path = join(ctx.workDir, 'out.csv')
    const copied = join(ctx.workDir, 'copied.csv')
    const bytes = await connection.run(
      `COPY (SELECT * FROM (${text})) TO '${copied}' (FORMAT csv, HEADER false)`,
      query.values,
    )
    await rename(copied, path)
    return {
      columns: columns.map((row) => ({ name: String(row['column_name']), type: String(row['column_type']) })),
      rowsTotal: null,
      files: (async function* () {
        yield { path, bytes }
      })(),
    }
  },
})

test.each(['versioned', 'append'] as const)(
  'a %s load resumes at the mark that was committed with its rows, and a failed one moves no mark',
  async (mode) => {
    await using t = await tenant()
    await t.rows(`CREATE TABLE lake.main.shop AS SELECT i AS id, i * 10 AS seen FROM range(1, 5) t(i)`)
    const read = async (given: Given = {}, query = 'SELECT id, seen FROM lake.main.shop;') => {
      const ctx = await t.context({ ...given, secret: { lake: t.lake } })
      const to = { table: 'orders', mode, business_key: mode === 'versioned' ? ['id'] : [], snapshot: 'delta' as const }
      const step = { source, query, cursor: 'seen', resume: true, destination: destination.parse(to) }
      return (await loadQuery(ctx, step)).outputs
    }
    const overlap = mode === 'versioned' ? 1 : 0
    expect(await read()).toMatchObject({ inserted: 4, resumed: false })
    expect(await read()).toMatchObject({ rows_in: overlap, inserted: 0, unchanged: overlap, resumed: true })
    await t.rows(`INSERT INTO lake.main.shop VALUES (5, 50), (6, 60)`)
    await expect(read({}, 'SELECT id, seen, error(id::VARCHAR) FROM lake.main.shop')).rejects.toMatchObject({
      code: 'INTERNAL',
    })
    expect(await read({ runId: 'again' })).toMatchObject({ rows_in: 2 + overlap, inserted: 2, resumed: true })
    expect(await read({ runId: 'again' })).toMatchObject({ inserted: 2 })
    expect(await read({ stepKey: 'another' })).toMatchObject({ resumed: false })
    // A row without a mark: a versioned table takes it, an appended one could not tell whether it has it.
    await t.rows(`INSERT INTO lake.main.shop VALUES (7, NULL)`)
    const outcome = await read().then(
      ({ inserted }) => inserted,
      (error: AppError) => error.code,
    )
    expect(outcome).toBe(mode === 'versioned' ? 1 : 'SOURCE_FAILED')
  },
)

test('what would delete all that did not change is refused: resume with a full snapshot', async () => {
  await using t = await tenant()
  const ctx = await t.context({ secret: { lake: t.lake } })
  const step = { source, query: 'SELECT 1 AS id', cursor: 'id', resume: true }
  await expect(loadQuery(ctx, { ...step, destination: destination.parse({ table: 'orders' }) })).rejects.toMatchObject({
    code: 'CONFIG_INVALID',
  })
})

const twoDays = 'id,day,n\n1,2026-01-01,1\n2,2026-01-01,2\n3,2026-01-02,3\n4,,4\n'

test('a full snapshot of some partitions deletes in those alone, and NULL is a partition of its own', async () => {
  await using t = await tenant()
  await load(t, twoDays)
  const next = 'id,day,n\n1,2026-01-01,1\n5,,5\n'
  expect(await load(t, next, { partition_by: ['day'] })).toMatchObject({ inserted: 1, deleted: 2, unchanged: 1 })
  expect(await current(t, 'id')).toEqual([{ id: '1' }, { id: '3' }, { id: '5' }])
})

test('replace by partition puts new rows in the place of those partitions, as often as it runs', async () => {
  await using t = await tenant()
  const to = { mode: 'replace', business_key: [], partition_by: ['day'] }
  expect(await load(t, twoDays, to)).toMatchObject({ inserted: 4, deleted: 0 })
  for (const inserted of [2, 2])
    expect(await load(t, 'n,id,day\n9,1,2026-01-01\n8,7,2026-01-01\n', to)).toMatchObject({ inserted, deleted: 2 })
  expect(await current(t, 'id, n')).toEqual([
    { id: '1', n: '9' },
    { id: '3', n: '3' },
    { id: '4', n: '4' },
    { id: '7', n: '8' },
  ])
  await expect(load(t, 'id,n\n1,1\n', to)).rejects.toMatchObject({ code: 'CONFIG_INVALID' })
})

test('rows with the same key: the last wins or none does, and either way they are counted', async () => {
  await using t = await tenant()
  await load(t, 'id,n\n1,1\n2,2\n')
  const twice = 'id,n\n1,7\n1,8\n1,9\n3,3\n'
  expect(await load(t, twice, { duplicates: 'reject' })).toMatchObject({
    duplicates: 3,
    rejected: 3,
    inserted: 1,
    updated: 0,
    deleted: 1,
  })
  expect(await current(t, 'id, n')).toEqual([
    { id: '1', n: '1' },
    { id: '3', n: '3' },
  ])
  expect(await load(t, twice)).toMatchObject({ duplicates: 2, rejected: 2, updated: 1 })
  expect(await current(t, 'n')).toEqual([{ n: '3' }, { n: '9' }])
})

test('every version tells who wrote it, from which file, in which run, step, attempt and load', async () => {
  await using t = await tenant()
  await load(t, 'id,n\n1,1\n', {}, {}, { runId: 'run_a', stepKey: 'ingest' })
  await load(t, 'id,n\n1,2\n', {}, {}, { runId: 'run_b', stepKey: 'ingest' })
  await load(t, 'id,n\n2,2\n', {}, {}, { runId: 'run_c', stepKey: 'ingest' })
  expect(
    await t.rows(
      `SELECT version, change_type AS c, changed_by_user_id AS who, source_file AS f, run_id, step_key, step_attempt, load_number
       FROM lake.raw.orders WHERE id = 1 ORDER BY version`,
    ),
  ).toEqual([
    {
      version: 1,
      c: 'INSERT',
      who: 'usr_1',
      f: 'in.csv',
      run_id: 'run_a',
      step_key: 'ingest',
      step_attempt: 1,
      load_number: '1',
    },
    {
      version: 2,
      c: 'UPDATE',
      who: 'usr_1',
      f: 'in.csv',
      run_id: 'run_b',
      step_key: 'ingest',
      step_attempt: 1,
      load_number: '2',
    },
    {
      version: 3,
      c: 'DELETE',
      who: 'usr_1',
      f: null,
      run_id: 'run_c',
      step_key: 'ingest',
      step_attempt: 1,
      load_number: '3',
    },
  ])
})

test('loads of one table at the same time run one after another and none is lost', async () => {
  await using t = await tenant()
  const files = Array.from({ length: 6 }, (_, i) => i)
  for (const i of files) await t.write(`${i}.csv`, `id,n\n${i},${i}\nboth,${i}\n`)
  const all = await Promise.all(
    files.map((i) =>
      t.run(
        ingest,
        {
          source: { path: `${i}.csv` },
          destination: { table: 'orders', business_key: ['id'], snapshot: 'delta' },
        },
        { runId: `run_${i}` },
      ),
    ),
  )
  expect(all.map((outputs) => Number(outputs['load'])).sort()).toEqual([1, 2, 3, 4, 5, 6])
  expect(await t.rows(`SELECT count(*)::INTEGER AS n, max(version) AS v FROM lake.raw.orders`)).toEqual([
    { n: 12, v: 6 },
  ])
  expect(
    await t.rows(
      `SELECT count(*)::INTEGER AS n FROM lake.raw.orders WHERE is_current GROUP BY composite_key HAVING count(*) > 1`,
    ),
  ).toEqual([])
})

test('without a business key the best one is found, kept with the table and shown', async () => {
  await using t = await tenant()
  const to = { business_key: [] }
  const text = 'name,order_id,line,amount\na,1,1,5.5\nb,1,2,6.5\nc,2,1,7.5\nd,2,2,8.5\n'
  expect(await load(t, text, to)).toMatchObject({ business_key: ['name'], key_source: 'detected' })
  expect(await load(t, `${text}e,3,1,9.5\n`, to)).toMatchObject({ inserted: 1, business_key: ['name'] })
  // The guess broke: the load is refused, and nothing of it is written.
  await expect(load(t, `${text}a,9,1,9.5\n`, to)).rejects.toMatchObject({
    code: 'KEY_INVALID',
    message: expect.stringContaining('name its business_key'),
  })
  // A named key that tells the same records apart takes its place, history and all.
  expect(await load(t, `${text}a,9,1,9.5\n`, { business_key: ['order_id', 'line'] })).toMatchObject({
    inserted: 1,
    deleted: 1,
    unchanged: 4,
    business_key: ['order_id', 'line'],
    key_source: 'given',
  })
  expect(
    await t.rows(`SELECT composite_key AS k, version FROM lake.raw.orders WHERE order_id = 3 ORDER BY version`),
  ).toEqual([
    { k: 'org_guru_232342_orders_3_1', version: 1 },
    { k: 'org_guru_232342_orders_3_1', version: 2 },
  ])
  await expect(load(t, text, { business_key: ['name'] })).rejects.toMatchObject({ code: 'KEY_INVALID' })
})

test.each([
  ['id before others', 'sku,id,n\nx,1,1\ny,2,2\n', ['id']],
  ['the id of the table', 'code,order_id,n\nx,1,1\ny,2,2\n', ['order_id']],
  ['two columns', 'shop,no,n\na,1,1\na,2,1\nb,1,1\n', ['no', 'shop']],
  ['three columns', 'a,b,c,n\n1,1,1,5\n1,1,2,5\n1,2,1,5\n2,1,1,5\n', ['a', 'b', 'c']],
  ['none with an empty value', 'id,ref_no,n\n,1,1\n2,2,2\n', ['ref_no']],
])('the key that is found is %s', async (_, text, key) => {
  await using t = await tenant()
  expect(await load(t, text, { business_key: [] })).toMatchObject({ business_key: key })
})

test.each([
  ['rows that repeat', 'a,b\n1,1\n1,1\n'],
  ['no rows', 'a,b\n'],
])('a key cannot be found in %s', async (_, text) => {
  await using t = await tenant()
  await expect(load(t, text, { business_key: [] })).rejects.toMatchObject({ code: 'KEY_INVALID' })
})
