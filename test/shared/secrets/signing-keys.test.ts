import { expect, test } from 'vitest'
import { type SigningKeys, type SigningPurpose, signingKeys } from '../../../shared/secrets/signing-keys.ts'

const k1 = btoa('0123456789abcdef0123456789abcdef')
const k2 = btoa('fedcba9876543210fedcba9876543210')
const message = new TextEncoder().encode('message')

const sign = async (keys: SigningKeys, purpose: SigningPurpose): Promise<ArrayBuffer> =>
  crypto.subtle.sign('HMAC', (await keys.current(purpose)).key, message)
const verifies = async (keys: SigningKeys, purpose: SigningPurpose, id: string, signature: ArrayBuffer) => {
  const key = await keys.find(purpose, id)
  return key !== undefined && crypto.subtle.verify('HMAC', key, signature, message)
}

test('a signature verifies in every process of the platform, for its purpose alone', async () => {
  const signature = await sign(signingKeys({ current: 'k1', keys: { k1 } }), 'cursor')
  const other = signingKeys({ current: 'k1', keys: { k1 } })
  expect(await verifies(other, 'cursor', 'k1', signature)).toBe(true)
  expect(await verifies(other, 'session', 'k1', signature)).toBe(false)
})

test('after a new platform key took over, what the old one signed verifies until it is removed', async () => {
  const signature = await sign(signingKeys({ current: 'k1', keys: { k1 } }), 'session')
  expect(await verifies(signingKeys({ current: 'k2', keys: { k1, k2 } }), 'session', 'k1', signature)).toBe(true)
  expect(await verifies(signingKeys({ current: 'k2', keys: { k2 } }), 'session', 'k1', signature)).toBe(false)
})

test('an id that is not configured has no key, whatever objects inherit', async () => {
  const keys = signingKeys({ current: 'k1', keys: { k1 } })
  for (const id of ['k2', '', 'constructor', '__proto__', 'toString'])
    expect(await keys.find('session', id)).toBeUndefined()
})

test('a key cannot be read out of the process', async () => {
  const { key } = await signingKeys({ current: 'k1', keys: { k1 } }).current('session')
  await expect(crypto.subtle.exportKey('raw', key)).rejects.toThrow('extractable')
})
