import { and, eq, ne } from 'drizzle-orm'
import { type SealedData, sealedData } from '../../schema/sealed.ts'
import { tenantKey } from '../../schema/tables/index.ts'
import type { Tx } from '../db/db.ts'
import { liveSecrets } from '../redact.ts'
import { contextOf, decrypt, encrypt, importKey, unreadable } from './aes-gcm.ts'

/** The platform's keys by id; `current` wraps new tenant keys, the others still open old ones. Values are 32 bytes, base64. */
export type PlatformKeys = { current: string; keys: Record<string, string> }

/** What a secret belongs to. A sealed value opens for exactly this and nothing else. */
export type SecretOwner = { tenantId: string; credentialId: string; version: number }

/** Seals and opens the secrets of one platform. */
export type SecretBox = {
  /** Makes the tenant's first data key and the key of its lake, wrapped by the platform key. Nothing when it has them. */
  createTenantKey(tx: Tx, tenantId: string): Promise<void>
  /** Seals `secret` (JSON) for its owner with the tenant's current data key. */
  seal(tx: Tx, owner: SecretOwner, secret: unknown): Promise<SealedData>
  /**
   * Opens what `seal` made, and has `liveSecrets` know it. Throws SECRET_UNREADABLE for any other owner, key or altered
   * byte. Keep the result inside the caller.
   */
  open(tx: Tx, owner: SecretOwner, sealed: unknown): Promise<unknown>
  /**
   * The key that encrypts the tenant's lake, 32 bytes in base64, the same for ever; `liveSecrets` knows it. Made when
   * there is none yet. Throws SECRET_UNREADABLE when it was destroyed.
   */
  lakeKey(tx: Tx, tenantId: string): Promise<string>
  /**
   * Makes the next version of the tenant's data key, which seals from now on, and answers its number. The one before
   * stays and opens what it sealed until `destroyTenantKeys`; the key of the lake is left alone. Waits for transactions
   * that seal with it. Throws SECRET_UNREADABLE when the tenant has no key.
   */
  rotateTenantKey(tx: Tx, tenantId: string): Promise<number>
  /** Wraps the tenant's keys with the current platform key; what they sealed stays as it is. Answers how many were. */
  rewrapTenantKeys(tx: Tx, tenantId: string): Promise<number>
  /** How many of the tenant's keys the platform keys open, and how many they do not. */
  tryTenantKeys(tx: Tx, tenantId: string): Promise<{ readable: number; unreadable: number }>
  /**
   * Forgets keys for ever and answers how many: `retired` ones, under which the caller has made sure that nothing is
   * sealed any more, or `all`, which makes every secret of the tenant and its encrypted lake unreadable.
   */
  destroyTenantKeys(tx: Tx, tenantId: string, which: 'retired' | 'all'): Promise<number>
}

/** AES-256-GCM by WebCrypto, the same on Workers, Deno and Node. */
export function secretBox(platform: PlatformKeys): SecretBox {
  return {
    async createTenantKey(tx, tenantId) {
      const keys = [await newKey(platform, tenantId, 1), await newKey(platform, tenantId, 0)]
      await tx.insert(tenantKey).values(keys).onConflictDoNothing()
    },
    async seal(tx, owner, secret) {
      liveSecrets.remember(secret)
      const row = await currentKey(tx, owner.tenantId, 'share')
      const sealed = await encrypt(
        await unwrap(platform, row),
        new TextEncoder().encode(JSON.stringify(secret)),
        secretContext(owner),
      )
      return { v: 1, key: row.version, ...sealed }
    },
    async open(tx, owner, sealed) {
      const parsed = sealedData.safeParse(sealed)
      if (!parsed.success) throw unreadable('not a sealed value')
      const key = await unwrap(platform, await findKey(tx, owner.tenantId, parsed.data.key))
      const plain = await decrypt(key, parsed.data, secretContext(owner))
      const secret: unknown = JSON.parse(new TextDecoder().decode(plain))
      liveSecrets.remember(secret)
      return secret
    },
    async lakeKey(tx, tenantId) {
      let row = await findKey(tx, tenantId, 0)
      if (!row) {
        await tx
          .insert(tenantKey)
          .values(await newKey(platform, tenantId, 0))
          .onConflictDoNothing()
        row = await findKey(tx, tenantId, 0)
      }
      const key = btoa(String.fromCharCode(...(await dataKey(platform, row))))
      liveSecrets.remember(key)
      return key
    },
    async rotateTenantKey(tx, tenantId) {
      const { version: last } = await currentKey(tx, tenantId, 'update')
      const version = last + 1
      await tx.update(tenantKey).set({ state: 'retired' }).where(isKey(tenantId, last))
      await tx.insert(tenantKey).values(await newKey(platform, tenantId, version))
      return version
    },
    async rewrapTenantKeys(tx, tenantId) {
      const rows = await tx
        .select()
        .from(tenantKey)
        .where(
          and(
            eq(tenantKey.tenantId, tenantId),
            ne(tenantKey.state, 'destroyed'),
            ne(tenantKey.platformKeyId, platform.current),
          ),
        )
        .orderBy(tenantKey.version)
        .for('update')
      for (const row of rows) {
        const wrapped = await wrap(platform, tenantId, row.version, await dataKey(platform, row))
        await tx.update(tenantKey).set(wrapped).where(isKey(tenantId, row.version))
      }
      return rows.length
    },
    async tryTenantKeys(tx, tenantId) {
      const rows = await tx
        .select()
        .from(tenantKey)
        .where(and(eq(tenantKey.tenantId, tenantId), ne(tenantKey.state, 'destroyed')))
      const tried = await Promise.allSettled(rows.map((row) => dataKey(platform, row)))
      const readable = tried.filter(({ status }) => status === 'fulfilled').length
      return { readable, unreadable: rows.length - readable }
    },
    async destroyTenantKeys(tx, tenantId, which) {
      const destroyed = await tx
        .update(tenantKey)
        .set({ state: 'destroyed', wrappedKey: '' })
        .where(
          and(
            eq(tenantKey.tenantId, tenantId),
            which === 'all' ? ne(tenantKey.state, 'destroyed') : eq(tenantKey.state, which),
          ),
        )
        .returning({ version: tenantKey.version })
      return destroyed.length
    },
  }
}

/**
 * Opens what `read` finds and answers it with its row; undefined when it finds nothing. Between reading a sealed value
 * and its key, another transaction may seal the value anew and destroy the key: then it is read again. Throws as `open`.
 */
export async function openStored<R extends { sealed: SealedData; owner: SecretOwner }>(
  tx: Tx,
  box: SecretBox,
  read: () => Promise<R | undefined>,
): Promise<{ row: R; secret: unknown } | undefined> {
  let row = await read()
  for (;;) {
    if (!row) return undefined
    try {
      return { row, secret: await box.open(tx, row.owner, row.sealed) }
    } catch (error) {
      // Each further round needs another rotation in between; without one the value is unreadable for good.
      const again = await read()
      if (again?.sealed.key === row.sealed.key) throw error
      row = again
    }
  }
}

// Held until the transaction ends: `share` keeps the key current while something is sealed with it. Who waited for a
// rotation to commit finds no current row in the snapshot of before, and the new one when it asks again.
async function currentKey(tx: Tx, tenantId: string, hold: 'share' | 'update'): Promise<KeyRow> {
  const read = async (): Promise<KeyRow | undefined> => {
    const [row] = await tx
      .select()
      .from(tenantKey)
      .where(and(eq(tenantKey.tenantId, tenantId), eq(tenantKey.state, 'current')))
      .for(hold)
    return row
  }
  const row = (await read()) ?? (await read())
  if (!row) throw unreadable('the tenant has no data key')
  return row
}

type KeyRow = typeof tenantKey.$inferSelect
type Wrapped = Pick<KeyRow, 'platformKeyId' | 'wrappedKey'>

const isKey = (tenantId: string, version: number) =>
  and(eq(tenantKey.tenantId, tenantId), eq(tenantKey.version, version))

async function findKey(tx: Tx, tenantId: string, version: number): Promise<KeyRow | undefined> {
  const [row] = await tx.select().from(tenantKey).where(isKey(tenantId, version))
  return row
}

// Version 0 is the key of the lake, the others are data keys.
const newKey = async (platform: PlatformKeys, tenantId: string, version: number) => ({
  tenantId,
  version,
  state: version === 0 ? ('lake' as const) : ('current' as const),
  ...(await wrap(platform, tenantId, version, crypto.getRandomValues(new Uint8Array(32)))),
})

async function wrap(
  platform: PlatformKeys,
  tenantId: string,
  version: number,
  raw: Uint8Array<ArrayBuffer>,
): Promise<Wrapped> {
  const { iv, ct } = await encrypt(await platformKey(platform, platform.current), raw, keyContext(tenantId, version))
  return { platformKeyId: platform.current, wrappedKey: `${iv}.${ct}` }
}

async function unwrap(platform: PlatformKeys, row: KeyRow | undefined): Promise<CryptoKey> {
  return importKey(await dataKey(platform, row))
}

async function dataKey(platform: PlatformKeys, row: KeyRow | undefined): Promise<Uint8Array<ArrayBuffer>> {
  if (!row || row.state === 'destroyed') throw unreadable('its key is gone')
  const [iv = '', ct = ''] = row.wrappedKey.split('.')
  return decrypt(await platformKey(platform, row.platformKeyId), { iv, ct }, keyContext(row.tenantId, row.version))
}

async function platformKey(platform: PlatformKeys, id: string): Promise<CryptoKey> {
  const raw = platform.keys[id]
  if (!raw) throw unreadable(`the platform key ${id} is not configured`)
  const bytes = Uint8Array.from(atob(raw), (c) => c.charCodeAt(0))
  if (bytes.length !== 32) throw unreadable(`the platform key ${id} is not 32 bytes`)
  return importKey(bytes)
}

const keyContext = (tenantId: string, version: number): Uint8Array<ArrayBuffer> =>
  contextOf('tenant-key', tenantId, version)
const secretContext = (owner: SecretOwner): Uint8Array<ArrayBuffer> =>
  contextOf('credential', owner.tenantId, owner.credentialId, owner.version)
