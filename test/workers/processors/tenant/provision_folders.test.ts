import { lstat, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { smallContext } from '../../../support/small-context.ts'
import provisionFolders from '../../../../workers/processors/tenant/provision_folders.ts'

test('a tenant gets its folders, and a repeat keeps what is in them', async () => {
  await using ctx = await smallContext()
  await provisionFolders.run(ctx, {})
  await writeFile(join(ctx.files.root, 'in/orders.csv'), 'a')
  expect((await provisionFolders.run(ctx, {})).outputs).toEqual({ folders: ['in', 'out'] })
  expect(await ctx.files.match(['**'])).toEqual(['in/orders.csv'])
  expect((await lstat(join(ctx.files.root, 'out'))).mode & 0o777).toBe(0o700)
})

test('a link in the place of a folder is refused', async () => {
  await using ctx = await smallContext()
  await symlink(tmpdir(), join(ctx.files.root, 'out'))
  await expect(provisionFolders.run(ctx, {})).rejects.toMatchObject({ code: 'PATH_INVALID' })
})
