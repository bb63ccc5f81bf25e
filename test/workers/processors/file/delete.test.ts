import { mkdir, readdir, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import remove from '../../../../workers/processors/file/delete.ts'
import { smallContext } from '../../../support/small-context.ts'

test('matching files go, all else stays, and a repeat finds nothing to do', async () => {
  await using ctx = await smallContext()
  await mkdir(join(ctx.files.root, 'in'))
  for (const name of ['a.csv', 'b.csv', 'c.txt']) await writeFile(join(ctx.files.root, 'in', name), 'abc')
  const settings = remove.settings.parse({ paths: ['in/*.csv', 'in/a.csv', 'none.csv'] })
  expect((await remove.run(ctx, settings)).outputs).toEqual({ files: 2, bytes: 6 })
  expect((await remove.run(ctx, settings)).outputs).toEqual({ files: 0, bytes: 0 })
  expect(await readdir(join(ctx.files.root, 'in'))).toEqual(['c.txt'])
})

test('a link out of the folder is not followed', async () => {
  await using ctx = await smallContext()
  const outside = join(ctx.files.root, '..', 'outside')
  await mkdir(outside)
  await writeFile(join(outside, 'kept.csv'), 'abc')
  await symlink(outside, join(ctx.files.root, 'in'))
  expect((await remove.run(ctx, remove.settings.parse({ paths: ['in/*', '**/*.csv'] }))).outputs.files).toBe(0)
  expect(await readdir(outside)).toEqual(['kept.csv'])
  await expect(remove.run(ctx, remove.settings.parse({ paths: ['../outside/*'] }))).rejects.toMatchObject({
    code: 'PATH_INVALID',
  })
})
