import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import ssh2 from 'ssh2'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { plainFiles, serveFiles } from '../../../standalone/sftp-files.ts'
import { hostKeyFingerprint, makeHostKey } from '../../../standalone/sftp-server.ts'
import { checkSftp, deliverFiles, listSftp, type SftpDestination } from '../../../workers/delivery/sftp.ts'
import { sftpShape } from '../../../schema/config/credentials.ts'
import { fetchHostKey, type SftpSurroundings } from '../../../workers/delivery/sftp-session.ts'
import { type Hostility, hostileSftp, type TestSftp } from '../../support/hostile-sftp.ts'

// Larger than one full window, and no multiple of any packet.
const payload = randomBytes(5_000_011)
let folder = ''
let local = { path: 'out/orders.zip', absolute: '' }
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'delivery-'))
  local = { path: 'out/orders.zip', absolute: join(folder, 'orders.zip') }
  await writeFile(local.absolute, payload)
})
afterAll(() => rm(folder, { recursive: true }))

const destination: SftpDestination = {
  directory: '.',
  createDirectories: false,
  atomicRename: true,
  verify: 'size_and_sha256',
  overwrite: true,
}
type Changes = {
  to?: Partial<SftpDestination>
  secret?: object
  fence?: bigint
  onBytes?: (bytes: number) => void
} & Partial<SftpSurroundings>
const deliver = (server: TestSftp, { to, secret, ...around }: Changes = {}) =>
  deliverFiles(
    sftpShape.parse({ ...server.secret, ...secret }),
    [local],
    { ...destination, ...to },
    {
      allowPrivateNetwork: true,
      signal: new AbortController().signal,
      fence: 7n,
      onBytes: () => {},
      ...around,
    },
  )

describe('a server that behaves', () => {
  test('holds the same bytes under the final name and nothing else', async () => {
    await using server = await hostileSftp()
    let sent = 0
    const delivered = await deliver(server, { onBytes: (bytes) => (sent += bytes) })
    expect(delivered).toMatchObject([{ path: 'out/orders.zip', remotePath: 'orders.zip', bytes: payload.length }])
    expect(await server.names()).toEqual(['orders.zip'])
    expect((await server.content('orders.zip')).equals(payload)).toBe(true)
    expect(sent).toBe(payload.length)
  })

  test.each([true, false])('replaces the file of before, with and without posix-rename (%s)', async (posixRename) => {
    await using server = await hostileSftp({ posixRename })
    await writeFile(join(server.root, 'orders.zip'), 'of yesterday')
    await deliver(server)
    expect(await server.names()).toEqual(['orders.zip'])
    expect((await server.content('orders.zip')).equals(payload)).toBe(true)
  })

  test('is not sent again what it already holds', async () => {
    await using server = await hostileSftp()
    await deliver(server)
    const again = await deliver(server, { fence: 8n })
    expect(again).toMatchObject([{ remotePath: 'orders.zip', bytes: payload.length }])
    expect(server.bytesWritten()).toBe(payload.length)
  })

  test('gets a file of the same size and other content again', async () => {
    await using server = await hostileSftp()
    await writeFile(join(server.root, 'orders.zip'), randomBytes(payload.length))
    await deliver(server)
    expect((await server.content('orders.zip')).equals(payload)).toBe(true)
  })

  test('keeps the file of before when it may not be replaced', async () => {
    await using server = await hostileSftp()
    await writeFile(join(server.root, 'orders.zip'), 'of yesterday')
    await expect(deliver(server, { to: { overwrite: false } })).rejects.toMatchObject({ code: 'ALREADY_EXISTS' })
    expect(String(await server.content('orders.zip'))).toBe('of yesterday')
  })

  test('is freed of the parts of older attempts, not of newer or foreign ones', async () => {
    await using server = await hostileSftp()
    const parts = [
      'orders.zip.part-6',
      'orders.zip.part-5.replaced',
      'orders.zip.part-8',
      'other.zip.part-1',
      'orders.zip.part-x',
    ]
    for (const part of parts) await writeFile(join(server.root, part), 'part')
    await deliver(server)
    expect(await server.names()).toEqual(['orders.zip', ...parts.slice(2)].sort())
  })

  test('gets missing directories only when told to make them', async () => {
    await using server = await hostileSftp()
    const to = { directory: 'in/2026/guru' }
    await expect(deliver(server, { to })).rejects.toMatchObject({ code: 'DELIVERY_FAILED', retry: 'never' })
    const [file] = await deliver(server, { to: { ...to, createDirectories: true } })
    expect(file?.remotePath).toBe('in/2026/guru/orders.zip')
    expect((await server.content('in/2026/guru/orders.zip')).equals(payload)).toBe(true)
  })

  test('takes an empty file', async () => {
    await using server = await hostileSftp()
    const absolute = join(folder, 'empty.csv')
    await writeFile(absolute, '')
    const around = { allowPrivateNetwork: true, signal: new AbortController().signal, fence: 7n, onBytes() {} }
    const secret = sftpShape.parse(server.secret)
    expect(await deliverFiles(secret, [{ path: 'empty.csv', absolute }], destination, around)).toMatchObject([
      { bytes: 0 },
    ])
    expect(await server.names()).toEqual(['empty.csv'])
  })

  test('is not sent two files of one name', async () => {
    await using server = await hostileSftp()
    const around = { allowPrivateNetwork: true, signal: new AbortController().signal, fence: 7n, onBytes() {} }
    const twice = [local, { ...local, path: 'eu/Orders.zip' }]
    await expect(deliverFiles(sftpShape.parse(server.secret), twice, destination, around)).rejects.toMatchObject({
      code: 'PATH_INVALID',
    })
    expect(server.connections()).toBe(0)
  })

  test('shows what a directory holds, without names that no file can have', async () => {
    await using server = await hostileSftp()
    const around = { allowPrivateNetwork: true, signal: new AbortController().signal }
    await mkdir(join(server.root, 'sub'))
    for (const name of ['b.csv', 'a.csv', 'evil\nname', 'back\\slash']) await writeFile(join(server.root, name), 'abc')
    expect(await listSftp(sftpShape.parse(server.secret), '.', around)).toEqual([
      { name: 'a.csv', isDirectory: false, bytes: 3, modifiedAt: expect.any(Date) },
      { name: 'b.csv', isDirectory: false, bytes: 3, modifiedAt: expect.any(Date) },
      { name: 'sub', isDirectory: true, bytes: expect.any(Number), modifiedAt: expect.any(Date) },
    ])
  })

  test('may ask for the password in a dialogue', async () => {
    const hostKey = makeHostKey()
    const server = new ssh2.Server({ hostKeys: [hostKey] }, (connection) => {
      connection.on('error', () => {})
      connection.on('authentication', (attempt) => {
        if (attempt.method !== 'keyboard-interactive') return attempt.reject(['keyboard-interactive'])
        attempt.prompt([{ prompt: 'Password: ', echo: false }], ([answer]) =>
          answer === 'correct horse' ? attempt.accept() : attempt.reject(),
        )
      })
      connection.on('session', (accept) =>
        accept().on('sftp', (acceptSftp) => serveFiles(acceptSftp(), folder, plainFiles)),
      )
    }).listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address() as net.AddressInfo
    const secret = { host: '127.0.0.1', port, username: 'guru', hostKey: hostKeyFingerprint(hostKey) }
    const around = { allowPrivateNetwork: true, signal: new AbortController().signal }
    const entries = await listSftp(sftpShape.parse({ ...secret, password: 'correct horse' }), '.', around)
    expect(entries.map((entry) => entry.name)).toContain('orders.zip')
    await expect(listSftp(sftpShape.parse({ ...secret, password: 'no' }), '.', around)).rejects.toMatchObject({
      code: 'CREDENTIAL_REJECTED',
    })
    server.close()
  })

  test('passes the check of a connection and shows its host key', async () => {
    await using server = await hostileSftp()
    const around = { allowPrivateNetwork: true, signal: new AbortController().signal }
    await checkSftp(sftpShape.parse(server.secret), '.', around)
    expect(await server.names()).toEqual([])
    expect(await fetchHostKey(server.secret, around)).toBe(server.secret.hostKey)
    await expect(checkSftp(sftpShape.parse(server.secret), 'nowhere', around)).rejects.toMatchObject({
      code: 'DELIVERY_FAILED',
    })
  })
})

describe('a server that fails or lies never counts as delivered', () => {
  const openSsh = 'OpenSSH_9.2'
  const cases: [string, Hostility, string][] = [
    ['is full and says so', { failAt: { byte: 2_000_000, message: 'No space left on device' } }, 'REMOTE_FULL'],
    ['is full and only fails', { failAt: { byte: 2_000_000 } }, 'DELIVERY_FAILED'],
    ['fails at the first byte', { failAt: { byte: 0 }, ident: openSsh }, 'DELIVERY_FAILED'],
    ['drops the connection half way', { dropAt: 2_000_000 }, 'CONNECTION_FAILED'],
    ['drops the connection at the first byte', { dropAt: 0, ident: openSsh }, 'CONNECTION_FAILED'],
    ['acknowledges and keeps nothing', { keeps: 'nothing' }, 'VERIFY_FAILED'],
    ['acknowledges and keeps half', { keeps: 'half' }, 'VERIFY_FAILED'],
    ['turns one bit', { keeps: 'flipped' }, 'VERIFY_FAILED'],
    ['reports a size too small', { sizeLie: -1 }, 'VERIFY_FAILED'],
    ['reports a size too large', { sizeLie: 1 }, 'VERIFY_FAILED'],
    ['keeps nothing and reports the right size', { keeps: 'nothing', sizeLie: payload.length }, 'VERIFY_FAILED'],
    ['refuses to rename', { renames: 'refused' }, 'DELIVERY_FAILED'],
    ['pretends to rename', { renames: 'untrue' }, 'VERIFY_FAILED'],
    ['loses a byte in renaming', { renames: 'truncating' }, 'VERIFY_FAILED'],
    ['gives nothing back', { writeOnly: true }, 'VERIFY_FAILED'],
  ]
  test.each(cases)('%s', async (_, how, code) => {
    await using server = await hostileSftp(how)
    await expect(deliver(server)).rejects.toMatchObject({ code })
    expect(await server.names()).not.toContain('orders.zip')
  })

  // Only a cut connection leaves something behind, and without renames nothing can go wrong in one.
  const inPlace = cases.filter(([, how]) => how.dropAt === undefined && !how.renames)
  test.each(inPlace)('%s, and atomic rename is off', async (_, how, code) => {
    await using server = await hostileSftp(how)
    await expect(deliver(server, { to: { atomicRename: false } })).rejects.toMatchObject({ code })
    expect(await server.names()).toEqual([])
  })

  test('a failed delivery takes its part away and leaves the file of before', async () => {
    await using server = await hostileSftp({ keeps: 'flipped' })
    await writeFile(join(server.root, 'orders.zip'), 'of yesterday')
    await expect(deliver(server)).rejects.toMatchObject({ code: 'VERIFY_FAILED' })
    expect(await server.names()).toEqual(['orders.zip'])
    expect(String(await server.content('orders.zip'))).toBe('of yesterday')
  })

  test.each([
    { renames: 'untrue' },
    { renames: 'refused' },
    { renames: 'untrue', posixRename: false },
    { renames: 'refused', posixRename: false },
    { renames: 'refused once', posixRename: false },
  ] as const)('a rename that fails does not cost the file of before: %j', async (how) => {
    await using server = await hostileSftp(how)
    await writeFile(join(server.root, 'orders.zip'), 'of yesterday')
    await expect(deliver(server)).rejects.toMatchObject({
      code: expect.stringMatching(/VERIFY_FAILED|DELIVERY_FAILED/),
    })
    expect(await server.names()).toEqual(['orders.zip'])
    expect(String(await server.content('orders.zip'))).toBe('of yesterday')
  })

  test('verify: size delivers to a server that gives nothing back, and catches a wrong size', async () => {
    await using dropBox = await hostileSftp({ writeOnly: true })
    await deliver(dropBox, { to: { verify: 'size' } })
    expect((await dropBox.content('orders.zip')).equals(payload)).toBe(true)
    await using lossy = await hostileSftp({ keeps: 'half' })
    await expect(deliver(lossy, { to: { verify: 'size' } })).rejects.toMatchObject({ code: 'VERIFY_FAILED' })
  })
})

describe('packets that are too large', () => {
  test.each(['failure', 'hanging up'] as const)('are halved after %s', async (by) => {
    await using server = await hostileSftp({ writeMax: { bytes: 32_768, by }, ident: 'OpenSSH_9.2' })
    await deliver(server)
    expect((await server.content('orders.zip')).equals(payload)).toBe(true)
    expect(server.connections()).toBe(2)
  })
})

describe('a server that keeps one waiting', () => {
  test('is left when it stays silent', async () => {
    await using server = await hostileSftp({ stallAt: 2_000_000 })
    await expect(deliver(server, { idleTimeoutMs: 200 })).rejects.toMatchObject({ code: 'TIMED_OUT' })
    expect(await server.names()).not.toContain('orders.zip')
  })

  test('is left at a cancel, long before its silence is one, and its part is removed', async () => {
    await using server = await hostileSftp({ stallAt: 2_000_000 })
    const controller = new AbortController()
    let at = 0
    const cancelAtProgress = (): void => {
      at ||= performance.now()
      controller.abort()
    }
    await expect(deliver(server, { signal: controller.signal, onBytes: cancelAtProgress })).rejects.toMatchObject({
      code: 'CANCELLED',
    })
    expect(performance.now() - at).toBeLessThan(20_000)
    expect(await server.names()).toEqual([])
  })

  test('is left when it accepts connections and never speaks', async () => {
    const mute = net.createServer().listen(0, '127.0.0.1')
    await new Promise((resolve) => mute.once('listening', resolve))
    const { port } = mute.address() as net.AddressInfo
    await using server = await hostileSftp()
    await expect(deliver(server, { secret: { port }, connectTimeoutMs: 200 })).rejects.toMatchObject({
      code: 'TIMED_OUT',
    })
    mute.close()
  })
})

describe('who is at the other end', () => {
  test('no pin, no connection', async () => {
    await using server = await hostileSftp()
    await expect(deliver(server, { secret: { hostKey: undefined } })).rejects.toMatchObject({
      code: 'HOST_KEY_MISSING',
    })
    expect(server.connections()).toBe(0)
  })

  test('another host key ends the connection before any password is sent', async () => {
    await using server = await hostileSftp()
    const other = `SHA256:${'A'.repeat(43)}`
    await expect(deliver(server, { secret: { hostKey: other } })).rejects.toMatchObject({
      code: 'HOST_KEY_CHANGED',
      message: expect.stringContaining(server.secret.hostKey),
    })
    expect(server.bytesWritten()).toBe(0)
    await deliver(server, { secret: { hostKey: [other, server.secret.hostKey] } })
  })

  test('a wrong password or a key that does not fit is a rejected credential', async () => {
    await using server = await hostileSftp()
    await expect(deliver(server, { secret: { password: 'wrong' } })).rejects.toMatchObject({
      code: 'CREDENTIAL_REJECTED',
    })
    const withKey = { password: undefined, privateKey: makeHostKey() }
    await expect(deliver(server, { secret: withKey })).rejects.toMatchObject({ code: 'CREDENTIAL_REJECTED' })
  })

  test('a private key that cannot be read is an invalid credential, before any connection', async () => {
    await using server = await hostileSftp()
    const locked = ssh2.utils.generateKeyPairSync('ed25519', { passphrase: 'open', cipher: 'aes256-ctr', rounds: 1 })
    for (const privateKey of ['no key', locked.private])
      await expect(deliver(server, { secret: { privateKey } })).rejects.toMatchObject({ code: 'CREDENTIAL_INVALID' })
    expect(server.connections()).toBe(0)
  })

  test('nobody is reached on a private address unless the deployment allows it', async () => {
    await using server = await hostileSftp()
    await expect(deliver(server, { allowPrivateNetwork: false })).rejects.toMatchObject({ code: 'EGRESS_DENIED' })
    expect(server.connections()).toBe(0)
  })

  test('a port where nothing listens is a failed connection', async () => {
    const server = await hostileSftp()
    await server[Symbol.asyncDispose]()
    await expect(deliver(server)).rejects.toMatchObject({ code: 'CONNECTION_FAILED' })
  })
})

test('every key pair that the demo makes can be read', () => {
  const spoilt = Array.from({ length: 800 }, () => ssh2.utils.parseKey(makeHostKey())).filter(
    (key) => key instanceof Error,
  )
  expect(spoilt).toEqual([])
})

test('the server of the demo lets nobody out of its folder', async () => {
  await using server = await hostileSftp()
  await symlink(folder, join(server.root, 'link'))
  await expect(deliver(server, { to: { directory: 'link' } })).rejects.toMatchObject({ code: 'DELIVERY_FAILED' })
  await deliver(server, { to: { directory: '../../../..' } })
  expect(await server.names()).toEqual(['link', 'orders.zip'])
})
