import { randomBytes } from 'node:crypto'
import { and, eq } from 'drizzle-orm'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { tenantKey } from '../../../schema/tables/index.ts'
import { type Tx, withTenant } from '../../../shared/db/db.ts'
import { liveSecrets } from '../../../shared/redact.ts'
import { openStored, type PlatformKeys, type SecretOwner, secretBox } from '../../../shared/secrets/secret-box.ts'
import { makeTenant, memoryDatabase } from '../../support/database.ts'

const platform: PlatformKeys = { current: 'k1', keys: { k1: randomBytes(32).toString('base64') } }
const secret = { password: 'canary-7f3a', port: 22 }

let database: Awaited<ReturnType<typeof memoryDatabase>>
let owner: SecretOwner
let stranger: SecretOwner
beforeAll(async () => {
  database = await memoryDatabase()
  const make = async (): Promise<SecretOwner> => {
    const { tenantId } = await makeTenant(database.db)
    await as(tenantId, (tx) => secretBox(platform).createTenantKey(tx, tenantId))
    return { tenantId, credentialId: 'crd_1', version: 1 }
  }
  owner = await make()
  stranger = await make()
})
afterAll(() => database.close())

const as = <T>(tenantId: string, work: (tx: Tx) => Promise<T>): Promise<T> =>
  withTenant(database.db, { tenantId, side: 'api' }, work)
const fresh = async (): Promise<{ tenantId: string }> => {
  const { tenantId } = await makeTenant(database.db)
  await as(tenantId, (tx) => secretBox(platform).createTenantKey(tx, tenantId))
  return { tenantId }
}
const seal = (from: SecretOwner = owner, box = secretBox(platform)) =>
  as(from.tenantId, (tx) => box.seal(tx, from, secret))
const open = (to: SecretOwner, sealed: unknown, box = secretBox(platform)) =>
  as(to.tenantId, (tx) => box.open(tx, to, sealed))
const unreadable = { code: 'SECRET_UNREADABLE', message: 'The secret cannot be opened.' }

test('what was sealed opens for its owner and shows nothing of itself', async () => {
  const sealed = await seal()
  expect(await open(owner, sealed)).toEqual(secret)
  expect(JSON.stringify(sealed)).not.toContain('canary')
  expect(await seal()).not.toEqual(sealed)
})

test('a sealed value opens for no other tenant, credential or version', async () => {
  const sealed = await seal()
  for (const other of [stranger, { ...owner, credentialId: 'crd_2' }, { ...owner, version: 2 }]) {
    await expect(open(other, sealed)).rejects.toMatchObject(unreadable)
  }
})

test('owners whose parts run together the same way are told apart', async () => {
  const sealed = await seal({ ...owner, credentialId: 'a', version: 11 })
  await expect(open({ ...owner, credentialId: 'a1', version: 1 }, sealed)).rejects.toMatchObject(unreadable)
})

test('an altered byte, a cut value and what was never sealed do not open', async () => {
  const sealed = await seal()
  const flip = (text: string): string => (text.startsWith('A') ? 'B' : 'A') + text.slice(1)
  for (const bad of [
    { ...sealed, ct: flip(sealed.ct) },
    { ...sealed, iv: flip(sealed.iv) },
    { ...sealed, ct: sealed.ct.slice(0, 8) },
    { ...sealed, key: 9 },
    null,
    'text',
    {},
  ]) {
    await expect(open(owner, bad)).rejects.toMatchObject(unreadable)
  }
})

test('another platform key opens nothing, and an old one still opens what it wrapped', async () => {
  const sealed = await seal()
  const foreign = secretBox({ current: 'k1', keys: { k1: randomBytes(32).toString('base64') } })
  await expect(open(owner, sealed, foreign)).rejects.toMatchObject(unreadable)
  const rotated = secretBox({ current: 'k2', keys: { ...platform.keys, k2: randomBytes(32).toString('base64') } })
  expect(await open(owner, sealed, rotated)).toEqual(secret)
})

test('after a rotation the new key seals, the old one opens, and what was destroyed opens nothing', async () => {
  const { tenantId } = await fresh()
  const mine = { ...owner, tenantId }
  const box = secretBox(platform)
  const before = await seal(mine)
  expect(await as(tenantId, (tx) => box.rotateTenantKey(tx, tenantId))).toBe(2)
  const after = await seal(mine)
  expect([before.key, after.key]).toEqual([1, 2])
  expect([await open(mine, before), await open(mine, after)]).toEqual([secret, secret])
  expect(await as(tenantId, (tx) => box.destroyTenantKeys(tx, tenantId, 'retired'))).toBe(1)
  await expect(open(mine, before)).rejects.toMatchObject(unreadable)
  expect(await open(mine, after)).toEqual(secret)
  expect(await as(tenantId, (tx) => box.destroyTenantKeys(tx, tenantId, 'all'))).toBe(2)
  await expect(open(mine, after)).rejects.toMatchObject(unreadable)
  await expect(seal(mine)).rejects.toMatchObject(unreadable)
  const rows = await as(tenantId, (tx) => tx.select().from(tenantKey).where(eq(tenantKey.tenantId, tenantId)))
  expect(rows.map(({ wrappedKey }) => wrappedKey)).toEqual(['', '', ''])
})

const lakeKey = (tenantId: string, box = secretBox(platform), side: 'api' | 'worker' = 'worker') =>
  withTenant(database.db, { tenantId, side }, (tx) => box.lakeKey(tx, tenantId))

test('the key of a lake is made once, is no other tenant’s, and no rotation changes it', async () => {
  const { tenantId } = await fresh()
  const key = await lakeKey(tenantId)
  expect(Buffer.from(key, 'base64')).toHaveLength(32)
  expect(await lakeKey(stranger.tenantId)).not.toBe(key)
  expect(liveSecrets.text(`opened with ${key}`)).not.toContain(key)
  const box = secretBox(platform)
  await as(tenantId, (tx) => box.createTenantKey(tx, tenantId))
  for (const version of [2, 3]) {
    expect(await as(tenantId, (tx) => box.rotateTenantKey(tx, tenantId))).toBe(version)
    await as(tenantId, (tx) => box.destroyTenantKeys(tx, tenantId, 'retired'))
    expect(await lakeKey(tenantId)).toBe(key)
  }
  const k2 = randomBytes(32).toString('base64')
  const both = secretBox({ current: 'k2', keys: { ...platform.keys, k2 } })
  expect(await as(tenantId, (tx) => both.tryTenantKeys(tx, tenantId))).toEqual({ readable: 2, unreadable: 0 })
  expect(await as(tenantId, (tx) => both.rewrapTenantKeys(tx, tenantId))).toBe(2)
  expect(await lakeKey(tenantId, secretBox({ current: 'k2', keys: { k2 } }))).toBe(key)
  await expect(lakeKey(tenantId)).rejects.toMatchObject(unreadable)
})

test('the key of a lake is gone for ever when all keys are destroyed', async () => {
  const { tenantId } = await fresh()
  await lakeKey(tenantId)
  const box = secretBox(platform)
  await as(tenantId, (tx) => box.destroyTenantKeys(tx, tenantId, 'all'))
  await as(tenantId, (tx) => box.createTenantKey(tx, tenantId))
  for (const side of ['api', 'worker'] as const)
    await expect(lakeKey(tenantId, box, side)).rejects.toMatchObject(unreadable)
})

test('a tenant without a key for its lake gets one from the worker that asks first, and workers make no other key', async () => {
  const { tenantId } = await makeTenant(database.db)
  const keys = await Promise.all([1, 2, 3].map(() => lakeKey(tenantId)))
  expect(new Set(keys).size).toBe(1)
  const row = { tenantId, platformKeyId: 'k1', wrappedKey: 'x' }
  for (const other of [
    { ...row, version: 1, state: 'current' as const },
    { ...row, version: 1, state: 'lake' as const },
    { ...row, version: 0, state: 'destroyed' as const },
    { ...row, version: 0, state: 'lake' as const, tenantId: stranger.tenantId },
  ])
    await expect(
      withTenant(database.db, { tenantId, side: 'worker' }, (tx) => tx.insert(tenantKey).values(other)),
    ).rejects.toMatchObject({ cause: { code: '42501' } })
  for (const change of [{ wrappedKey: 'x' }, { state: 'destroyed' as const }])
    await expect(
      withTenant(database.db, { tenantId, side: 'worker' }, (tx) =>
        tx.update(tenantKey).set(change).where(eq(tenantKey.tenantId, tenantId)),
      ),
    ).rejects.toMatchObject({ cause: { code: '42501' } })
  expect(await lakeKey(tenantId)).toBe(keys[0])
})

test('after rewrapping, the old platform key opens nothing and the new one everything', async () => {
  const { tenantId } = await fresh()
  const mine = { ...owner, tenantId }
  const old = await seal(mine)
  await as(tenantId, (tx) => secretBox(platform).rotateTenantKey(tx, tenantId))
  const young = await seal(mine)
  const k2 = randomBytes(32).toString('base64')
  const both = secretBox({ current: 'k2', keys: { ...platform.keys, k2 } })
  expect(await as(tenantId, (tx) => both.rewrapTenantKeys(tx, tenantId))).toBe(3)
  expect(await as(tenantId, (tx) => both.rewrapTenantKeys(tx, tenantId))).toBe(0)
  const onlyNew = secretBox({ current: 'k2', keys: { k2 } })
  for (const sealed of [old, young]) {
    expect(await open(mine, sealed, onlyNew)).toEqual(secret)
    await expect(open(mine, sealed)).rejects.toMatchObject(unreadable)
    // Not even under the new key's name.
    const posing = secretBox({ current: 'k2', keys: { k2: platform.keys['k1'] ?? '' } })
    await expect(open(mine, sealed, posing)).rejects.toMatchObject(unreadable)
  }
})

test('a value that is sealed anew between reading it and opening it is read again', async () => {
  const { tenantId } = await fresh()
  const mine = { ...owner, tenantId }
  const box = secretBox(platform)
  let stored = await seal(mine)
  let reads = 0
  const opened = await as(tenantId, (tx) =>
    openStored(tx, box, async () => {
      const row = { sealed: stored, owner: mine }
      if (reads++ === 0) {
        await box.rotateTenantKey(tx, tenantId)
        stored = await box.seal(tx, mine, secret)
        await box.destroyTenantKeys(tx, tenantId, 'retired')
      }
      return row
    }),
  )
  expect(opened?.secret).toEqual(secret)
  expect(reads).toBe(2)
  await as(tenantId, (tx) => box.destroyTenantKeys(tx, tenantId, 'all'))
  const lost = as(tenantId, (tx) => openStored(tx, box, async () => ({ sealed: stored, owner: mine })))
  await expect(lost).rejects.toMatchObject(unreadable)
})

test('a tenant key that was moved to another tenant does not unwrap', async () => {
  const sealed = await seal(stranger)
  const [theirs] = await as(stranger.tenantId, (tx) => tx.select().from(tenantKey).where(eq(tenantKey.version, 1)))
  await as(owner.tenantId, (tx) =>
    tx
      .update(tenantKey)
      .set({ wrappedKey: theirs?.wrappedKey ?? '' })
      .where(and(eq(tenantKey.tenantId, owner.tenantId), eq(tenantKey.version, 1))),
  )
  await expect(open(owner, sealed)).rejects.toMatchObject(unreadable)
})
