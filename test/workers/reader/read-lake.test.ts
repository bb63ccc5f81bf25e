import { expect, test } from 'vitest'
import type { DataRead, DataRow } from '../../../shared/datasets/reader.ts'
import ingest from '../../../workers/processors/file/ingest.ts'
import transform from '../../../workers/processors/sql/transform.ts'
import { readLake } from '../../../workers/reader/read-lake.ts'
import { tenant, type Tenant } from '../../support/step-context.ts'

type Loose = DataRow & Record<string, unknown>
const load = async (t: Tenant, text: string, to: object = {}) => {
  await t.write('in.csv', text)
  return t.run(ingest, {
    source: { path: 'in.csv' },
    destination: { table: 'orders', business_key: ['id'], ...to },
  })
}
async function read(
  t: Tenant,
  operation: DataRead['operation'],
  table: string,
  given: Record<string, unknown> = {},
): Promise<Loose[]> {
  using connection = await t.lake.connect(AbortSignal.timeout(10_000))
  const rows = await readLake(connection, { tenantId: 'acme', operation, table, arguments: { limit: 10, ...given } })
  return rows as Loose[]
}
// All of a list, three at a time.
async function all(t: Tenant, operation: DataRead['operation'], table: string, given = {}): Promise<Loose[]> {
  const found: Loose[] = []
  for (;;) {
    const page = await read(t, operation, table, { ...given, limit: 3, after: found.at(-1)?.position ?? null })
    found.push(...page)
    if (page.length < 3) return found
  }
}
const values = (rows: readonly Loose[], name: string): unknown[] =>
  rows.map((row) => (row['values'] as Record<string, unknown>)[name])

test('every kind of table is read to its end, each row once', async () => {
  await using t = await tenant()
  const lines = Array.from({ length: 11 }, (_, n) => `${n},it's "${n}"`)
  await load(t, `id,word\n${lines.map((line) => line.replaceAll('"', '')).join('\n')}\n`)
  await t.run(transform, { query: 'SELECT id, word FROM orders', destination: { table: 'plain', mode: 'replace' } })
  await t.run(transform, {
    query: 'SELECT id % 2 AS half, word FROM orders',
    destination: { table: 'seen', mode: 'view' },
  })
  const ids = Array.from({ length: 11 }, (_, n) => `it's ${n}`).sort()
  for (const table of ['orders', 'plain', 'seen'])
    expect([table, values(await all(t, 'rows', table), 'word').sort()]).toEqual([table, ids])
  const tables = await all(t, 'tables', '')
  expect(tables.map(({ name, kind, rows }) => [name, kind, rows])).toEqual([
    ['orders', 'versioned', 11],
    ['plain', 'plain', 11],
    ['seen', 'view', null],
  ])
})

test('keys that hold quotes and signs of SQL are places in a list like others', async () => {
  await using t = await tenant()
  const keys = [`'; DROP TABLE x; --`, `"q"`, `%_`, `ä`, `a b`]
  await load(t, `id,n\n${keys.map((key, n) => `"${key.replaceAll('"', '""')}",${n}`).join('\n')}\n`)
  expect(values(await all(t, 'rows', 'orders'), 'id').sort()).toEqual(keys.sort())
  expect(await all(t, 'versions', 'orders')).toHaveLength(5)
  for (const key of keys) {
    const [version, ...more] = await read(t, 'versions', 'orders', { key: { id: key } })
    expect([more, version?.['version']]).toEqual([[], 1])
  }
})

test('what is no name of a table finds none, whatever it says', async () => {
  await using t = await tenant()
  await load(t, 'id\n1\n')
  for (const name of ['nothing', 'x_meta_tables', 'raw.orders', 'orders_current', `orders" UNION SELECT 1 --`, '', `'`])
    for (const operation of ['rows', 'versions', 'activity', 'frequency', 'quality', 'lineage'] as const)
      await expect(
        read(t, operation, name, { per: 'day', of: 'record' }),
        `${operation} ${name}`,
      ).rejects.toMatchObject({ code: 'NOT_FOUND', message: 'There is no such table.' })
})

test('arguments of another form are refused before anything is read', async () => {
  await using t = await tenant()
  await load(t, 'id\n1\n')
  const at = '2026-01-01T00:00:00Z'
  const wrong: [DataRead['operation'], object][] = [
    ['rows', { limit: 102 }],
    ['rows', { limit: 0 }],
    ['rows', { after: ['1'] }],
    ['rows', { at: `${at}' OR true --` }],
    ['rows', { at, load: 1 }],
    ['rows', { load: -1 }],
    ['versions', { changeTypes: [`UPDATE') OR ('`] }],
    ['versions', { key: { id: { deep: 1 } } }],
    ['versions', { since: 'yesterday' }],
    ['activity', { per: `day', now()) --` }],
    ['frequency', { of: 'secret' }],
  ]
  for (const [operation, given] of wrong)
    await expect(read(t, operation, 'orders', { ...given })).rejects.toMatchObject({
      code: 'BAD_INPUT',
    })
})

test('numbers keep every digit, and a table that grew a column shows its past with it', async () => {
  await using t = await tenant()
  await load(t, 'id,n\n1,9007199254740993\n')
  const [old] = await read(t, 'rows', 'orders')
  expect(old?.['values']).toEqual({ id: '1', n: '9007199254740993' })
  await load(t, 'id,n,more\n1,9007199254740993,x\n')
  expect(values(await read(t, 'versions', 'orders', { key: { id: 1 } }), 'more')).toEqual(['x', null])
  const [then] = await read(t, 'rows', 'orders', { load: 1 })
  expect(then?.['values']).toEqual({ id: '1', n: '9007199254740993', more: null })
})

test('a page of more than a mebibyte is refused and never leaves the engine; a smaller one is answered', async () => {
  await using t = await tenant()
  await load(t, `id,text\n1,${'x'.repeat(700_000)}\n2,${'y'.repeat(700_000)}\n`)
  await expect(read(t, 'rows', 'orders')).rejects.toMatchObject({ code: 'TOO_LARGE' })
  expect(await read(t, 'rows', 'orders', { limit: 1 })).toHaveLength(1)
})

test('a plain table has no history, and says so', async () => {
  await using t = await tenant()
  await load(t, 'id\n1\n', { table: 'log', mode: 'append', business_key: undefined })
  for (const operation of ['versions', 'activity', 'frequency'] as const)
    await expect(read(t, operation, 'log', { per: 'day', of: 'record' })).rejects.toMatchObject({
      code: 'SCHEMA_MISMATCH',
    })
  await expect(read(t, 'rows', 'log', { load: 1 })).rejects.toMatchObject({ code: 'SCHEMA_MISMATCH' })
})

test('a read that is stopped ends at once and leaves its connection usable', async () => {
  await using t = await tenant()
  await t.run(transform, {
    query: 'SELECT sum(hash(x.i) % 7) AS n FROM range(40000000000) x(i)',
    destination: { table: 'endless', mode: 'view' },
  })
  const abort = new AbortController()
  using connection = await t.lake.connect(abort.signal)
  const reading = readLake(connection, {
    tenantId: 'acme',
    operation: 'rows',
    table: 'endless',
    arguments: { limit: 1 },
  })
  setTimeout(() => abort.abort(), 50)
  await expect(reading).rejects.toMatchObject({ code: 'CANCELLED' })
  expect(await read(t, 'tables', '')).toHaveLength(1)
})
