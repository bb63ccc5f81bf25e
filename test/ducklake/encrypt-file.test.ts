import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { copyFile, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Store } from '../../workers/lake/attach.ts'
import { openLake } from '../../workers/lake/open.ts'
import { versionsOf } from '../../workers/lake/names.ts'
import type { Job } from '../../workers/process/messages.ts'
import { spawnTenantProcess } from '../../workers/process/spawn.ts'
import ingest from '../../workers/processors/file/ingest.ts'
import transform from '../../workers/processors/sql/transform.ts'
import { tenant } from '../support/step-context.ts'

const extensions = process.env['TEST_LAKE_EXTENSIONS']
const limits = { memoryBytes: 1 << 29, threads: 1, diskBytes: 2 ** 30 }
const needle = 'needle-in-the-hay'
const newKey = (): string => randomBytes(32).toString('base64')

let root: string
beforeAll(async () => void (root = await mkdtemp(join(tmpdir(), 'encrypt-'))))
afterAll(() => rm(root, { recursive: true, force: true }))

const placeOf = (store: Store) => {
  const folder = dirname(store.file)
  return { ...store, filesRoot: join(folder, 'files'), workRoot: join(folder, 'work'), limits }
}
const folderOf = (name: string): Promise<string> => mkdtemp(join(root, `${name}-`))
const shows = async (file: string, text = needle): Promise<boolean> => (await readFile(file)).includes(text)
const lakeFiles = async (file: string): Promise<string[]> =>
  (await readdir(dirname(file))).filter((name) => name.startsWith(basename(file)))

// A lake as the product's own steps leave it: versions, tombstones, views, macros, receipts, rejected rows, a result.
async function fill(store: Store): Promise<void> {
  await using t = await tenant({ folder: dirname(store.file), store })
  for (const load of [1, 2]) {
    const rows = Array.from({ length: 3_000 }, (_, n) => `${n + load * 100},${needle} ${n % 7 ? n : n * load},${n}.5`)
    await t.write('orders.csv', ['id,note,amount', ...rows, 'x,y', ''].join('\n'))
    await t.run(ingest, {
      source: { path: 'orders.csv' },
      destination: { table: 'orders', business_key: ['id'], delete_limit: 1 },
    })
  }
  await t.run(transform, {
    query: 'SELECT id % 10 AS tens, sum(amount) AS total FROM orders GROUP BY ALL',
    destination: { table: 'sums', mode: 'replace' },
  })
  using connection = await t.lake.connect(AbortSignal.timeout(10_000))
  // One row is not compressed.
  await connection.run(`CREATE TABLE lake.main.words AS SELECT '${needle}' AS word`)
  await connection.run(`CREATE INDEX orders_by_key ON ${versionsOf('orders')} (composite_key)`)
}

// Everything that can be asked of a lake: definitions, rows of tables in their order and of views, the past.
async function contentsOf(store: Store): Promise<Record<string, unknown>> {
  const lake = await openLake(placeOf(store))
  try {
    using connection = await lake.connect(AbortSignal.timeout(60_000))
    const named = await connection.rows(
      `SELECT schema_name AS s, table_name AS n, sql FROM duckdb_tables() WHERE database_name = 'lake' AND table_name <> 'seen'
       UNION ALL SELECT schema_name, view_name, sql FROM duckdb_views() WHERE database_name = 'lake' ORDER BY ALL`,
    )
    const contents: Record<string, unknown> = {
      named,
      indexes: await connection.rows(`SELECT index_name, sql FROM duckdb_indexes() WHERE database_name = 'lake'`),
      past: await connection.rows('FROM lake.main.orders_as_of_load(1) ORDER BY ALL'),
    }
    for (const { s, n } of named)
      contents[`${String(s)}.${String(n)}`] = await connection.rows(
        `SELECT count(*) AS n, md5(string_agg(t::VARCHAR, '|')) AS rows FROM (FROM lake."${String(s)}"."${String(n)}" t ORDER BY ALL) t`,
      )
    contents['order'] = await connection.rows(
      `SELECT md5(string_agg(composite_key || version, '|')) AS rows FROM ${versionsOf('orders')}`,
    )
    return contents
  } finally {
    await lake.close()
  }
}

let plain: { file: string; contents: Record<string, unknown> }
async function copyOfPlain(name: string): Promise<Store & { key: string }> {
  if (!plain) {
    const file = join(await folderOf('plain'), 'lake.duckdb')
    await fill({ file })
    plain = { file, contents: await contentsOf({ file }) }
  }
  const file = join(await folderOf(name), 'lake.duckdb')
  await copyFile(plain.file, file)
  return { file, key: newKey(), extensions }
}

test('a load in a tenant’s process leaves a file that shows no row of it and opens with no other key', async () => {
  const folder = await folderOf('load')
  const store = { file: join(folder, 'lake.duckdb'), key: newKey(), extensions }
  const engine = process.env['NODE_OPTIONS']?.includes('engine.mjs') ? join(import.meta.dirname, 'child.ts') : undefined
  const child = spawnTenantProcess(engine)
  try {
    await child.bind({
      tenant: { id: 'guru', companyName: 'Guru', adminEmail: 'admin@guru.example' },
      store,
      filesRoot: join(folder, 'files'),
      workRoot: join(folder, 'work'),
      limits,
      allowPrivateNetwork: false,
    })
    await writeFile(join(folder, 'files', 'in.csv'), `id,note\n1,${needle}\n2,${needle} too\n`)
    const job: Job = {
      id: 'job 1',
      psType: 'file.ingest',
      run: { id: 'run_1', pipelineId: 'p', trigger: 'manual', actor: 'usr_1' },
      step: { key: 'load', attempt: 1, cycle: 0, fence: 1n },
      settings: { source: { path: 'in.csv' }, destination: { table: 'orders', business_key: ['id'] } },
      values: {},
      secret: null,
    }
    const result = await child.run(job, { progress: () => undefined, log: () => undefined })
    expect(result.outputs).toMatchObject({ inserted: 2 })
    for (const file of ['environ', 'cmdline'])
      expect(await readFile(`/proc/${child.pid}/${file}`, 'latin1')).not.toContain(store.key)
    const left = await lakeFiles(store.file)
    expect(left).toContain('lake.duckdb.wal')
    for (const name of left) expect(await shows(join(folder, name))).toBe(false)
  } finally {
    await child.close()
  }
  for (const name of await lakeFiles(store.file))
    for (const text of [needle, 'orders', 'composite_key', store.key])
      expect(await shows(join(folder, name), text)).toBe(false)
  for (const other of [{ file: store.file }, { ...store, key: newKey() }])
    await expect(openLake(placeOf(other))).rejects.toMatchObject({ code: 'CONFLICT', retry: 'never' })
  const lake = await openLake(placeOf(store))
  using connection = await lake.connect(AbortSignal.timeout(10_000))
  expect(await connection.rows('SELECT id, note FROM lake.main.orders ORDER BY id')).toEqual([
    { id: '1', note: needle },
    { id: '2', note: `${needle} too` },
  ])
  await lake.close()
})

test('a plain file is encrypted with all of its tables, versions, views, macros and indexes at the next opening', async () => {
  const store = await copyOfPlain('moved')
  for (const text of [needle, 'orders']) expect(await shows(store.file, text)).toBe(true)
  expect(await contentsOf(store)).toEqual(plain.contents)
  expect(await lakeFiles(store.file)).toEqual(['lake.duckdb'])
  for (const text of [needle, 'orders']) expect(await shows(store.file, text)).toBe(false)
  await expect(openLake(placeOf({ file: store.file }))).rejects.toMatchObject({ code: 'CONFLICT', retry: 'never' })
  expect(await contentsOf(store)).toEqual(plain.contents)
})

test('rows that stand in the log of a plain file alone are encrypted with it', async () => {
  const store = await copyOfPlain('log')
  const script = `
    import { openLake } from ${JSON.stringify(join(import.meta.dirname, '../../workers/lake/open.ts'))}
    const lake = await openLake(${JSON.stringify(placeOf({ file: store.file }))})
    const connection = await lake.connect(new AbortController().signal)
    await connection.run("CREATE TABLE lake.main.late AS SELECT 'late ${needle}' AS text")
    process.kill(process.pid, 'SIGKILL')`
  await once(
    spawn(process.execPath, ['--no-warnings', '--input-type=module', '-e', script], { stdio: 'inherit' }),
    'close',
  )
  expect(await shows(`${store.file}.wal`, `late ${needle}`)).toBe(true)
  const lake = await openLake(placeOf(store))
  using connection = await lake.connect(AbortSignal.timeout(10_000))
  expect(await connection.rows('FROM lake.main.late')).toEqual([{ text: `late ${needle}` }])
  await lake.close()
  for (const name of await lakeFiles(store.file)) expect(await shows(join(dirname(store.file), name))).toBe(false)
})

const openChild = (store: Store, before: string[] = []) => {
  const script = [process.execPath, '--no-warnings', join(import.meta.dirname, 'open-child.ts')]
  const [program = '', ...args] = [...before, ...script, JSON.stringify(placeOf(store))]
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  let said = ''
  child.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()))
  const ended = once(child, 'close').then(() => said.trim().split('\n').at(-1))
  return { child, ended, isWaiting: () => said.includes('waits') }
}

test('killed at any moment, the file is the old one or the new one, whole, and nothing is left beside it', async () => {
  const left = new Set<string>()
  for (let round = 0; round < 8; round++) {
    const store = await copyOfPlain('killed')
    const { child, ended } = openChild(store)
    while ((await lakeFiles(store.file)).length === 1 && child.exitCode === null) await wait(1)
    await wait((round % 4) * 40)
    child.kill('SIGKILL')
    await ended
    for (const name of await lakeFiles(store.file)) left.add(name)
    expect(await contentsOf(store)).toEqual(plain.contents)
    expect(await lakeFiles(store.file)).toEqual(['lake.duckdb'])
    expect(await shows(store.file)).toBe(false)
  }
  // Some came while both files were there.
  expect([...left]).toEqual(expect.arrayContaining(['lake.duckdb.encrypting', 'lake.duckdb.plain']))
})

test('what a process that was killed at the end has left of the plain file is removed at the next opening', async () => {
  const store = await copyOfPlain('left')
  const old = await readFile(store.file)
  await contentsOf(store)
  await writeFile(`${store.file}.plain`, old)
  expect(await contentsOf(store)).toEqual(plain.contents)
  expect(await lakeFiles(store.file)).toEqual(['lake.duckdb'])
})

test('of several processes that open a plain file at once each finds all rows and loses none of the others', async () => {
  const store = await copyOfPlain('at-once')
  const children = [1, 2, 3].map(() => openChild(store))
  expect(await Promise.all(children.map(({ ended }) => ended))).toEqual(['opened', 'opened', 'opened'])
  expect(await contentsOf(store)).toMatchObject({ order: plain.contents['order'], past: plain.contents['past'] })
  const lake = await openLake(placeOf(store))
  using connection = await lake.connect(AbortSignal.timeout(10_000))
  expect(await connection.rows('SELECT count(DISTINCT pid)::INTEGER AS n FROM lake.main.seen')).toEqual([{ n: 3 }])
  await lake.close()
  expect(await lakeFiles(store.file)).toEqual(['lake.duckdb'])
})

test('without room for both files the plain one stays as it is, and the error says so', async () => {
  const store = await copyOfPlain('full')
  const said = await openChild(store, ['prlimit', '--fsize=600000']).ended
  expect(said).toBe("DISK_FULL There is no room to encrypt the tenant's tables: it takes as much again.")
  expect(await lakeFiles(store.file)).toEqual(['lake.duckdb'])
  expect(await contentsOf({ file: store.file })).toEqual(plain.contents)
})

test('a plain file that another process has open is left alone until it is free', async () => {
  const store = await copyOfPlain('held')
  const held = await openLake(placeOf({ file: store.file }))
  const { ended, isWaiting } = openChild(store)
  try {
    await expect.poll(isWaiting, { timeout: 20_000 }).toBe(true)
    expect(await lakeFiles(store.file)).toEqual(['lake.duckdb', 'lake.duckdb.wal'])
    expect(await shows(store.file)).toBe(true)
  } finally {
    await held.close()
  }
  expect(await ended).toBe('opened')
  expect(await shows(store.file)).toBe(false)
})

test('a lake that is dropped leaves nothing of an encryption that was killed', async () => {
  const store = await copyOfPlain('dropped')
  const lake = await openLake(placeOf({ file: store.file }))
  for (const name of ['plain', 'encrypting']) await writeFile(`${store.file}.${name}`, needle)
  await lake.drop()
  expect(await lakeFiles(store.file)).toEqual([])
})
