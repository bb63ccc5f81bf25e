import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { entriesMax, filePattern, type FileSource, isPlainName } from '../../../workers/watches/file-source.ts'
import { folderSource } from '../../../workers/watches/folder-source.ts'
import { sftpSource } from '../../../workers/watches/sftp-source.ts'
import { hostileSftp } from '../../support/hostile-sftp.ts'
import { leastMs } from '../../support/timing.ts'

describe('a pattern', () => {
  test.for([
    ['in/*.csv', 'a.csv', true],
    ['in/*.csv', '.csv', true],
    ['in/*.csv', 'a.csv.gz', false],
    ['in/orders_?.csv', 'orders_1.csv', true],
    ['in/orders_?.csv', 'orders_12.csv', false],
    ['in/*_*_?.c*', 'a_b_c_d.csv', true],
    ['exact.csv', 'exact.csv', true],
    ['exact.csv', 'exactxcsv', false],
    ['*', 'anything', true],
    ['?', '€', true],
    ['a.+(b)*', 'a.+(b)c', true],
  ] as const)('%s and %s: %s', ([pattern, name, fits]) => expect(filePattern(pattern).matches(name)).toBe(fits))

  test('says which folder', () => {
    expect(filePattern('in/new/*.csv').folder).toBe('in/new')
    expect(filePattern('*.csv').folder).toBe('')
  })

  test('made to go back and forth costs no more than others', async () => {
    const { matches } = filePattern(`${'*a'.repeat(120)}*b`)
    expect(await leastMs(200, () => expect(matches('a'.repeat(255))).toBe(false))).toBeLessThan(200)
  })
})

test('names that nothing could be trusted with are no plain names', () => {
  const refused = [
    '',
    '.',
    '..',
    'a/b',
    'a\\b',
    'a\u0000b',
    'a\nb',
    'a\u202eb',
    '\ud800',
    'x'.repeat(256),
    '*',
    'a?.csv',
  ]
  for (const name of refused) expect([name, isPlainName(name)]).toEqual([name, false])
  for (const name of ['a.csv', 'Bestellungen März.csv', '-rf', '..a', '注文.csv']) expect(isPlainName(name)).toBe(true)
})

type Setup = (work: (root: string, source: FileSource) => Promise<void>) => Promise<void>
const folder: Setup = async (work) => {
  const root = await mkdtemp(join(tmpdir(), 'watch-'))
  await using source = folderSource(root)
  await work(root, source)
  await rm(root, { recursive: true, force: true })
}
const server: Setup = async (work) => {
  await using sftp = await hostileSftp()
  await using source = await sftpSource(sftp.secret, { allowPrivateNetwork: true, signal: AbortSignal.timeout(20_000) })
  await work(sftp.root, source)
}

describe.each([
  ['the folder of a tenant', folder],
  ['an SFTP server', server],
] as const)('%s', (_name, setup) => {
  test('lists the files that fit, with size and time, and nothing else', () =>
    setup(async (root, source) => {
      await mkdir(join(root, 'in/folder.csv'), { recursive: true })
      await writeFile(join(root, 'in/a.csv'), 'abc')
      await writeFile(join(root, 'in/b.txt'), 'b')
      await symlink('a.csv', join(root, 'in/link.csv'))
      const { files, refused } = await source.list(filePattern('in/*.csv'))
      expect(files).toEqual([{ name: 'a.csv', size: 3, modifiedAt: expect.any(Date) }])
      expect(refused).toBe(0)
      expect(Math.abs(Date.now() - (files[0]?.modifiedAt.getTime() ?? 0))).toBeLessThan(60_000)
    }))

  test('that is not there holds no files', () =>
    setup(async (_root, source) =>
      expect(await source.list(filePattern('none/*.csv'))).toEqual({ files: [], refused: 0 }),
    ))

  test('counts hostile names and leaves them out', () =>
    setup(async (root, source) => {
      for (const name of ['a\nb.csv', 'a\\b.csv', 'c\u202evsc.csv', 'ok.csv']) await writeFile(join(root, name), 'x')
      const { files, refused } = await source.list(filePattern('*.csv'))
      expect(files.map(({ name }) => name)).toEqual(['ok.csv'])
      expect(refused).toBe(3)
    }))
})

test('a folder with too many entries is refused, not read to its end', () =>
  folder(async (root, source) => {
    const names = Array.from({ length: entriesMax + 1 }, (_, n) => join(root, `${n}.txt`))
    for (let n = 0; n < names.length; n += 500)
      await Promise.all(names.slice(n, n + 500).map((name) => writeFile(name, '')))
    await expect(source.list(filePattern('*.csv'))).rejects.toMatchObject({ code: 'TOO_LARGE' })
  }))

test('a folder over a link is refused', () =>
  folder(async (root, source) => {
    await symlink('/etc', join(root, 'in'))
    await expect(source.list(filePattern('in/*'))).rejects.toMatchObject({ code: 'PATH_INVALID' })
  }))
