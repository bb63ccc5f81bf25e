import { and, eq } from 'drizzle-orm'
import { type SealedData, sealedData } from '../../schema/sealed.ts'
import { tenantKey } from '../../schema/tables/index.ts'
import type { Tx } from '../db/db.ts'
import { AppError } from '../errors.ts'

/** The platform's keys by id; `current` wraps new tenant keys, the others still open old ones. Values are 32 bytes, base64. */
export type PlatformKeys = { current: string; keys: Record<string, string> }

/** What a secret belongs to. A sealed value opens for exactly this and nothing else. */
export type SecretOwner = { tenantId: string; credentialId: string; version: number }

/** Seals and opens the secrets of one platform. */
export type SecretBox = {
  /** Makes the tenant's first data key, wrapped by the platform key. Nothing when it has one. */
  createTenantKey(tx: Tx, tenantId: string): Promise<void>
  /** Seals `secret` (JSON) for its owner with the tenant's current data key. */
  seal(tx: Tx, owner: SecretOwner, secret: unknown): Promise<SealedData>
  /** Opens what `seal` made. Throws SECRET_UNREADABLE for any other owner, key or altered byte. Keep the result inside the caller. */
  open(tx: Tx, owner: SecretOwner, sealed: unknown): Promise<unknown>
}

/** AES-256-GCM by WebCrypto, the same on Workers, Deno and Node. */
export function secretBox(platform: PlatformKeys): SecretBox {
  return {
    async createTenantKey(tx, tenantId) {
      const dataKey = crypto.getRandomValues(new Uint8Array(32))
      const wrapped = await encrypt(await platformKey(platform, platform.current), dataKey, keyContext(tenantId, 1))
      await tx
        .insert(tenantKey)
        .values({ tenantId, version: 1, platformKeyId: platform.current, wrappedKey: `${wrapped.iv}.${wrapped.ct}` })
        .onConflictDoNothing()
    },
    async seal(tx, owner, secret) {
      const [row] = await tx
        .select()
        .from(tenantKey)
        .where(and(eq(tenantKey.tenantId, owner.tenantId), eq(tenantKey.state, 'current')))
      if (!row) throw unreadable('the tenant has no data key')
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
      const [row] = await tx
        .select()
        .from(tenantKey)
        .where(and(eq(tenantKey.tenantId, owner.tenantId), eq(tenantKey.version, parsed.data.key)))
      if (!row) throw unreadable('its data key is gone')
      const plain = await decrypt(await unwrap(platform, row), parsed.data, secretContext(owner))
      return JSON.parse(new TextDecoder().decode(plain))
    },
  }
}

async function unwrap(platform: PlatformKeys, row: typeof tenantKey.$inferSelect): Promise<CryptoKey> {
  const [iv = '', ct = ''] = row.wrappedKey.split('.')
  const raw = await decrypt(
    await platformKey(platform, row.platformKeyId),
    { iv, ct },
    keyContext(row.tenantId, row.version),
  )
  return importKey(raw)
}

async function platformKey(platform: PlatformKeys, id: string): Promise<CryptoKey> {
  const raw = platform.keys[id]
  if (!raw) throw unreadable(`the platform key ${id} is not configured`)
  const bytes = Uint8Array.from(atob(raw), (c) => c.charCodeAt(0))
  if (bytes.length !== 32) throw unreadable(`the platform key ${id} is not 32 bytes`)
  return importKey(bytes)
}

const importKey = (raw: Uint8Array<ArrayBuffer>): Promise<CryptoKey> =>
  crypto.subtle.importKey('raw', raw, 'AES-GCM', false, ['encrypt', 'decrypt'])

async function encrypt(
  key: CryptoKey,
  plain: Uint8Array<ArrayBuffer>,
  context: Uint8Array<ArrayBuffer>,
): Promise<{ iv: string; ct: string }> {
  const iv = crypto.getRandomValues(new Uint8Array(12))
  const ct = await crypto.subtle.encrypt({ name: 'AES-GCM', iv, additionalData: context }, key, plain)
  return { iv: toBase64Url(iv), ct: toBase64Url(new Uint8Array(ct)) }
}

async function decrypt(
  key: CryptoKey,
  sealed: { iv: string; ct: string },
  context: Uint8Array<ArrayBuffer>,
): Promise<Uint8Array<ArrayBuffer>> {
  try {
    const options = { name: 'AES-GCM', iv: fromBase64Url(sealed.iv), additionalData: context }
    return new Uint8Array(await crypto.subtle.decrypt(options, key, fromBase64Url(sealed.ct)))
  } catch {
    // WebCrypto says nothing on purpose, and neither do we: wrong owner, wrong key and altered bytes look alike.
    throw unreadable('it does not open')
  }
}

// Length-prefixed parts: no two owners give the same bytes, whatever their ids contain.
const contextOf = (...parts: (string | number)[]): Uint8Array<ArrayBuffer> =>
  new TextEncoder().encode(parts.map((part) => `${String(part).length}:${part}`).join(','))
const keyContext = (tenantId: string, version: number): Uint8Array<ArrayBuffer> =>
  contextOf('tenant-key', tenantId, version)
const secretContext = (owner: SecretOwner): Uint8Array<ArrayBuffer> =>
  contextOf('credential', owner.tenantId, owner.credentialId, owner.version)

const unreadable = (why: string): AppError =>
  new AppError('SECRET_UNREADABLE', 'The secret cannot be opened.', { context: { why } })

const toBase64Url = (bytes: Uint8Array): string =>
  btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(''))
    .replaceAll('+', '-')
    .replaceAll('/', '_')
    .replaceAll('=', '')
const fromBase64Url = (text: string): Uint8Array<ArrayBuffer> =>
  Uint8Array.from(atob(text.replaceAll('-', '+').replaceAll('_', '/')), (c) => c.charCodeAt(0))
