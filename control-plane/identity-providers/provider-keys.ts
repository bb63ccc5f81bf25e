import { z } from 'zod'
import type { TokenAlgorithm } from '../../shared/auth/verify-token.ts'
import { providerUrl } from './provider-url.ts'

/** Whose keys are asked for: a provider as one tenant has configured it. */
export type KeyOwner = { tenantId: string; issuer: string; keysUrl: string | null }

/** Public keys of identity providers. */
export type ProviderKeys = {
  /**
   * The key of this id for this algorithm; undefined when the provider has none, cannot be reached, or does not answer as
   * OpenID Connect Discovery has it. Keys are kept per tenant and issuer for 10 minutes, and for an hour while the
   * provider cannot be reached. An unknown id has them read again, at most once a minute.
   */
  find(owner: KeyOwner, kid: string, algorithm: TokenAlgorithm, now: Date): Promise<CryptoKey | undefined>
}

/** What a provider's token may be signed with. */
export const providerAlgorithms = ['RS256', 'PS256', 'ES256', 'EdDSA', 'Ed25519'] as const satisfies TokenAlgorithm[]

type Known = { keys: Jwk[]; imported: Map<string, CryptoKey>; readAt: number; triedAt: number }

const freshMs = 10 * 60_000
const staleMs = 60 * 60_000
const retryMs = 60_000
const ownersMax = 1_000
const fetchMs = 5_000
const bytesMax = 262_144
const keysMax = 50

/** An empty store; one per isolate. */
export function providerKeys(allowsLocal: boolean): ProviderKeys {
  const known = new Map<string, Known>()
  return {
    async find(owner, kid, algorithm, now) {
      const name = JSON.stringify([owner.tenantId, owner.issuer, owner.keysUrl])
      const at = now.getTime()
      const kept = known.get(name) ?? { keys: [], imported: new Map(), readAt: -Infinity, triedAt: -Infinity }
      const isWanted = at - kept.readAt >= freshMs || !kept.keys.some((jwk) => jwk.kid === kid)
      if (isWanted && at - kept.triedAt >= retryMs) {
        // Noted before the reading: of many requests at once one reads. The first of all have nothing to wait with.
        kept.triedAt = kept.readAt === -Infinity ? kept.triedAt : at
        if (!known.has(name) && known.size >= ownersMax) known.clear()
        known.set(name, kept)
        const keys = await readKeys(owner, allowsLocal).catch(() => undefined)
        kept.triedAt = at
        if (keys) {
          kept.keys = keys
          kept.imported.clear()
          kept.readAt = at
        }
      }
      if (at - kept.readAt >= staleMs) return undefined
      return imported(kept, kid, algorithm)
    },
  }
}

const jwkShape = z.looseObject({
  kid: z.string().min(1).max(200),
  kty: z.enum(['RSA', 'EC', 'OKP']),
  use: z.literal('sig').optional(),
  alg: z.string().optional(),
  crv: z.string().optional(),
  n: z.string().optional(),
})
type Jwk = z.output<typeof jwkShape>
const keySet = z.object({ keys: z.array(z.unknown()).max(keysMax) })
const discovery = z.object({ issuer: z.string(), jwks_uri: z.string() })

async function readKeys({ issuer, keysUrl }: KeyOwner, allowsLocal: boolean): Promise<Jwk[]> {
  const at = keysUrl ?? (await discover(issuer, allowsLocal))
  const { keys } = keySet.parse(await readJson(providerUrl(at, allowsLocal, 'keysUrl')))
  // A set may hold keys for other uses and kinds that nobody asked for: they are left out.
  return keys.flatMap((key) => jwkShape.safeParse(key).data ?? [])
}

async function discover(issuer: string, allowsLocal: boolean): Promise<string> {
  const base = providerUrl(issuer, allowsLocal, 'issuer')
  const found = discovery.parse(
    await readJson(new URL(`${issuer.replace(/\/$/, '')}/.well-known/openid-configuration`)),
  )
  if (found.issuer !== issuer) throw new Error('it says to be another issuer')
  if (new URL(found.jwks_uri).origin !== base.origin) throw new Error('its keys are elsewhere')
  return found.jwks_uri
}

// Redirects are not followed: where one leads was not checked.
async function readJson(url: URL): Promise<unknown> {
  const signal = AbortSignal.timeout(fetchMs)
  const response = await fetch(url, { redirect: 'manual', headers: { accept: 'application/json' }, signal })
  if (response.status !== 200 || !response.body) {
    await response.body?.cancel()
    throw new Error(`it answered ${response.status}`)
  }
  const reader = response.body.getReader()
  const decoder = new TextDecoder('utf-8', { fatal: true })
  let text = ''
  let bytes = 0
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    bytes += part.value.byteLength
    if (bytes > bytesMax) {
      await reader.cancel()
      throw new Error('it is too large')
    }
    text += decoder.decode(part.value, { stream: true })
  }
  return JSON.parse(text + decoder.decode())
}

const forms = {
  RS256: { kty: 'RSA', crv: undefined, import: { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' } },
  PS256: { kty: 'RSA', crv: undefined, import: { name: 'RSA-PSS', hash: 'SHA-256' } },
  ES256: { kty: 'EC', crv: 'P-256', import: { name: 'ECDSA', namedCurve: 'P-256' } },
  EdDSA: { kty: 'OKP', crv: 'Ed25519', import: { name: 'Ed25519' } },
  Ed25519: { kty: 'OKP', crv: 'Ed25519', import: { name: 'Ed25519' } },
} as const

async function imported(kept: Known, kid: string, algorithm: TokenAlgorithm): Promise<CryptoKey | undefined> {
  if (algorithm === 'HS256') return undefined
  const form = forms[algorithm]
  const name = `${algorithm} ${kid}`
  const known = kept.imported.get(name)
  if (known) return known
  const jwk = kept.keys.find(
    (key) =>
      key.kid === kid &&
      key.kty === form.kty &&
      key.crv === form.crv &&
      (key.alg === undefined || key.alg === algorithm),
  )
  if (!jwk) return undefined
  // Only the public half, whatever else the set holds; an RSA key of fewer than 2048 bits is none.
  const { kty, crv, n, e, x, y } = jwk as JsonWebKey
  if (kty === 'RSA' && (n ?? '').length < 342) return undefined
  const key = await crypto.subtle
    .importKey('jwk', JSON.parse(JSON.stringify({ kty, crv, n, e, x, y })), form.import, false, ['verify'])
    .catch(() => undefined)
  if (key) kept.imported.set(name, key)
  return key
}
