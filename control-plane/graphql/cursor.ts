import { hmac } from '@noble/hashes/hmac.js'
import { sha256 } from '@noble/hashes/sha2.js'
import { z } from 'zod'
import type { Ports } from '../../shared/ports.ts'
import { sameHash } from '../../shared/secrets/api-key.ts'

/** Where an item stands in its list: the value that the list is ordered by, and the id where values are equal. */
export type Position = readonly [sortKey: string, id: string]

/** Cursors of one list of one tenant. */
export type Cursors = {
  /** The cursor of a position. */
  at(position: Position): string
  /** The position of a cursor; undefined for one that is not ours, of another list, filter or tenant, or changed by a bit. */
  read(cursor: string): Promise<Position | undefined>
}

const tagBytes = 16
const charsMax = 1200
const bodyShape = z.tuple([z.string().max(100), z.string().max(200), z.string().max(200)])

/**
 * Cursors of a list for the caller's tenant. A cursor shows the position of its own row, the id of a signing key, and a tag that binds
 * it to tenant, list and filter; there is nothing else in it. One of an earlier platform key still counts.
 */
export async function cursorsOf(
  { auth, ports: { signing } }: { auth: { tenantId: string } | undefined; ports: Pick<Ports, 'signing'> },
  list: unknown,
): Promise<Cursors> {
  const place = [auth?.tenantId ?? '', list]
  const current = await signing.current('cursor')
  const key = await keyOf(current.key)
  const write = (keyId: string, by: Uint8Array, [sortKey, id]: Position): string => {
    const tag = hmac(sha256, by, bytesOf([...place, sortKey, id])).slice(0, tagBytes)
    return `${base64Url(bytesOf([keyId, sortKey, id]))}.${base64Url(tag)}`
  }
  return {
    at: (position) => write(current.id, key, position),
    async read(cursor) {
      const body = bodyOf(cursor)
      if (!body) return undefined
      const [keyId, ...position] = body
      const found = await signing.find('cursor', keyId)
      if (!found) return undefined
      // Written anew and compared whole: base64 and JSON spell one thing in several ways.
      return sameHash(write(keyId, await keyOf(found), position), cursor) ? position : undefined
    },
  }
}

// A key that stays in WebCrypto signs in promises only; what is signed here is wanted at once, and hundreds of times a page.
const derived = new WeakMap<CryptoKey, Promise<Uint8Array>>()
function keyOf(key: CryptoKey): Promise<Uint8Array> {
  const known =
    derived.get(key) ??
    crypto.subtle.sign('HMAC', key, new TextEncoder().encode('cursors')).then((made) => new Uint8Array(made))
  derived.set(key, known)
  return known
}

function bodyOf(cursor: string): z.output<typeof bodyShape> | undefined {
  if (cursor.length > charsMax) return undefined
  const [body = ''] = cursor.split('.')
  try {
    const text = atob(body.replaceAll('-', '+').replaceAll('_', '/'))
    const bytes = Uint8Array.from(text, (char) => char.charCodeAt(0))
    return bodyShape.safeParse(JSON.parse(new TextDecoder().decode(bytes))).data
  } catch {
    return undefined
  }
}

const bytesOf = (value: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(value))

const base64Url = (bytes: Uint8Array): string =>
  btoa(String.fromCharCode(...bytes))
    .replaceAll('+', '-')
    .replaceAll('/', '_')
    .replaceAll('=', '')
