import type { PlatformKeys } from './secret-box.ts'

/** What a signature is for: a key made for one purpose verifies nothing of another. */
export type SigningPurpose =
  | 'session'
  | 'link'
  | 'service'
  | 'read'
  | 'cursor'
  | 'webhook'
  | 'request'
  | 'limit'
  | 'key-cache'

/** An Ed25519 pair: both halves as JSON Web Keys. */
export type KeyPair = { privateKey: JsonWebKey; publicKey: JsonWebKey }

/** Keys for HMAC SHA-256, one per purpose and platform key, and an Ed25519 pair per platform key. They are derived when needed and stored nowhere. */
export type SigningKeys = {
  /** The key that signs now, and the id to name in what it signs. */
  current(purpose: SigningPurpose): Promise<{ id: string; key: CryptoKey }>
  /** The Ed25519 pair of the current platform key, for what others verify with the public half alone. */
  currentPair(): Promise<{ id: string } & KeyPair>
  /** The pair of this id; undefined for an id that is not configured. */
  findPair(id: string): Promise<KeyPair | undefined>
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
  const findPair = async (id: string): Promise<KeyPair | undefined> => {
    const raw = Object.hasOwn(platform.keys, id) ? platform.keys[id] : undefined
    return raw === undefined ? undefined : derivePair(raw)
  }
  return {
    find,
    findPair,
    async currentPair() {
      const pair = await findPair(platform.current)
      if (!pair) throw new Error(`The platform key ${platform.current} is not configured.`)
      return { id: platform.current, ...pair }
    },
    async current(purpose) {
      const key = await find(purpose, platform.current)
      if (!key) throw new Error(`The platform key ${platform.current} is not configured.`)
      return { id: platform.current, key }
    },
  }
}

async function derive(raw: string, purpose: SigningPurpose): Promise<CryptoKey> {
  const root = await crypto.subtle.importKey('raw', bytesOf(raw), 'HKDF', false, ['deriveKey'])
  const info = new TextEncoder().encode(`tributary signing ${purpose}`)
  return crypto.subtle.deriveKey(
    { name: 'HKDF', hash: 'SHA-256', salt: new Uint8Array(), info },
    root,
    { name: 'HMAC', hash: 'SHA-256', length: 256 },
    false,
    ['sign', 'verify'],
  )
}

// The head of a private Ed25519 key in PKCS #8 (RFC 8410); the 32 bytes of the seed follow it.
const pkcs8Head = [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20]

async function derivePair(raw: string): Promise<KeyPair> {
  const root = await crypto.subtle.importKey('raw', bytesOf(raw), 'HKDF', false, ['deriveBits'])
  const info = new TextEncoder().encode('tributary signing pair')
  const seed = await crypto.subtle.deriveBits(
    { name: 'HKDF', hash: 'SHA-256', salt: new Uint8Array(), info },
    root,
    256,
  )
  const pkcs8 = Uint8Array.from([...pkcs8Head, ...new Uint8Array(seed)])
  const key = await crypto.subtle.importKey('pkcs8', pkcs8, { name: 'Ed25519' }, true, ['sign'])
  const { kty, crv, x, d } = await crypto.subtle.exportKey('jwk', key)
  if (kty !== 'OKP' || crv !== 'Ed25519' || x === undefined || d === undefined)
    throw new Error('this runtime gives no Ed25519 keys')
  return { privateKey: { kty, crv, x, d }, publicKey: { kty, crv, x } }
}

const bytesOf = (base64: string): Uint8Array<ArrayBuffer> => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))
