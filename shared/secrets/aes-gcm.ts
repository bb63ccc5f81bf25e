import { AppError } from '../errors.ts'

/** What AES-GCM made: nonce and ciphertext with its tag, as base64url. */
export type Encrypted = { iv: string; ct: string }

/** 32 bytes as a key that only this process uses. */
export const importKey = (raw: Uint8Array<ArrayBuffer>): Promise<CryptoKey> =>
  crypto.subtle.importKey('raw', raw, 'AES-GCM', false, ['encrypt', 'decrypt'])

/** Encrypts under a fresh nonce, bound to `context`. */
export async function encrypt(
  key: CryptoKey,
  plain: Uint8Array<ArrayBuffer>,
  context: Uint8Array<ArrayBuffer>,
): Promise<Encrypted> {
  const iv = crypto.getRandomValues(new Uint8Array(12))
  const ct = await crypto.subtle.encrypt({ name: 'AES-GCM', iv, additionalData: context }, key, plain)
  return { iv: toBase64Url(iv), ct: toBase64Url(new Uint8Array(ct)) }
}

/** What was encrypted. Throws SECRET_UNREADABLE for any other key, context or altered byte. */
export async function decrypt(
  key: CryptoKey,
  sealed: Encrypted,
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

/** Length-prefixed parts: no two owners give the same bytes, whatever their ids contain. */
export const contextOf = (...parts: (string | number)[]): Uint8Array<ArrayBuffer> =>
  new TextEncoder().encode(parts.map((part) => `${String(part).length}:${part}`).join(','))

/** The error of everything that does not open; `why` goes to the log. */
export const unreadable = (why: string): AppError =>
  new AppError('SECRET_UNREADABLE', 'The secret cannot be opened.', { context: { why } })

const toBase64Url = (bytes: Uint8Array): string =>
  btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(''))
    .replaceAll('+', '-')
    .replaceAll('/', '_')
    .replaceAll('=', '')

const fromBase64Url = (text: string): Uint8Array<ArrayBuffer> =>
  Uint8Array.from(atob(text.replaceAll('-', '+').replaceAll('_', '/')), (c) => c.charCodeAt(0))
