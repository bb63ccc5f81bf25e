import { cp, mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { cryptoExtension } from '../../workers/lake/extensions.ts'
import { openLake } from '../../workers/lake/open.ts'
import { removeCatalog, tenantStore } from '../../workers/lake/tenant-store.ts'

const catalogUrl = process.env['TEST_LAKE_CATALOG'] ?? ''
const options = { catalogUrl, extensions: process.env['TEST_LAKE_EXTENSIONS'] }
const limits = { memoryBytes: 1 << 29, threads: 1, diskBytes: 2 ** 30 }
const signal = new AbortController().signal

let root: string
beforeAll(async () => void (root = await mkdtemp(join(tmpdir(), 'ducklake-'))))
afterAll(async () => {
  for (const id of ['one', 'two', 'four', 'five', 'six']) await removeCatalog(catalogUrl, id)
  await rm(root, { recursive: true, force: true })
})

const placeOf = async (id: string, process = '') => ({
  ...(await tenantStore(options, id, join(root, id))),
  filesRoot: join(root, id, 'files'),
  workRoot: join(root, id, `work${process}`),
  limits,
})

test("a tenant's login opens its own catalog and no other tenant's", async () => {
  const [one, two] = [await placeOf('one'), await placeOf('two')]
  for (const place of [one, two]) await (await openLake(place)).close()
  const client = new pg.Client({ connectionString: one.ducklake?.catalog })
  await client.connect()
  try {
    await expect(client.query('select * from lake_one.ducklake_table')).resolves.toBeDefined()
    await expect(client.query('select * from lake_two.ducklake_table')).rejects.toThrow(/permission denied/)
    await expect(client.query('drop schema lake_two cascade')).rejects.toThrow(/must be owner/)
    await expect(client.query('create schema lake_three')).rejects.toThrow(/permission denied/)
  } finally {
    await client.end()
  }
  const stolen = {
    ...two,
    ducklake: { ...(two.ducklake ?? { schema: '', data: '' }), catalog: one.ducklake?.catalog ?? '' },
  }
  await expect(openLake(stolen)).rejects.toMatchObject({ code: 'INTERNAL' })
})

test('two processes have one lake open, and both of their writes are there', async () => {
  const lakes = [await openLake(await placeOf('one', '1')), await openLake(await placeOf('one', '2'))] as const
  try {
    using first = await lakes[0].connect(signal)
    using second = await lakes[1].connect(signal)
    await first.run('CREATE TABLE lake.main.shared AS SELECT 1 AS n, 0 AS changed')
    const add = (connection: typeof first, n: number) =>
      connection.transaction(async () => {
        await connection.run('UPDATE lake.main.shared SET changed = changed + 1')
        await connection.run(`INSERT INTO lake.main.shared VALUES (${n}, 0)`)
      })
    await Promise.all([add(first, 2), add(second, 3)])
    expect(await second.rows('SELECT count(*)::INTEGER AS n, max(changed) AS changed FROM lake.main.shared')).toEqual([
      { n: 3, changed: 2 },
    ])
  } finally {
    for (const lake of lakes) await lake.close()
  }
})

test('a lake that is dropped leaves neither files nor a schema', async () => {
  const place = await placeOf('two')
  const lake = await openLake(place)
  using connection = await lake.connect(signal)
  await connection.run('CREATE TABLE lake.main.big AS SELECT range AS n FROM range(10000)')
  await lake.drop()
  const client = new pg.Client({ connectionString: catalogUrl })
  await client.connect()
  try {
    const { rows } = await client.query(`select from pg_namespace where nspname = 'lake_two'`)
    expect(rows).toEqual([])
  } finally {
    await client.end()
  }
  await expect(rm(join(root, 'two', 'lake'), { recursive: true })).rejects.toMatchObject({ code: 'ENOENT' })
})

test('the password of the catalog stands in no error', async () => {
  const place = await placeOf('one')
  const catalog = Object.assign(new URL(place.ducklake?.catalog ?? ''), { port: '1' }).href
  const wrong = { ...place, ducklake: { ...(place.ducklake ?? { schema: '', data: '' }), catalog } }
  const error: unknown = await openLake(wrong).catch((error: unknown) => error)
  const texts = [error, error instanceof Error ? error.cause : undefined].map(String).join()
  expect(texts).toMatch(/refused/)
  expect(texts).not.toContain(new URL(catalog).password)
})

const rowsIn = async (id: string): Promise<string[]> => {
  const names = await readdir(join(root, id, 'lake'), { recursive: true })
  const files = names.filter((name) => name.endsWith('.parquet')).map((name) => readFile(join(root, id, 'lake', name)))
  return (await Promise.all(files)).map((bytes) => `${bytes.toString('latin1', 0, 4)} ${bytes.includes('needle-in')}`)
}
const write = async (place: Awaited<ReturnType<typeof placeOf>>): Promise<void> => {
  const lake = await openLake(place)
  try {
    using connection = await lake.connect(signal)
    await connection.run(`CREATE TABLE IF NOT EXISTS lake.main.t (text VARCHAR)`)
    await connection.run(`INSERT INTO lake.main.t SELECT 'needle-in-the-hay' || range FROM range(100)`)
    await connection.run(`CALL ducklake_flush_inlined_data('lake')`)
  } finally {
    await lake.close()
  }
}

test('a new DuckLake shows no row in its files, and is open to a process that does not ask for that', async () => {
  const place = await placeOf('four')
  if (!place.ducklake) throw new Error('no DuckLake')
  expect(place.ducklake).toMatchObject({ encrypted: true })
  await write(place)
  await write({ ...place, ducklake: { ...place.ducklake, encrypted: false } })
  expect(new Set(await rowsIn('four'))).toEqual(new Set(['PARE false']))
})

test('an encrypted DuckLake is written by no process without the extension that encrypts', async () => {
  const place = await placeOf('six')
  if (!place.ducklake) throw new Error('no DuckLake')
  await write(place)
  const few = join(root, 'few')
  await cp(options.extensions ?? '', few, { recursive: true, filter: (name) => !name.includes(cryptoExtension) })
  const error: unknown = await write({
    ...place,
    extensions: few,
    ducklake: { ...place.ducklake, encrypted: false },
  }).catch((error: unknown) => error)
  expect(error).toMatchObject({ code: 'CONFIG_INVALID', hint: expect.stringContaining('httpfs') })
})

test('a DuckLake that was made without encryption stays as it is', async () => {
  const place = await placeOf('five')
  if (!place.ducklake) throw new Error('no DuckLake')
  await write({ ...place, ducklake: { ...place.ducklake, encrypted: false } })
  vi.resetModules()
  const later = await import('../../workers/lake/tenant-store.ts')
  const store = await later.tenantStore(options, 'five', join(root, 'five'))
  expect(store.ducklake).toMatchObject({ encrypted: false })
  await write({ ...place, ...store })
  expect(new Set(await rowsIn('five'))).toEqual(new Set(['PAR1 true']))
})
