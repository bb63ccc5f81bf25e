import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdtemp, mkdir, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { checkSftp, deliverFiles, type SftpDestination } from '../../workers/delivery/sftp.ts'
import { sftpShape } from '../../schema/config/credentials.ts'
import { fetchHostKey } from '../../workers/delivery/sftp-session.ts'
import { makeHostKey } from '../../standalone/sftp-server.ts'
import download from '../../workers/processors/transfer/sftp_download.ts'
import { type OpenSsh, opensshMissing, startOpenSsh } from '../support/openssh.ts'
import { tenant } from '../support/step-context.ts'

const around = { allowPrivateNetwork: true, signal: new AbortController().signal, fence: 7n, onBytes: () => {} }
const payload = randomBytes(9_000_011)

describe.skipIf(opensshMissing)(`OpenSSH (${opensshMissing ?? 'present'})`, () => {
  let server: OpenSsh
  let folder = ''
  let local = { path: 'orders.zip', absolute: '' }
  beforeAll(async () => {
    server = await startOpenSsh()
    folder = await mkdtemp(join(tmpdir(), 'openssh-local-'))
    local = { path: 'orders.zip', absolute: join(folder, 'orders.zip') }
    await writeFile(local.absolute, payload)
  })
  afterAll(async () => {
    await server[Symbol.asyncDispose]()
    await rm(folder, { recursive: true })
  })
  const into = (directory: string, change: Partial<SftpDestination> = {}) =>
    deliverFiles(
      sftpShape.parse(server.secret),
      [local],
      {
        directory,
        createDirectories: true,
        atomicRename: true,
        verify: 'size_and_sha256',
        overwrite: true,
        ...change,
      },
      around,
    )

  test('holds what was delivered, replaces it, and is not sent it twice', async () => {
    const directory = join(server.root, 'a/b')
    await into(directory)
    expect(await readdir(directory)).toEqual(['orders.zip'])
    expect((await readFile(join(directory, 'orders.zip'))).equals(payload)).toBe(true)
    await writeFile(join(directory, 'orders.zip'), 'of yesterday')
    await into(directory)
    expect((await readFile(join(directory, 'orders.zip'))).equals(payload)).toBe(true)
    await expect(into(directory, { overwrite: false })).resolves.toHaveLength(1)
  })

  test('a directory behind a link is used as any other', async () => {
    await mkdir(join(server.root, 'real'))
    await symlink(join(server.root, 'real'), join(server.root, 'linked'))
    await into(join(server.root, 'linked'))
    expect(await readdir(join(server.root, 'real'))).toEqual(['orders.zip'])
  })

  test.skipIf(!canMount())('a full disk is told apart from other failures, and nothing is left on it', async () => {
    const directory = join(server.root, 'small')
    await mkdir(directory)
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', directory])
    try {
      await expect(into(directory)).rejects.toMatchObject({ code: 'REMOTE_FULL' })
      expect(await readdir(directory)).toEqual([])
    } finally {
      execFileSync('umount', [directory])
    }
  })

  test('gives a file whole, moves it without replacing another, and a repeat ends in the same file', async () => {
    const directory = join(server.root, 'drop')
    await mkdir(join(directory, 'done'), { recursive: true })
    await writeFile(join(directory, 'orders.zip'), payload)
    await writeFile(join(directory, 'done/orders.zip'), 'of yesterday')
    await using t = await tenant()
    const settings = {
      source: { pattern: join(directory, '*.zip') },
      destination: { directory: 'in' },
      settle: '1ms',
      after: { move_to: join(directory, 'done') },
    }
    const given = { runId: 'run_1', secret: server.secret }
    const first = await t.run(download, settings, given)
    expect(first).toMatchObject({ path: 'in/orders.zip', bytes: payload.length })
    expect((await readFile(join(t.root, 'in/orders.zip'))).equals(payload)).toBe(true)
    expect((await readdir(directory, { recursive: true })).sort()).toEqual([
      'done',
      'done/orders.zip',
      'done/orders.zip.run_1',
    ])
    expect(await readFile(join(directory, 'done/orders.zip'), 'utf8')).toBe('of yesterday')
    expect(await t.run(download, settings, given)).toEqual(first)
  })

  test('of which a link is to be fetched is refused', async () => {
    const directory = join(server.root, 'links')
    await mkdir(directory)
    await writeFile(join(server.root, 'secret.csv'), 'secret')
    await symlink(join(server.root, 'secret.csv'), join(directory, 'a.csv'))
    await using t = await tenant()
    for (const source of [{ path: join(directory, 'a.csv') }, { pattern: join(directory, '*.csv') }])
      await expect(
        t.run(download, { source, settle: '1ms', after: 'delete' }, { secret: server.secret }),
      ).rejects.toMatchObject({ code: 'PATH_INVALID' })
    expect(await readdir(t.root)).toEqual([])
    expect(await readdir(directory)).toEqual(['a.csv'])
  })

  test('its host key is shown, and a connection can be checked', async () => {
    expect(await fetchHostKey(server.secret, around)).toBe(server.secret.hostKey)
    await checkSftp(sftpShape.parse(server.secret), server.root, around)
    expect(await readdir(server.root)).not.toContainEqual(expect.stringMatching(/check/))
  })

  test('a key that it does not know is a rejected credential', async () => {
    const secret = sftpShape.parse({ ...server.secret, privateKey: makeHostKey() })
    await expect(checkSftp(secret, server.root, around)).rejects.toMatchObject({ code: 'CREDENTIAL_REJECTED' })
  })
})

function canMount(): boolean {
  if (userInfo().uid !== 0) return false
  try {
    execFileSync('unshare', ['--mount', 'true'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}
