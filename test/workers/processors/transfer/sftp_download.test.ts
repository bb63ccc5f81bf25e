import { createHash, randomBytes } from 'node:crypto'
import { mkdir, readdir, readFile, symlink, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test, vi } from 'vitest'
import type { z } from 'zod'
import type { StepContext } from '../../../../workers/define.ts'
import type { FetchedFile } from '../../../../workers/lake/download-receipt.ts'
import { noteDownload } from '../../../../workers/lake/download-receipt.ts'
import download from '../../../../workers/processors/transfer/sftp_download.ts'
import { type Hostility, hostileSftp, type TestSftp } from '../../../support/hostile-sftp.ts'
import { tenant, type Tenant } from '../../../support/step-context.ts'

// Larger than one full window, and no multiple of any packet.
const payload = randomBytes(5_000_011)
const orders = { settle: '1ms', source: { path: 'out/orders.csv' }, destination: { directory: 'in' } }
const several = (files_max = 10) => ({ ...orders, source: { pattern: 'out/*.csv', files_max } })

async function server(how: Hostility = {}, files: Record<string, string | Buffer> = { 'out/orders.csv': payload }) {
  const sftp = await hostileSftp(how)
  await mkdir(join(sftp.root, 'out'))
  for (const [path, content] of Object.entries(files)) await writeFile(join(sftp.root, path), content)
  return sftp
}
type Change = Partial<Pick<StepContext, 'signal' | 'limits'>> & { fence?: bigint; cycle?: number }
/** Runs the step; attempts without a cycle of their own are repeats of one. */
async function fetch(t: Tenant, sftp: TestSftp, settings: z.input<typeof download.settings>, change: Change = {}) {
  const { signal, limits, ...step } = change
  const ctx = await t.context({ runId: 'run_1', secret: sftp.secret, ...step, ...(signal ? { signal } : {}) })
  return (await download.run({ ...ctx, ...(limits ? { limits } : {}) }, download.settings.parse(settings))).outputs
}
const here = async (t: Tenant): Promise<string[]> => (await readdir(t.root, { recursive: true })).sort()
const there = (sftp: TestSftp, folder: string): Promise<string[]> =>
  readdir(join(sftp.root, folder)).then((n) => n.sort())
const sha256 = (content: string | Buffer): string => createHash('sha256').update(content).digest('hex')

describe('a server that behaves', () => {
  test('gives a file whole, and the outputs say where and what it is', async () => {
    await using sftp = await server()
    await using t = await tenant()
    expect(await fetch(t, sftp, orders)).toEqual({
      path: 'in/orders.csv',
      bytes: payload.length,
      files: [{ path: 'in/orders.csv', remote_path: 'out/orders.csv', bytes: payload.length, sha256: sha256(payload) }],
    })
    expect((await readFile(join(t.root, 'in/orders.csv'))).equals(payload)).toBe(true)
    expect(await here(t)).toEqual(['in', 'in/orders.csv'])
    expect(await there(sftp, 'out')).toEqual(['orders.csv'])
    expect(t.reports.at(-1)).toMatchObject({ done: payload.length, total: payload.length, unit: 'bytes' })
  })

  test('gives the files that match, an empty one too, and no folder and no part of a delivery', async () => {
    await using sftp = await server(
      {},
      { 'out/b.csv': '', 'out/a.csv': 'a', 'out/c.txt': 'c', 'out/d.csv.part-7': 'd' },
    )
    await mkdir(join(sftp.root, 'out/folder.csv'))
    await using t = await tenant()
    const { files } = await fetch(t, sftp, several())
    expect(files).toMatchObject([
      { path: 'in/a.csv', bytes: 1 },
      { path: 'in/b.csv', bytes: 0, sha256: sha256('') },
    ])
    expect(await fetch(t, sftp, { ...several(), source: { pattern: 'out/*' } }, { cycle: 1 })).toMatchObject({
      bytes: 2,
    })
  })

  test('a path is no pattern, and a name with a star is not taken', async () => {
    await using sftp = await server({}, { 'out/a.csv': 'a', 'out/*.csv': 'star' })
    await using t = await tenant()
    for (const settings of [{ ...orders, source: { path: 'out/*.csv' } }, several()])
      await expect(fetch(t, sftp, settings)).rejects.toMatchObject({ code: 'PATH_INVALID' })
    await expect(fetch(t, sftp, { ...orders, source: { path: 'out/?.csv' } })).rejects.toMatchObject({
      code: 'PATH_INVALID',
    })
    expect(await here(t)).toEqual([])
  })

  test('without the file is a missing file', async () => {
    await using sftp = await server({}, {})
    await using t = await tenant()
    for (const settings of [orders, several(), { ...several(), source: { pattern: 'nowhere/*' } }])
      await expect(fetch(t, sftp, settings)).rejects.toMatchObject({ code: 'FILE_MISSING' })
  })

  test('more files or bytes than wanted, or than the plan has room for, are refused before one is read', async () => {
    await using sftp = await server({}, { 'out/a.csv': 'aaaa', 'out/b.csv': 'bbbb' })
    await using t = await tenant()
    await expect(fetch(t, sftp, several(1))).rejects.toMatchObject({ code: 'TOO_LARGE' })
    await expect(fetch(t, sftp, { ...several(), bytes_max: 7 })).rejects.toMatchObject({ code: 'TOO_LARGE' })
    const limits = { memoryBytes: 1 << 30, threads: 1, diskBytes: 7 }
    await expect(fetch(t, sftp, several(), { limits })).rejects.toMatchObject({
      code: 'QUOTA_EXCEEDED',
      retry: 'never',
    })
    expect(sftp.bytesRead()).toBe(0)
    expect(await here(t)).toEqual([])
  })

  test('replaces the local file of before, and removes the parts of dead attempts', async () => {
    await using sftp = await server()
    await using t = await tenant()
    for (const name of ['in/orders.csv', 'in/orders.csv.part-1']) await t.write(name, 'of yesterday')
    await fetch(t, sftp, orders, { fence: 9n })
    expect(await here(t)).toEqual(['in', 'in/orders.csv'])
    expect((await readFile(join(t.root, 'in/orders.csv'))).equals(payload)).toBe(true)
  })

  test('nothing is written over a link or in place of a folder', async () => {
    await using sftp = await server()
    await using t = await tenant()
    await mkdir(join(t.root, 'folder/orders.csv'), { recursive: true })
    await symlink(join(t.root, '..'), join(t.root, 'outside'))
    for (const directory of ['folder', 'outside', '../x', '/tmp'])
      await expect(fetch(t, sftp, { ...orders, destination: { directory } })).rejects.toMatchObject({
        code: 'PATH_INVALID',
      })
  })
})

describe('what becomes of the remote file', () => {
  const removed = { ...orders, after: 'delete' as const }
  const moved = { ...orders, after: { move_to: 'done/2026' } }

  test('it is deleted when told so', async () => {
    await using sftp = await server()
    await using t = await tenant()
    await fetch(t, sftp, removed)
    expect(await there(sftp, 'out')).toEqual([])
    expect((await readFile(join(t.root, 'in/orders.csv'))).equals(payload)).toBe(true)
  })

  test.each([true, false])('it is moved without replacing what lies there (posix-rename %s)', async (posixRename) => {
    await using sftp = await server({ posixRename })
    await using t = await tenant()
    await fetch(t, sftp, moved)
    expect(await there(sftp, 'done/2026')).toEqual(['orders.csv'])
    await writeFile(join(sftp.root, 'out/orders.csv'), 'of today')
    await fetch(t, sftp, moved, { cycle: 1 })
    expect(await there(sftp, 'done/2026')).toEqual(['orders.csv', 'orders.csv.run_1'])
    expect((await sftp.content('done/2026/orders.csv')).equals(payload)).toBe(true)
    expect(String(await sftp.content('done/2026/orders.csv.run_1'))).toBe('of today')
    expect(await there(sftp, 'out')).toEqual([])
  })

  test('it is not moved to where it would be found again', async () => {
    await using sftp = await server()
    await using t = await tenant()
    for (const move_to of ['out', './out/'])
      await expect(fetch(t, sftp, { ...several(), after: { move_to } })).rejects.toMatchObject({
        code: 'CONFIG_INVALID',
      })
  })

  test.each([
    ['deleting it is refused', { removes: 'refused' }, removed],
    ['deleting it is only said', { removes: 'untrue' }, removed],
    ['moving it is refused', { renames: 'refused' }, moved],
    ['moving it is only said', { renames: 'untrue' }, moved],
  ] as const)('when %s, the step says so, and the file stays on both sides', async (_, how, settings) => {
    await using sftp = await server(how)
    await using t = await tenant()
    await expect(fetch(t, sftp, settings)).rejects.toMatchObject({ code: 'SOURCE_FAILED' })
    expect(await there(sftp, 'out')).toEqual(['orders.csv'])
    expect((await readFile(join(t.root, 'in/orders.csv'))).equals(payload)).toBe(true)
  })

  test('nothing is deleted when one of the files could not be fetched', async () => {
    await using sftp = await server(
      { readsUntil: { byte: 100, by: 'hanging up' } },
      { 'out/a.csv': 'a', 'out/b.csv': payload },
    )
    await using t = await tenant()
    await expect(fetch(t, sftp, { ...several(), after: 'delete' })).rejects.toMatchObject({ code: 'CONNECTION_FAILED' })
    expect(await there(sftp, 'out')).toEqual(['a.csv', 'b.csv'])
    expect(await here(t)).toEqual(['in'])
  })
})

describe('a repeat', () => {
  const removed = { ...orders, after: 'delete' as const }

  test('after the remote file is gone ends in the same file and answers the same', async () => {
    await using sftp = await server()
    await using t = await tenant()
    const first = await fetch(t, sftp, removed)
    expect(await fetch(t, sftp, removed)).toEqual(first)
    expect(await fetch(t, sftp, removed, { cycle: 1 })).toEqual(first)
    expect(sftp.bytesRead()).toBe(payload.length)
  })

  test('asks the server nothing when the file was to be kept', async () => {
    await using sftp = await server()
    await using t = await tenant()
    const first = await fetch(t, sftp, orders)
    expect(await fetch(t, sftp, orders)).toEqual(first)
    expect(sftp.connections()).toBe(1)
  })

  test('of an attempt that died before it deleted, deletes; but not a file that has come since', async () => {
    await using sftp = await server({}, { 'out/a.csv': 'a', 'out/b.csv': 'b' })
    await using t = await tenant()
    const first = await fetch(t, sftp, several())
    const at = new Date('2026-01-01T00:00:00Z')
    await writeFile(join(sftp.root, 'out/b.csv'), 'x')
    await utimes(join(sftp.root, 'out/b.csv'), at, at)
    expect(await fetch(t, sftp, { ...several(), after: 'delete' })).toEqual(first)
    expect(await there(sftp, 'out')).toEqual(['b.csv'])
    expect(t.lines).toEqual(['warn: out/b.csv is another file by now and is left on the server.'])
    expect(String(await readFile(join(t.root, 'in/b.csv')))).toBe('b')
  })

  test('fetches again what is no longer here', async () => {
    await using sftp = await server()
    await using t = await tenant()
    await fetch(t, sftp, orders)
    await t.write('in/orders.csv', 'spoilt')
    await fetch(t, sftp, orders)
    expect((await readFile(join(t.root, 'in/orders.csv'))).equals(payload)).toBe(true)
  })

  test('of an attempt that a newer one has overtaken changes nothing', async () => {
    await using sftp = await server()
    await using t = await tenant()
    await fetch(t, sftp, orders, { fence: 8n })
    await expect(fetch(t, sftp, removed, { fence: 7n })).rejects.toMatchObject({ code: 'CONFLICT' })
    using connection = await t.lake.connect(new AbortController().signal)
    const attempt = { runId: 'run_1', stepKey: 'step', cycle: 0, fence: 7n, number: 1 }
    const files: FetchedFile[] = []
    await expect(noteDownload(connection, attempt, files)).rejects.toMatchObject({ code: 'CONFLICT' })
    expect(await there(sftp, 'out')).toEqual(['orders.csv'])
  })
})

describe('a hostile server', () => {
  const small = { 'out/orders.csv': 'id\n1\n' }
  test.each([
    ['says that a file is smaller than it is', { sizeLie: -1 }, small],
    ['says that a file is larger than it is', { sizeLie: 1 }, small],
    ['says that a file has less than no bytes', { sizeLie: -100 }, small],
    ['says that a file has more bytes than there are numbers', { sizeLie: 2 ** 53 }, small],
    ['gives a file without end', { reads: 'endless' }, small],
    ['gives nothing of a file', { reads: 'nothing' }, small],
    ['gives a file that grows', { grows: true }, small],
    ['does not let a file be read', { writeOnly: true }, small],
  ] satisfies [string, Hostility, object][])('that %s gives one error and leaves nothing', async (_, how, files) => {
    await using sftp = await server(how, files)
    await using t = await tenant()
    await expect(fetch(t, sftp, { ...orders, after: 'delete' })).rejects.toMatchObject({ code: 'SOURCE_FAILED' })
    expect((await here(t)).filter((name) => name !== 'in')).toEqual([])
    expect(await there(sftp, 'out')).toEqual(['orders.csv'])
    expect(sftp.bytesRead()).toBeLessThan(10)
  })

  test('that says a file is larger than the plan allows is not read', async () => {
    await using sftp = await server({ sizeLie: 2 ** 50 })
    await using t = await tenant()
    await expect(fetch(t, sftp, orders)).rejects.toMatchObject({ code: 'QUOTA_EXCEEDED' })
    expect(sftp.bytesRead()).toBe(0)
  })

  const names = ['../orders.csv', '../../../evil.csv', 'a/../../x.csv', '/etc/x.csv', 'a\\b.csv', 'a\nb.csv', 'con.csv']
  test.each(names)('that lists %j is refused, and nothing is written anywhere', async (name) => {
    await using sftp = await server({ lists: [name] }, { 'out/a.csv': 'a', 'orders.csv': 'another' })
    await using t = await tenant()
    await expect(fetch(t, sftp, several())).rejects.toMatchObject({ code: 'PATH_INVALID' })
    expect(await here(t)).toEqual([])
    expect(sftp.bytesRead()).toBe(0)
  })

  test('that shows a link is refused', async () => {
    await using sftp = await server({}, { 'secret.csv': 'secret' })
    await symlink(join(sftp.root, 'secret.csv'), join(sftp.root, 'out/orders.csv'))
    await using t = await tenant()
    await expect(fetch(t, sftp, several())).rejects.toMatchObject({ code: expect.stringMatching(/PATH|SOURCE/) })
    await expect(fetch(t, sftp, orders)).rejects.toMatchObject({ code: expect.stringMatching(/PATH|SOURCE/) })
    expect(await here(t)).toEqual([])
  })

  test('that hangs up in the middle leaves no part, and the next attempt has the file', async () => {
    const how: Hostility = { readsUntil: { byte: 3_000_000, by: 'hanging up' } }
    await using sftp = await server(how)
    await using t = await tenant()
    await expect(fetch(t, sftp, orders)).rejects.toMatchObject({ code: 'CONNECTION_FAILED', retry: 'later' })
    expect(await here(t)).toEqual(['in'])
    delete how.readsUntil
    expect(await fetch(t, sftp, orders)).toMatchObject({ bytes: payload.length })
  })

  test('that falls silent is left within a moment of a cancel', async () => {
    await using sftp = await server({ readsUntil: { byte: 3_000_000, by: 'silence' } })
    await using t = await tenant()
    const cancel = new AbortController()
    const fetching = fetch(t, sftp, orders, { signal: cancel.signal })
    await vi.waitUntil(() => sftp.bytesRead() > 0)
    cancel.abort()
    await expect(fetching).rejects.toMatchObject({ code: 'CANCELLED' })
    expect((await here(t)).filter((name) => name !== 'in')).toEqual([])
  })

  test('with another key than the pinned one is not asked for a file', async () => {
    await using sftp = await server()
    await using t = await tenant()
    const other = { ...sftp, secret: { ...sftp.secret, hostKey: `SHA256:${'A'.repeat(43)}` } }
    await expect(fetch(t, other, orders)).rejects.toMatchObject({ code: 'HOST_KEY_CHANGED' })
    expect(sftp.bytesRead()).toBe(0)
  })
})
