import { mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { expect, test } from 'vitest'
import { readZip } from '../../../../workers/delivery/zip.ts'
import type { StepContext } from '../../../../workers/define.ts'
import compress from '../../../../workers/processors/file/compress.ts'
import { smallContext } from '../../../support/small-context.ts'

const settings = (paths: string[], more: object = {}) =>
  compress.settings.parse({ source: { paths }, destination: { path: 'out/all.zip', ...more } })

async function put(ctx: StepContext, files: Record<string, string>): Promise<void> {
  for (const [path, text] of Object.entries(files)) {
    await mkdir(dirname(join(ctx.files.root, path)), { recursive: true })
    await writeFile(join(ctx.files.root, path), text)
  }
}
const zipped = (ctx: StepContext) => join(ctx.files.root, 'out/all.zip')

test('the archive holds every file, its outputs say what it is, and nothing else is left behind', async () => {
  await using ctx = await smallContext()
  await put(ctx, { 'in/b.csv': 'id\n2\n', 'in/a.csv': 'id\n1\n', 'in/eu/c.csv': '', 'in/other.txt': 'x' })
  const { outputs } = await compress.run(ctx, settings(['in/**/*.csv']))
  expect(outputs).toMatchObject({ path: 'out/all.zip', files: 3, entries: ['a.csv', 'b.csv', 'eu/c.csv'] })
  expect(outputs.bytes).toBe((await stat(zipped(ctx))).size)
  expect((await readZip(zipped(ctx), ctx.signal)).map((entry) => entry.bytes)).toEqual([5, 5, 0])
  expect(await readdir(join(ctx.files.root, 'out'))).toEqual(['all.zip'])
  expect(ctx.reports.at(-1)).toEqual({ done: 10, total: 10, unit: 'bytes' })
})

test('a repeated step makes the same bytes, whenever it runs', async () => {
  await using ctx = await smallContext()
  await put(ctx, { 'in/a.csv': 'id\n1\n' })
  const first = await compress.run(ctx, settings(['in/*']))
  await rm(join(ctx.files.root, 'in/a.csv'))
  await put(ctx, { 'in/a.csv': 'id\n1\n' })
  const second = await compress.run(ctx, settings(['in/*']))
  expect(second.outputs).toEqual(first.outputs)
})

test('the archive and the leftovers of older attempts are never packed', async () => {
  await using ctx = await smallContext({ fence: 9n })
  await put(ctx, { 'out/a.csv': '1', 'out/all.zip': 'old', 'out/all.zip.part-3': 'half', 'out/all.zip.part-x': 'mine' })
  const { outputs } = await compress.run(ctx, settings(['out/**']))
  expect(outputs.entries).toEqual(['a.csv', 'all.zip.part-x'])
  expect((await readdir(join(ctx.files.root, 'out'))).sort()).toEqual(['a.csv', 'all.zip', 'all.zip.part-x'])
})

test('sources are deleted only after the archive was read back', async () => {
  await using ctx = await smallContext()
  await put(ctx, { 'in/a.csv': '1', 'in/b.csv': '2' })
  await compress.run(ctx, settings(['in/*.csv'], { delete_source: true }))
  expect(await readdir(join(ctx.files.root, 'in'))).toEqual([])
  expect(await readZip(zipped(ctx), ctx.signal)).toHaveLength(2)
})

test('a repeat after the sources are gone answers from the archive', async () => {
  await using ctx = await smallContext()
  await put(ctx, { 'in/a.csv': '1', 'in/b.csv': '2' })
  const remove = settings(['in/*.csv'], { delete_source: true })
  const first = await compress.run(ctx, remove)
  expect((await compress.run({ ...ctx, step: { ...ctx.step, fence: 8n } }, remove)).outputs).toEqual(first.outputs)
})

test('a repeat after a crash in the middle of deleting keeps the files that are already gone', async () => {
  await using ctx = await smallContext()
  await put(ctx, { 'in/a.csv': '1', 'in/b.csv': '2' })
  const remove = settings(['in/*.csv'], { delete_source: true })
  const first = await compress.run(ctx, remove)
  await put(ctx, { 'in/b.csv': '2' })
  expect((await compress.run(ctx, remove)).outputs).toEqual(first.outputs)
  expect(await readdir(join(ctx.files.root, 'in'))).toEqual([])
})

test('a file that came under the same name after packing is not deleted by a repeat', async () => {
  await using ctx = await smallContext()
  await put(ctx, { 'in/a.csv': '1' })
  const remove = settings(['in/*.csv'], { delete_source: true })
  await compress.run(ctx, remove)
  await put(ctx, { 'in/a.csv': '9', 'in/new.csv': '3' })
  await compress.run(ctx, remove)
  expect((await readdir(join(ctx.files.root, 'in'))).sort()).toEqual(['a.csv', 'new.csv'])
  expect(ctx.lines).toHaveLength(2)
})

test('a new cycle packs what was made anew, and answers from the archive where nothing was', async () => {
  await using ctx = await smallContext()
  await put(ctx, { 'in/a.csv': '1', 'in/b.csv': '2' })
  const remove = settings(['in/*.csv'], { delete_source: true })
  const first = await compress.run(ctx, remove)
  const next = { ...ctx, step: { ...ctx.step, cycle: 1, fence: 8n } }
  expect((await compress.run(next, remove)).outputs).toEqual(first.outputs)
  await put(ctx, { 'in/c.csv': '3' })
  expect((await compress.run(next, remove)).outputs.entries).toEqual(['c.csv'])
})

test("another run's archive is not taken for this step's", async () => {
  await using ctx = await smallContext()
  await put(ctx, { 'in/a.csv': '1' })
  const remove = settings(['in/*.csv'], { delete_source: true })
  await compress.run(ctx, remove)
  await expect(compress.run({ ...ctx, run: { ...ctx.run, id: 'run_2' } }, remove)).rejects.toMatchObject({
    code: 'FILE_MISSING',
  })
})

test('a repeat does not answer from an archive that was damaged', async () => {
  await using ctx = await smallContext()
  await put(ctx, { 'in/a.csv': 'x'.repeat(10_000) })
  const remove = settings(['in/*.csv'], { delete_source: true, level: 0 })
  await compress.run(ctx, remove)
  const bytes = await readFile(zipped(ctx))
  bytes.writeUInt8(1, 5000)
  await writeFile(zipped(ctx), bytes)
  await expect(compress.run(ctx, remove)).rejects.toMatchObject({ code: 'VERIFY_FAILED' })
})

test('files of one name from two folders are refused and no archive is made', async () => {
  await using ctx = await smallContext()
  await put(ctx, { 'a/x.csv': '1', 'b/X.csv': '2' })
  await expect(compress.run(ctx, settings(['a/*', 'b/*']))).rejects.toMatchObject({ code: 'PATH_INVALID' })
  expect(await readdir(join(ctx.files.root, 'out'))).toEqual([])
})

test('a cancelled step leaves no part file and its sources stay', async () => {
  const controller = new AbortController()
  await using ctx = await smallContext({ signal: controller.signal })
  await put(ctx, { 'in/a.csv': 'x'.repeat(4 << 20) })
  const run = compress.run(
    { ...ctx, progress: () => controller.abort() },
    settings(['in/*'], { delete_source: true, level: 9 }),
  )
  await expect(run).rejects.toMatchObject({ code: 'CANCELLED' })
  expect([await readdir(join(ctx.files.root, 'out')), await readdir(join(ctx.files.root, 'in'))]).toEqual([
    [],
    ['a.csv'],
  ])
})

test('a destination outside the tenant folder is refused', async () => {
  await using ctx = await smallContext()
  const run = compress.run(ctx, settings(['*'], { path: '../all.zip' }))
  await expect(run).rejects.toMatchObject({ code: 'PATH_INVALID' })
})
