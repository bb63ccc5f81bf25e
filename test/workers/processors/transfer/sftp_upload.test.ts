import { createHash } from 'node:crypto'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import upload from '../../../../workers/processors/transfer/sftp_upload.ts'
import { hostileSftp } from '../../../support/hostile-sftp.ts'
import { smallContext } from '../../../support/small-context.ts'

const settings = (paths: string[], destination: object = {}) =>
  upload.settings.parse({ source: { paths }, destination })

test('every matching file is delivered, and the outputs say where and what it is', async () => {
  await using server = await hostileSftp()
  await using ctx = await smallContext({ secret: server.secret })
  await mkdir(join(ctx.files.root, 'out'))
  await writeFile(join(ctx.files.root, 'out/a.csv'), 'id\n1\n')
  await writeFile(join(ctx.files.root, 'out/b.csv'), 'id\n22\n')
  const to = { directory: 'in', create_directories: true }
  const { outputs } = await upload.run(ctx, settings(['out/*.csv', 'out/a.csv'], to))
  expect(outputs).toEqual({
    path: 'in/a.csv',
    bytes: 11,
    files: [
      { path: 'out/a.csv', remote_path: 'in/a.csv', bytes: 5, sha256: sha256('id\n1\n') },
      { path: 'out/b.csv', remote_path: 'in/b.csv', bytes: 6, sha256: sha256('id\n22\n') },
    ],
  })
  expect(String(await server.content('in/b.csv'))).toBe('id\n22\n')
  expect(ctx.reports.at(-1)).toMatchObject({ done: 11, total: 11, unit: 'bytes' })
  expect((await upload.run(ctx, settings(['out/*.csv'], to))).outputs).toEqual(outputs)
})

test('a single file may be named as a step before has put it out', async () => {
  await using server = await hostileSftp()
  await using ctx = await smallContext({ secret: server.secret })
  await writeFile(join(ctx.files.root, 'all.zip'), 'zip')
  expect((await upload.run(ctx, settings(['all.zip']))).outputs.path).toBe('all.zip')
})

test('nothing to deliver is a missing file, and nobody is called', async () => {
  await using server = await hostileSftp()
  await using ctx = await smallContext({ secret: server.secret })
  await expect(upload.run(ctx, settings(['none.zip']))).rejects.toMatchObject({ code: 'FILE_MISSING' })
  expect(server.connections()).toBe(0)
})

test('a credential without password and key is invalid', async () => {
  await using ctx = await smallContext({ secret: { host: 'sftp.example.com', username: 'guru' } })
  await expect(upload.run(ctx, settings(['none.zip']))).rejects.toMatchObject({ code: 'CREDENTIAL_INVALID' })
})

test('a directory with a line break is no setting', () => {
  expect(() => settings(['a'], { directory: 'in\nrm' })).toThrow(/control characters/)
})

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex')
