import { expect, test } from 'vitest'
import { mintServiceToken, verifyServiceToken } from '../../../shared/auth/service-token.ts'
import { mintToken } from '../../../shared/auth/own-token.ts'
import { signingKeys } from '../../../shared/secrets/signing-keys.ts'

const k1 = btoa('0123456789abcdef0123456789abcdef')
const signing = signingKeys({ current: 'k1', keys: { k1 } })
const at = new Date('2026-11-20T08:30:00Z')
const after = (seconds: number): Date => new Date(at.getTime() + seconds * 1000)
const call = { caller: 'control-plane', callee: 'worker', tenantId: 'guru_232342' } as const

test('says who calls, and for which tenant', async () => {
  const token = await mintServiceToken(signing, call, at)
  expect(await verifyServiceToken(signing, 'worker', token, after(1))).toEqual({
    caller: 'control-plane',
    tenantId: 'guru_232342',
  })
})

test('is good for a minute and what clocks may differ', async () => {
  const token = await mintServiceToken(signing, call, at)
  await verifyServiceToken(signing, 'worker', token, after(85))
  await expect(verifyServiceToken(signing, 'worker', token, after(95))).rejects.toThrow('not valid')
  await expect(verifyServiceToken(signing, 'worker', token, after(-35))).rejects.toThrow('not valid')
})

test('is good for its callee alone', async () => {
  const token = await mintServiceToken(signing, call, at)
  await expect(verifyServiceToken(signing, 'control-plane', token, at)).rejects.toThrow('not valid')
})

test('is good with a key that another has taken over from, and with no other', async () => {
  const token = await mintServiceToken(signing, call, at)
  const k2 = btoa('fedcba9876543210fedcba9876543210')
  const rotated = signingKeys({ current: 'k2', keys: { k1, k2 } })
  expect((await verifyServiceToken(rotated, 'worker', token, at)).tenantId).toBe('guru_232342')
  const without = signingKeys({ current: 'k2', keys: { k2 } })
  await expect(verifyServiceToken(without, 'worker', token, at)).rejects.toThrow('not valid')
  const changed = signingKeys({ current: 'k1', keys: { k1: k2 } })
  await expect(verifyServiceToken(changed, 'worker', token, at)).rejects.toThrow('not valid')
})

test('no token of a person passes for one', async () => {
  for (const [purpose, typ] of [
    ['session', 'at+jwt'],
    ['session', 'service+jwt'],
    ['service', 'at+jwt'],
  ] as const) {
    const kind = { purpose, typ, audience: 'tributary/worker', lifetimeSeconds: 60 }
    const { token } = await mintToken(signing, kind, { sub: 'control-plane', tenant: 'guru_232342' }, at)
    await expect(verifyServiceToken(signing, 'worker', token, at)).rejects.toThrow('not valid')
  }
})

test.each([
  { sub: 'usr_1', tenant: 'guru_232342' },
  { sub: 'worker', tenant: "x' or true" },
  { sub: 'worker', tenant: '' },
])('a signed one with $sub for $tenant is none', async (claims) => {
  const kind = { purpose: 'service', typ: 'service+jwt', audience: 'tributary/worker', lifetimeSeconds: 60 } as const
  const { token } = await mintToken(signing, kind, claims, at)
  await expect(verifyServiceToken(signing, 'worker', token, at)).rejects.toThrow('not valid')
})
