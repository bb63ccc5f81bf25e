import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { readZip, writeZip } from '../../../workers/delivery/zip.ts'

const options = { level: 1, comment: 'run/step', signal: new AbortController().signal, onBytes: () => {} }

test.runIf(process.platform === 'linux')('a full disk ends the writing with its own error', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'zip-'))
  await writeFile(join(folder, 'a.csv'), 'x'.repeat(3 << 20))
  const writing = writeZip('/dev/full', [{ name: 'a.csv', path: join(folder, 'a.csv') }], options)
  await expect(writing).rejects.toMatchObject({ code: 'ENOSPC' })
  await rm(folder, { recursive: true })
})

test('a missing source ends the writing', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'zip-'))
  const writing = writeZip(join(folder, 'a.zip'), [{ name: 'a.csv', path: join(folder, 'none') }], options)
  await expect(writing).rejects.toMatchObject({ code: 'ENOENT' })
  await rm(folder, { recursive: true })
})

test('what is not an archive does not verify', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'zip-'))
  await writeFile(join(folder, 'a.zip'), 'not a zip')
  await expect(readZip(join(folder, 'a.zip'), options.signal)).rejects.toMatchObject({ code: 'VERIFY_FAILED' })
  await rm(folder, { recursive: true })
})
