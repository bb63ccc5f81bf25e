import { scryptAsync } from '@noble/hashes/scrypt.js'
import { AppError } from '../../shared/errors.ts'
import type { Clock } from '../../shared/clock.ts'

/** Cost of scrypt: N is 2^`ln`; it takes 128·r·N bytes and p times as long. */
export type ScryptCost = { ln: number; r: number; p: number }

/** Makes and compares hashes of passwords. */
export type Passwords = {
  /** A hash under a fresh salt, with its cost: `$scrypt$ln=14,r=8,p=5$<salt>$<hash>`. */
  hash(password: string): Promise<string>
  /**
   * Whether the password is the one of the hash, and whether that costs less than a hash of today. Without a hash it is
   * not, at the price of today.
   */
  verify(password: string, hash: string | undefined): Promise<{ isRight: boolean; isOutdated: boolean }>
}

// 2^14·8·128 = 16 MiB at five rounds is, by OWASP's table, worth the 128 MiB at one that an isolate of 128 MB cannot have,
// and leaves it room for four at once. 0.33 s in JavaScript, measured with Node 24.
const costOfToday: ScryptCost = { ln: 14, r: 8, p: 5 }
const atOnceMax = 4
const waitMs = 25
const waitMaxMs = 5_000

/**
 * Passwords by scrypt. At most four are hashed at once in a process; who waits longer than 5 s gets UNAVAILABLE. Every
 * waiter has a timer of its own: on Workers one request must not wait for the promise of another.
 */
export function passwords(clock: Clock, cost: ScryptCost = costOfToday): Passwords {
  let running = 0
  const isFull = (): boolean => running >= atOnceMax
  const derive = async (password: string, salt: Uint8Array, { ln, r, p }: ScryptCost): Promise<Uint8Array> => {
    for (let waited = 0; isFull(); waited += waitMs) {
      if (waited >= waitMaxMs) throw new AppError('UNAVAILABLE', 'Too many people are signing in right now.')
      await clock.sleep(waitMs)
    }
    running++
    try {
      return await scryptAsync(normal(password), salt, { N: 2 ** ln, r, p, dkLen: 32 })
    } finally {
      running--
    }
  }
  return {
    async hash(password) {
      const salt = crypto.getRandomValues(new Uint8Array(16))
      return textOf(cost, salt, await derive(password, salt, cost))
    },
    async verify(password, hash) {
      const known = hash === undefined ? undefined : partsOf(hash)
      const { salt, cost: wanted } = known ?? { salt: new Uint8Array(16), cost }
      const made = await derive(password, salt, wanted)
      const isOutdated = wanted.ln < cost.ln || wanted.r < cost.r || wanted.p < cost.p
      return { isRight: known !== undefined && isSame(made, known.hash), isOutdated }
    },
  }
}

const charsMin = 12
/** The longest password, as it comes in and as it is hashed. */
export const passwordBytesMax = 256

/** Throws BAD_INPUT, at the given field, for a password of fewer than 12 characters or more than 256 bytes. */
export function refuseWeak(password: string, field: string): void {
  const text = normal(password)
  if ([...text].length >= charsMin && isShort(text) && isShort(password)) return
  throw new AppError(
    'BAD_INPUT',
    `A password has at least ${charsMin} characters and at most ${passwordBytesMax} bytes.`,
    {
      place: { path: field },
    },
  )
}

/** Whether this could be a password as far as its length goes. */
export const isShort = (password: string): boolean =>
  password.length <= passwordBytesMax && new TextEncoder().encode(password).length <= passwordBytesMax

// The same password comes composed from one keyboard and decomposed from another.
const normal = (password: string): string => password.normalize('NFKC')

const textOf = ({ ln, r, p }: ScryptCost, salt: Uint8Array, hash: Uint8Array): string =>
  `$scrypt$ln=${ln},r=${r},p=${p}$${base64Of(salt)}$${base64Of(hash)}`

function partsOf(text: string): { cost: ScryptCost; salt: Uint8Array; hash: Uint8Array } {
  const [ln, r, p, salt, hash] = /^\$scrypt\$ln=(\d+),r=(\d+),p=(\d+)\$([^$]+)\$([^$]+)$/.exec(text)?.slice(1) ?? []
  if (salt === undefined || hash === undefined) throw new Error('a stored hash of a password is not readable')
  return { cost: { ln: Number(ln), r: Number(r), p: Number(p) }, salt: bytesOf(salt), hash: bytesOf(hash) }
}

function isSame(a: Uint8Array, b: Uint8Array): boolean {
  let difference = a.length ^ b.length
  for (const [at, byte] of a.entries()) difference |= byte ^ (b[at] ?? 0)
  return difference === 0
}

const base64Of = (bytes: Uint8Array): string => btoa(String.fromCharCode(...bytes))
const bytesOf = (text: string): Uint8Array => Uint8Array.from(atob(text), (c) => c.charCodeAt(0))
