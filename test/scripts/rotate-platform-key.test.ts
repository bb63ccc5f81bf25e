import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { randomBytes } from 'node:crypto'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { replaceFileKey } from '../../scripts/rotate-platform-key.ts'
import { type Tx, withTenant } from '../../shared/db/db.ts'
import { type PlatformKeys, secretBox } from '../../shared/secrets/secret-box.ts'
import { platformKeysFile } from '../../standalone/ports.ts'
import { makeTenant, memoryDatabase } from '../support/database.ts'

let database: Awaited<ReturnType<typeof memoryDatabase>>
beforeAll(async () => {
  database = await memoryDatabase()
})
afterAll(() => database.close())

test('a new platform key takes over every tenant, and the old one opens nothing any more', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'keys-'))
  try {
    const file = platformKeysFile(folder)
    const old: PlatformKeys = { current: 'k1', keys: { k1: randomBytes(32).toString('base64') } }
    await writeFile(file, JSON.stringify(old))
    const as = <T>(tenantId: string, work: (tx: Tx) => Promise<T>): Promise<T> =>
      withTenant(database.db, { tenantId, side: 'api' }, work)
    const owners = await Promise.all(
      [1, 2, 3].map(async () => {
        const { tenantId } = await makeTenant(database.db)
        const owner = { tenantId, credentialId: 'crd_1', version: 1 }
        await as(tenantId, (tx) => secretBox(old).createTenantKey(tx, tenantId))
        return { owner, sealed: await as(tenantId, (tx) => secretBox(old).seal(tx, owner, { of: tenantId })) }
      }),
    )
    // Killed on the way: the file has both keys, and some tenants the new one already.
    const half: PlatformKeys = { current: 'k2', keys: { ...old.keys, k2: randomBytes(32).toString('base64') } }
    await writeFile(file, JSON.stringify(half))
    const [first] = owners
    if (!first) throw new Error('no tenant')
    await as(first.owner.tenantId, (tx) => secretBox(half).rewrapTenantKeys(tx, first.owner.tenantId))

    expect(await replaceFileKey(database.db, folder)).toEqual({ current: 'k2', wrapped: 2 })
    expect(await replaceFileKey(database.db, folder)).toMatchObject({ wrapped: 3 })
    const now: PlatformKeys = JSON.parse(await readFile(file, 'utf8'))
    expect(Object.keys(now.keys)).toEqual([now.current])
    for (const { owner, sealed } of owners) {
      const open = (keys: PlatformKeys) => as(owner.tenantId, (tx) => secretBox(keys).open(tx, owner, sealed))
      expect(await open(now)).toEqual({ of: owner.tenantId })
      await expect(open(half)).rejects.toMatchObject({ code: 'SECRET_UNREADABLE' })
    }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
})
