import { randomBytes } from 'node:crypto'
import { eq } from 'drizzle-orm'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { tenantKey } from '../../../schema/tables/index.ts'
import { type Tx, withTenant } from '../../../shared/db/db.ts'
import { type PlatformKeys, type SecretOwner, secretBox } from '../../../shared/secrets/secret-box.ts'
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

test('a tenant key that was moved to another tenant does not unwrap', async () => {
  const sealed = await seal(stranger)
  const [theirs] = await as(stranger.tenantId, (tx) => tx.select().from(tenantKey))
  await as(owner.tenantId, (tx) =>
    tx
      .update(tenantKey)
      .set({ wrappedKey: theirs?.wrappedKey ?? '' })
      .where(eq(tenantKey.tenantId, owner.tenantId)),
  )
  await expect(open(owner, sealed)).rejects.toMatchObject(unreadable)
})
