import type { PlatformKeys } from './secret-box.ts'

/** What a signature is for: a key made for one purpose verifies nothing of another. */
export type SigningPurpose = 'session' | 'service' | 'cursor' | 'webhook'

/** Keys for HMAC SHA-256, one per purpose and platform key. They are derived when needed and stored nowhere. */
export type SigningKeys = {
  /** The key that signs now, and the id to name in what it signs. */
  current(purpose: SigningPurpose): Promise<{ id: string; key: CryptoKey }>
  /** The key of this id, also after a newer platform key took over; undefined for an id that is not configured. */
  find(purpose: SigningPurpose, id: string): Promise<CryptoKey | undefined>
}

/** Signing keys of one platform, by HKDF (RFC 5869) from its platform keys; a key derived once is kept for the process. */
export function signingKeys(platform: PlatformKeys): SigningKeys {
  const derived = new Map<string, Promise<CryptoKey>>()
  const find = async (purpose: SigningPurpose, id: string): Promise<CryptoKey | undefined> => {
    // Own keys only: an id like `constructor` comes from a stranger's token.
    const raw = Object.hasOwn(platform.keys, id) ? platform.keys[id] : undefined
    if (raw === undefined) return undefined
    const name = `${purpose}:${id}`
    const known = derived.get(name) ?? derive(raw, purpose)
    derived.set(name, known)
    return known
  }
  return {
    find,
    async current(purpose) {
      const key = await find(purpose, platform.current)
      if (!key) throw new Error(`The platform key ${platform.current} is not configured.`)
      return { id: platform.current, key }
    },
  }
}

async function derive(raw: string, purpose: SigningPurpose): Promise<CryptoKey> {
  const bytes = Uint8Array.from(atob(raw), (c) => c.charCodeAt(0))
  const root = await crypto.subtle.importKey('raw', bytes, 'HKDF', false, ['deriveKey'])
  const info = new TextEncoder().encode(`tributary signing ${purpose}`)
  return crypto.subtle.deriveKey(
    { name: 'HKDF', hash: 'SHA-256', salt: new Uint8Array(), info },
    root,
    { name: 'HMAC', hash: 'SHA-256', length: 256 },
    false,
    ['sign', 'verify'],
  )
}
