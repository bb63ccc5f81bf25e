import { expect, test } from 'vitest'
import { isAllowed, resolveTarget } from '../../workers/egress.ts'

const signal = new AbortController().signal
const at = (host: string, allowPrivate = false) => resolveTarget({ host, port: 22, allowPrivate, signal })

const inner = [
  '127.0.0.1',
  '127.1',
  '2130706433',
  '0x7f000001',
  '0177.0.0.1',
  '0.0.0.0',
  '10.1.2.3',
  '172.31.255.255',
  '192.168.0.1',
  '100.64.0.1',
  '198.18.0.1',
  '240.0.0.1',
  'localhost',
  '::1',
  '::',
  '::ffff:127.0.0.1',
  '::ffff:8.8.8.8',
  '::7f00:1',
  'fd12:3456::1',
  '64:ff9b::808:808',
  '64:ff9b:1::1',
  '2001:0:1::1',
  '2002:7f00:1::',
]
test.each(inner)('%s is refused unless private networks are allowed', async (host) => {
  await expect(at(host)).rejects.toMatchObject({ code: 'EGRESS_DENIED' })
})

const never = ['169.254.169.254', '::ffff:169.254.169.254', 'fe80::1', 'fe80::1%lo', 'fd00:ec2::254', '224.0.0.1']
test.each([...never, 'ff02::1', '255.255.255.255', '168.63.129.16', '64:ff9b::a9fe:a9fe', '2002:a9fe:a9fe::'])(
  '%s is refused even where private networks are allowed',
  (address) => {
    const family = address.includes(':') ? 6 : 4
    expect([isAllowed({ address, family }, false), isAllowed({ address, family }, true)]).toEqual([false, false])
  },
)

test('a public address is given back as it is', async () => {
  expect(await at('8.8.8.8')).toEqual({ address: '8.8.8.8', family: 4 })
  expect(await at('2606:4700::1111')).toEqual({ address: '2606:4700::1111', family: 6 })
})

test('a private name resolves to an address where the deployment allows it', async () => {
  expect(await at('localhost', true)).toMatchObject({ address: expect.stringMatching(/^(127\.|::1$)/) })
})

test('a name that does not resolve is a failed connection, not a refusal', async () => {
  await expect(at('no-such-host.invalid')).rejects.toMatchObject({ code: 'CONNECTION_FAILED' })
  await expect(at('bad\0name')).rejects.toMatchObject({ code: 'CONNECTION_FAILED' })
})

test('an aborted signal ends the look-up', async () => {
  const controller = new AbortController()
  controller.abort()
  await expect(
    resolveTarget({ host: 'localhost', port: 22, allowPrivate: true, signal: controller.signal }),
  ).rejects.toMatchObject({ code: 'CANCELLED' })
})
