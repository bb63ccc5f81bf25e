import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { randomBytes } from 'node:crypto'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { sql } from 'drizzle-orm'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { replaceFileKey } from '../../scripts/rotate-platform-key.ts'
import { checkpointKeys, isSigned, readCheckpoint } from '../../shared/audit-checkpoint.ts'
import { verifyAudit } from '../../shared/audit-verify.ts'
import { systemClock } from '../../shared/clock.ts'
import { type Tx, withTenant } from '../../shared/db/db.ts'
import { type PlatformKeys, secretBox } from '../../shared/secrets/secret-box.ts'
import { signingKeys } from '../../shared/secrets/signing-keys.ts'
import { platformKeysFile } from '../../standalone/ports.ts'
import { cutAudits } from '../../workers/keep-audit.ts'
import { agedEntry, makeTenant, memoryDatabase, tamper } from '../support/database.ts'

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

    expect(await replaceFileKey(database.db, folder)).toEqual({ current: 'k2', wrapped: 4 })
    expect(await replaceFileKey(database.db, folder)).toMatchObject({ wrapped: 6 })
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

test('where logs begin is signed by the new platform key, and what none signed stays to be found', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'keys-'))
  const { db, close } = await memoryDatabase()
  try {
    const old: PlatformKeys = { current: 'k1', keys: { k1: randomBytes(32).toString('base64') } }
    await writeFile(platformKeysFile(folder), JSON.stringify(old))
    const silent = { info() {}, warn() {}, error() {} }
    const tenants = await Promise.all([makeTenant(db), makeTenant(db)])
    const [good = '', forged = ''] = tenants.map(({ tenantId }) => tenantId)
    for (const id of [good, forged]) for (const days of [500, 3]) await agedEntry(db, id, days)
    await cutAudits({ db, signing: signingKeys(old), clock: systemClock, log: silent })
    await tamper(
      db,
      sql`update app.audit_checkpoint set cut_at = cut_at - interval '1 day' where tenant_id = ${forged}`,
    )

    const { current } = await replaceFileKey(db, folder)
    const now: PlatformKeys = JSON.parse(await readFile(platformKeysFile(folder), 'utf8'))
    const keys = checkpointKeys(signingKeys(now))
    const verify = (tenantId: string) => verifyAudit(db, { tenantId, side: 'api', keys })
    expect(await verify(good)).toMatchObject({ broken: undefined, cut: 1, rows: 2 })
    expect((await verify(forged)).broken).toEqual({ seq: 1, reason: 'CHECKPOINT_FORGED' })
    const checkpoint = await withTenant(db, { tenantId: good, side: 'api' }, (tx) => readCheckpoint(tx, good))
    if (!checkpoint) throw new Error('no checkpoint')
    expect(checkpoint.keyId).toBe(current)
    expect(await isSigned(checkpointKeys(signingKeys(old)), checkpoint)).toBe(false)
  } finally {
    await close()
    await rm(folder, { recursive: true, force: true })
  }
})
