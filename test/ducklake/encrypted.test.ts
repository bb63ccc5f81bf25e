import { randomBytes } from 'node:crypto'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { openLake } from '../../workers/lake/open.ts'

const extensions = process.env['TEST_LAKE_EXTENSIONS']
const limits = { memoryBytes: 1 << 29, threads: 1, diskBytes: 2 ** 30 }
const signal = new AbortController().signal
const key = randomBytes(32).toString('base64')

let root: string
beforeAll(async () => void (root = await mkdtemp(join(tmpdir(), 'encrypted-'))))
afterAll(() => rm(root, { recursive: true, force: true }))

const place = (name: string, more: { key?: string; extensions?: string | undefined }) => ({
  file: join(root, name),
  filesRoot: join(root, 'files'),
  workRoot: join(root, 'work'),
  limits,
  ...more,
})

test('a lake with a key shows nothing of its rows on disk, and opens with that key alone', async () => {
  const lake = await openLake(place('secret.duckdb', { key, extensions }))
  using connection = await lake.connect(signal)
  await connection.run(`CREATE TABLE lake.main.t AS SELECT 'needle-in-the-hay' AS text`)
  const log = await readFile(join(root, 'secret.duckdb.wal')).catch(() => Buffer.alloc(0))
  await lake.close()
  for (const bytes of [log, await readFile(join(root, 'secret.duckdb'))])
    expect(bytes.includes('needle-in-the-hay')).toBe(false)
  const again = await openLake(place('secret.duckdb', { key, extensions }))
  using reader = await again.connect(signal)
  expect(await reader.rows('FROM lake.main.t')).toEqual([{ text: 'needle-in-the-hay' }])
  await again.close()
  for (const other of [{}, { key: randomBytes(32).toString('base64'), extensions }]) {
    const error: unknown = await openLake(place('secret.duckdb', other)).catch((error: unknown) => error)
    expect(error).toMatchObject({ code: 'CONFLICT', retry: 'never' })
    expect(String(error instanceof Error ? error.cause : error)).not.toContain(other.key ?? key)
  }
})

test('a key without the extension that encrypts is refused, and nothing is written plainly instead', async () => {
  await expect(openLake(place('never.duckdb', { key }))).rejects.toMatchObject({
    code: 'CONFIG_INVALID',
    message: expect.stringContaining('httpfs'),
  })
  await expect(readFile(join(root, 'never.duckdb'))).rejects.toMatchObject({ code: 'ENOENT' })
})
