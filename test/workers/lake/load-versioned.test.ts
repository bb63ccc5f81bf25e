import { createHash } from 'node:crypto'
import { expect, test } from 'vitest'
import type { Column } from '../../../workers/define.ts'
import { compositeKey } from '../../../workers/lake/composite-key.ts'
import { loadVersioned, type VersionedLoad } from '../../../workers/lake/load-versioned.ts'
import type { LoadCounts } from '../../../workers/lake/receipt.ts'
import { rowHash } from '../../../workers/lake/row-hash.ts'
import { keysFrom, openRejected } from '../../../workers/lake/staging.ts'
import { tenant, type Tenant } from '../../support/step-context.ts'

const columns: Column[] = [
  { name: 'id', type: 'BIGINT' },
  { name: 'part', type: 'VARCHAR' },
  { name: 'amount', type: 'DECIMAL(10,2)' },
  { name: 'note', type: 'VARCHAR' },
]
let fences = 0n

// Loads the rows of a query, which gives the columns above; as a stream it is read once, otherwise from a staging.
async function load(
  t: Tenant,
  select: string,
  given: Partial<VersionedLoad> & { stream?: boolean } = {},
): Promise<LoadCounts> {
  using connection = await t.lake.connect(new AbortController().signal)
  await openRejected(connection)
  await connection.run(`CREATE OR REPLACE TEMP TABLE given AS ${select}`)
  const fence = ++fences
  const shape = given.source?.columns ?? columns
  const { stream, ...rest } = given
  return await loadVersioned(connection, {
    attempt: { runId: `run_${fence}`, stepKey: 's', cycle: 0, fence, number: 1 },
    orgId: 'acme',
    actor: 'usr_1',
    table: 'sales',
    businessKey: ['id', 'part'],
    snapshot: 'full',
    source: stream
      ? { columns: shape, keep: 'amount DESC', batches: batches(shape) }
      : {
          columns: shape,
          untyped: [],
          keep: '__row DESC',
          files: [],
          relation: live,
          keysOfRejected: keysFrom(live),
          locate: async () => {},
        },
    ...rest,
  })
}
const live = `(SELECT g.*, g.rowid + 1 AS __row FROM given g ANTI JOIN rejected r ON g.rowid + 1 = r.__row)`
async function* batches(shape: Column[]) {
  const list = shape.map((column) => column.name).join(', ')
  for (const part of [0, 1])
    yield { relation: `(SELECT ${list} FROM given WHERE hash(id) % 2 = ${part})`, loaded: async () => {} }
}

const rows = (from: number, to: number) =>
  `SELECT i::BIGINT AS id, 'p' || (i % 7) AS part, (i * 1.25)::DECIMAL(10,2) AS amount,
     CASE WHEN i % 10 = 0 THEN NULL ELSE 'note ' || i END AS note FROM range(${from}, ${to}) t(i)`

test.each([true, false])('a first load and a delta count what the generator changed (stream: %s)', async (stream) => {
  await using t = await tenant()
  expect(await load(t, rows(0, 10_000), { stream })).toMatchObject({
    rowsIn: 10_000,
    rejected: 0,
    inserted: 10_000,
    updated: 0,
    deleted: 0,
    unchanged: 0,
  })
  expect(await load(t, rows(0, 10_000), { stream })).toMatchObject({
    inserted: 0,
    updated: 0,
    deleted: 0,
    unchanged: 10_000,
  })
  // 100 values change, 99 become NULL, 90 stop being NULL, 100 rows go, 50 come.
  const next = `SELECT id, part, CASE WHEN id BETWEEN 1000 AND 1099 THEN amount + 1 ELSE amount END AS amount,
      CASE WHEN id BETWEEN 2000 AND 2110 AND id % 10 <> 0 THEN NULL
           WHEN id BETWEEN 3000 AND 3899 AND id % 10 = 0 THEN '' ELSE note END AS note
    FROM (${rows(100, 10_050)})`
  expect(await load(t, next, { stream })).toMatchObject({
    rowsIn: 9950,
    rejected: 0,
    inserted: 50,
    updated: 100 + 99 + 90,
    deleted: 100,
    unchanged: 9950 - 50 - 289,
  })
  const fields = await t.rows(
    `SELECT changed_fields::VARCHAR AS f, count(*)::INTEGER AS n FROM lake.raw.sales WHERE change_type = 'UPDATE' GROUP BY 1 ORDER BY 1`,
  )
  expect(fields).toEqual([
    { f: '[amount]', n: 100 },
    { f: '[note]', n: 189 },
  ])
  expect(await t.rows(`SELECT count(*)::INTEGER AS n FROM lake.main.sales`)).toEqual([{ n: 9950 }])
  expect(
    await t.rows(
      `SELECT count(*)::INTEGER AS n FROM (SELECT composite_key FROM lake.raw.sales WHERE is_current GROUP BY 1 HAVING count(*) > 1)`,
    ),
  ).toEqual([{ n: 0 }])
})

test('a key that was deleted comes back with the next version, and the change log tells the whole story', async () => {
  await using t = await tenant()
  await load(t, rows(1, 3))
  await load(t, rows(1, 2))
  await load(t, rows(1, 3))
  expect(
    await t.rows(`SELECT change_type AS c, old_version AS o, new_version AS n, old_data_hash = new_data_hash AS same
      FROM lake.raw.x_meta_change_log WHERE composite_key = 'org_acme_sales_2_p2' ORDER BY new_version`),
  ).toEqual([
    { c: 'INSERT', o: null, n: 1, same: null },
    { c: 'DELETE', o: 1, n: 2, same: true },
    { c: 'INSERT', o: 2, n: 3, same: true },
  ])
  expect(await t.rows(`SELECT id, version, is_deleted FROM lake.raw.sales_current ORDER BY id`)).toEqual([
    { id: '1', version: 1, is_deleted: false },
    { id: '2', version: 3, is_deleted: false },
  ])
})

test('a delta snapshot deletes nothing', async () => {
  await using t = await tenant()
  await load(t, rows(0, 10))
  expect(await load(t, rows(9, 11), { snapshot: 'delta' })).toMatchObject({ inserted: 1, deleted: 0, unchanged: 1 })
})

test.each([true, false])(
  'of rows with one key the last counts, and rows without a key are quarantined (first load: %s)',
  async (first) => {
    await using t = await tenant()
    if (!first) await load(t, rows(500, 501))
    const given = `SELECT * FROM (VALUES (1::BIGINT, 'a', 1.00::DECIMAL(10,2), 'old'), (1, 'a', 2.00, 'new'), (NULL, 'a', 3.00, 'x'), (2, NULL, 4.00, 'y'))
    v(id, part, amount, note)`
    expect(await load(t, given, { snapshot: 'delta' })).toMatchObject({ rowsIn: 4, rejected: 3, inserted: 1 })
    expect(await t.rows(`SELECT note FROM lake.main.sales WHERE id = 1`)).toEqual([{ note: 'new' }])
    expect(
      await t.rows(
        `SELECT code, column_name AS c, raw->>'$.note' AS note FROM lake.raw.x_meta_rejected_rows ORDER BY note`,
      ),
    ).toEqual([
      { code: 'KEY_DUPLICATE', c: 'id', note: 'old' },
      { code: 'KEY_NULL', c: 'id', note: 'x' },
      { code: 'KEY_NULL', c: 'part', note: 'y' },
    ])
  },
)

test('a stream with one key twice keeps the row that its order puts first, whichever came first', async () => {
  await using t = await tenant()
  const given = `SELECT * FROM (VALUES (1::BIGINT, 'a', 1.00::DECIMAL(10,2), 'x'), (1, 'a', 2.00, 'y'), (NULL, 'a', 3.00, 'z')) v(id, part, amount, note)`
  expect(await load(t, given, { stream: true })).toMatchObject({ rowsIn: 3, rejected: 2, inserted: 1 })
  expect(await t.rows(`SELECT note FROM lake.raw.sales`)).toEqual([{ note: 'y' }])
  expect(await load(t, `SELECT * FROM (${given}) ORDER BY note DESC`, { stream: true })).toMatchObject({ rejected: 2 })
})

test('a repeat of a step answers what it answered, and an older attempt is refused', async () => {
  await using t = await tenant()
  const attempt = { runId: 'run_x', stepKey: 's', cycle: 0, fence: 900n, number: 1 }
  const first = await load(t, rows(0, 10), { attempt })
  await load(t, rows(0, 5))
  expect(await load(t, rows(0, 3), { attempt: { ...attempt, fence: 901n } })).toEqual(first)
  await expect(load(t, rows(0, 3), { attempt: { ...attempt, fence: 899n } })).rejects.toMatchObject({
    code: 'CONFLICT',
  })
  expect(await t.rows(`SELECT count(*)::INTEGER AS n FROM lake.main.sales`)).toEqual([{ n: 5 }])
  expect(await load(t, rows(0, 3), { attempt: { ...attempt, cycle: 1, fence: 902n } })).toMatchObject({ deleted: 2 })
})

test('first loads of several tables at the same time do not hinder each other', async () => {
  await using t = await tenant()
  const tables = ['a', 'b', 'c', 'd']
  const all = await Promise.all(tables.map((table) => load(t, rows(0, 5000), { table })))
  expect(all.map((counts) => counts.inserted)).toEqual(tables.map(() => 5000))
  expect(
    await t.rows(
      `SELECT table_name AS t, count(*)::INTEGER AS n FROM lake.raw.x_meta_change_log GROUP BY 1 ORDER BY 1`,
    ),
  ).toEqual(tables.map((table) => ({ t: table, n: 5000 })))
})

test('a load that fails leaves nothing behind', async () => {
  await using t = await tenant()
  await load(t, rows(0, 10))
  const broken = `SELECT id, part, amount, note FROM (${rows(0, 20)})`
  await expect(
    load(t, broken, {
      source: {
        columns,
        untyped: [],
        keep: '__row DESC',
        files: [],
        relation: '(SELECT *, error(note) AS __row FROM given)',
        keysOfRejected: () => [],
        locate: async () => {},
      },
    }),
  ).rejects.toMatchObject({ code: 'INTERNAL' })
  expect(await t.rows(`SELECT count(*)::INTEGER AS n FROM lake.raw.sales`)).toEqual([{ n: 10 }])
  await t.reopen()
  expect(await t.rows(`SELECT count(*)::INTEGER AS n FROM lake.raw.sales`)).toEqual([{ n: 10 }])
})

test('a new column is added, and a missing one is refused', async () => {
  await using t = await tenant()
  await load(t, rows(0, 3))
  const wider = [...columns, { name: 'extra', type: 'DATE' }]
  const source = {
    columns: wider,
    untyped: [],
    keep: '__row DESC',
    files: [],
    relation: live,
    keysOfRejected: keysFrom(live),
    locate: async () => {},
  }
  const select = `SELECT *, CASE WHEN id = 1 THEN DATE '2024-01-01' END AS extra FROM (${rows(0, 3)})`
  expect(await load(t, select, { source })).toMatchObject({ updated: 1, unchanged: 2 })
  expect(await t.rows(`SELECT id, extra FROM lake.main.sales ORDER BY id`)).toMatchObject([
    { extra: null },
    { extra: '2024-01-01' },
    { extra: null },
  ])
  await expect(load(t, rows(0, 3))).rejects.toMatchObject({ code: 'SCHEMA_MISMATCH' })
})

test('the stored hash can be recomputed from the row', async () => {
  await using t = await tenant()
  await load(t, `SELECT 7::BIGINT AS id, 'ü' AS part, 1.50::DECIMAL(10,2) AS amount, NULL::VARCHAR AS note`)
  const text = `ü\u001f7\u001f1.50\u001f2\u001f`
  const expected = createHash('sha256').update(text).digest('hex')
  expect(await t.rows(`SELECT data_hash FROM lake.raw.sales`)).toEqual([{ data_hash: expected }])
})

test('distinct tuples have distinct composite keys and distinct rows distinct hashes', async () => {
  await using t = await tenant()
  using connection = await t.lake.connect(new AbortController().signal)
  const hard = [
    '',
    'a',
    '_',
    '%',
    '%5F',
    '%25',
    'a_b',
    'b',
    'a_',
    '_b',
    'sha256%_x',
    'x'.repeat(150),
    `${'x'.repeat(150)}_`,
    'y'.repeat(300),
    '\u001f',
    '\u001e',
    '\u001f1\u001e',
    '\u001f1',
    '1\u001f1',
    '0',
    '1',
  ]
  const list = hard.map((text) => `('${text}')`).join(', ')
  const text: Column[] = [
    { name: 'a', type: 'VARCHAR' },
    { name: 'b', type: 'VARCHAR' },
  ]
  const tuples = `(SELECT x.v AS a, y.v AS b FROM (VALUES ${list}, (NULL)) x(v), (VALUES ${list}, (NULL)) y(v))`
  const [key] = await connection.rows(
    `SELECT count(*)::INTEGER AS n, count(DISTINCT k)::INTEGER AS keys, max(length(k))::INTEGER AS longest
     FROM (SELECT ${compositeKey('org_acme', 't', text)} AS k FROM ${tuples} WHERE a IS NOT NULL AND b IS NOT NULL)`,
  )
  expect(key).toMatchObject({ n: hard.length ** 2, keys: hard.length ** 2 })
  expect(Number(key?.['longest'])).toBeLessThanOrEqual(200)
  const [hash] = await connection.rows(
    `SELECT count(*)::INTEGER AS n, count(DISTINCT ${rowHash(text)})::INTEGER AS hashes FROM ${tuples}`,
  )
  expect(hash).toEqual({ n: (hard.length + 1) ** 2, hashes: (hard.length + 1) ** 2 })
  const [plain] = await connection.rows(
    `SELECT ${compositeKey('org_acme', 't', text)} AS k FROM (SELECT 'x' AS a, 'y' AS b)`,
  )
  expect(plain).toEqual({ k: 'org_acme_t_x_y' })
})

test('a lake of an earlier release, without numbers of loads, goes on', async () => {
  await using t = await tenant()
  await load(t, rows(0, 3))
  using old = await t.lake.connect(new AbortController().signal)
  await old.run(
    'DROP VIEW lake.raw.sales_current; DROP MACRO TABLE lake.main.sales_as_of; DROP MACRO TABLE lake.main.sales_as_of_load',
  )
  for (const column of ['step_key', 'step_attempt', 'load_number'])
    await old.run(`ALTER TABLE lake.raw.sales DROP COLUMN ${column}`)
  for (const table of ['table_heads', 'watermarks', 'schema_changes'])
    await old.run(`DROP TABLE lake.raw.x_meta_${table}`)
  await t.reopen()
  expect(await load(t, rows(1, 3))).toMatchObject({ deleted: 1, unchanged: 2, load: 1 })
  const counts = `SELECT (SELECT count(*) FROM lake.main.sales_as_of_load(0))::INTEGER AS before,
    (SELECT count(*) FROM lake.main.sales_as_of_load(1))::INTEGER AS after, (SELECT count(*) FROM lake.raw.sales_current)::INTEGER AS current`
  expect(await t.rows(counts)).toEqual([{ before: 3, after: 2, current: 2 }])
})
