import { jwtVerify } from 'jose'
import { z } from 'zod'
import { AppError } from '../errors.ts'

/** Signatures that anybody may be asked to use; a rule allows some of them. */
export type TokenAlgorithm = 'HS256' | 'RS256' | 'PS256' | 'ES256' | 'EdDSA' | 'Ed25519'

/** What a token must be. Times are seconds. */
export type TokenRule = {
  algorithms: readonly TokenAlgorithm[]
  issuer: string
  audience: string
  /** The header's `typ`, letter by letter; undefined for the tokens of others, whose header may say anything. */
  typ: string | undefined
  /** How old it may be, and how long it may live at most. */
  lifetimeSeconds: number
  /** Of the two that the tokens of others may lack: an id of the token, and one audience instead of a list. */
  isOwn: boolean
  charsMax: number
  /** The key of this id out of a fixed set; undefined for any other id. */
  keyOf(kid: string, algorithm: TokenAlgorithm): Promise<CryptoKey | undefined>
}

/** Claims of a good token; beside these whatever its issuer put in. */
export type Claims = { sub: string; iat: number; exp: number; jti?: string | undefined; [claim: string]: unknown }

/** How far clocks may differ. */
const toleranceSeconds = 30

/**
 * The claims of a JSON Web Token that keeps the rule at `now`; the only place that verifies one. Its key comes from the
 * rule and never from the token: headers that bring or locate a key, and those that must be understood, are refused.
 * Throws UNAUTHENTICATED for everything else, with one text and the reason in the context.
 */
export async function verifyToken(token: string, rule: TokenRule, now: Date): Promise<Claims> {
  try {
    const { kid, alg } = headerOf(token, rule)
    const key = await rule.keyOf(kid, alg)
    if (!key) throw new Error('no key of this id')
    const { payload } = await jwtVerify(token, key, {
      algorithms: [alg],
      issuer: rule.issuer,
      audience: rule.audience,
      requiredClaims: ['exp', 'iat', 'sub', ...(rule.isOwn ? ['jti'] : [])],
      maxTokenAge: rule.lifetimeSeconds,
      clockTolerance: toleranceSeconds,
      currentDate: now,
    })
    const claims = claimsShape.parse(payload)
    if (claims.exp <= claims.iat || claims.exp - claims.iat > rule.lifetimeSeconds) throw new Error('it lives too long')
    if (rule.isOwn && typeof payload.aud !== 'string') throw new Error('a list of audiences')
    // OpenID Connect Core 3.1.3.7: a token for several must name the one that it was made for.
    if (Array.isArray(payload.aud) && payload.aud.length > 1 && payload['azp'] !== rule.audience)
      throw new Error('made for another party')
    return claims
  } catch (error) {
    throw notValid(error)
  }
}

/** What a signed delivery must be: a token of which the key is shared with its sender. */
export type DeliveryRule = {
  /** The keys that are good now, the most likely one first. */
  keys: readonly string[]
  issuer: string
  /** The address that it must be made for, letter by letter. */
  subject: string
  lifetimeSeconds: number
  charsMax: number
}

/** Claims of a good delivery: its id, until when it could be good at the latest (seconds), and the hash of its body as its sender wrote it. */
export type DeliveryClaims = { jti: string; exp: number; body: string }

/**
 * The claims of a token that comes with a delivery and keeps the rule at `now`, signed with HMAC-SHA-256 under one of the
 * keys. Ends of its life, id, issuer and address are demanded. Throws UNAUTHENTICATED as `verifyToken` does.
 */
export async function verifyDelivery(token: string, rule: DeliveryRule, now: Date): Promise<DeliveryClaims> {
  try {
    partsOf(token, rule.charsMax)
    const payload = await firstOf(rule.keys, async (key) => {
      const verified = await jwtVerify(token, new TextEncoder().encode(key), {
        algorithms: ['HS256'],
        issuer: rule.issuer,
        subject: rule.subject,
        requiredClaims: ['exp', 'nbf', 'jti', 'iss', 'sub'],
        clockTolerance: toleranceSeconds,
        currentDate: now,
      })
      return verified.payload
    })
    const claims = deliveryShape.parse(payload)
    if (claims.exp <= claims.nbf || claims.exp - claims.nbf > rule.lifetimeSeconds) throw new Error('it lives too long')
    return { ...claims, exp: claims.exp + toleranceSeconds }
  } catch (error) {
    throw notValid(error)
  }
}

/** Who says to have issued a token. Nothing of it is verified: it only says which rule to try. */
export function claimedIssuer(token: string): string | undefined {
  try {
    const [, payload = ''] = token.split('.')
    return z.object({ iss: z.string() }).parse(JSON.parse(textOf(payload))).iss
  } catch {
    return undefined
  }
}

const notValid = (error: unknown): AppError =>
  new AppError('UNAUTHENTICATED', 'This token is not valid.', {
    context: { why: error instanceof z.ZodError ? 'claims' : String(error) },
  })

// What the first key makes of it, or else the next; the last one's refusal when none does.
async function firstOf<T>(keys: readonly string[], check: (key: string) => Promise<T>): Promise<T> {
  let refusal: unknown = new Error('there is no key')
  for (const key of keys) {
    try {
      return await check(key)
    } catch (error) {
      refusal = error
    }
  }
  throw refusal
}

const ownHeader = z.strictObject({ alg: z.string(), kid: z.string().min(1).max(200), typ: z.string() })
// The fingerprint of a certificate locates no key: some providers send it.
const othersHeader = z.strictObject({
  alg: z.string(),
  kid: z.string().min(1).max(200),
  typ: z.string().optional(),
  x5t: z.string().optional(),
  'x5t#S256': z.string().optional(),
})
const claimsShape = z.looseObject({
  sub: z.string().min(1).max(255),
  iat: z.number().positive(),
  exp: z.number().positive(),
  nbf: z.number().optional(),
  jti: z.string().min(1).max(255).optional(),
})
const deliveryShape = z.object({
  jti: z.string().min(1).max(255),
  nbf: z.number().positive(),
  exp: z.number().positive(),
  body: z.string().min(1).max(100),
})

function headerOf(token: string, rule: TokenRule): { kid: string; alg: TokenAlgorithm } {
  const head = partsOf(token, rule.charsMax)
  const { alg, kid, typ } = (rule.isOwn ? ownHeader : othersHeader).parse(JSON.parse(head))
  if (rule.typ !== undefined && typ !== rule.typ) throw new Error('of another kind')
  const known = rule.algorithms.find((algorithm) => algorithm === alg)
  if (!known) throw new Error('not this algorithm')
  return { kid, alg: known }
}

// The text of the header of a token that can be read in one way only.
function partsOf(token: string, charsMax: number): string {
  if (token.length > charsMax) throw new Error('too long')
  const parts = /^([\w-]+)\.([\w-]+)\.([\w-]+)$/.exec(token)?.slice(1) ?? []
  const [head, payload] = parts
  if (head === undefined || payload === undefined) throw new Error('not three parts')
  // Bits that a last letter has and no byte takes up would give one token several spellings.
  if (!parts.every((part) => /^(?:.{4})*(?:.[AQgw]|..[AEIMQUYcgkosw048])?$/.test(part))) throw new Error('spelt oddly')
  const [headText, payloadText] = [textOf(head), textOf(payload)]
  JSON.parse(headText)
  JSON.parse(payloadText)
  // Where a name stands twice, two readers may see two tokens.
  if (hasRepeatedName(headText) || hasRepeatedName(payloadText)) throw new Error('a repeated name')
  return headText
}

/** True when an object in this JSON has a name twice. */
function hasRepeatedName(json: string): boolean {
  const open: Set<string>[] = []
  for (const [part, name] of json.matchAll(/("(?:[^"\\]|\\.)*")\s*:|"(?:[^"\\]|\\.)*"|[{}]/g)) {
    if (part === '{') open.push(new Set())
    else if (part === '}') open.pop()
    else if (name !== undefined) {
      const names = open.at(-1)
      const read = String(JSON.parse(name))
      if (names?.has(read)) return true
      names?.add(read)
    }
  }
  return false
}

function textOf(part: string): string {
  const bytes = Uint8Array.from(atob(part.replaceAll('-', '+').replaceAll('_', '/')), (c) => c.charCodeAt(0))
  return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
}
