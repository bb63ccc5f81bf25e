import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { exportJWK, generateKeyPair, type JWK, SignJWT } from 'jose'

type Pair = Awaited<ReturnType<typeof generateKeyPair>>

/** An OpenID Connect provider on this machine: discovery, keys, and tokens of whatever kind a test wants. */
export type TestProvider = AsyncDisposable & {
  issuer: string
  /** How often each path was asked for. */
  asked: Record<string, number>
  /** Makes a key pair and publishes its public half. */
  addKey(kid: string, algorithm?: string, more?: JWK): Promise<Pair>
  removeKey(kid: string): void
  /** What is published. */
  keys(): JWK[]
  /** Answers a path in this way instead. */
  serve(path: string, respond: (request: IncomingMessage, response: ServerResponse) => void): void
  /** A token by a published key, good unless the claims or the header say otherwise; an undefined claim is left out. */
  token(claims: Record<string, unknown>, options?: { kid?: string; header?: Record<string, unknown> }): Promise<string>
}

/** Starts a provider with the RSA key `k1`. */
export async function testProvider(audience: string): Promise<TestProvider> {
  const keys = new Map<string, { pair: Pair; jwk: JWK; algorithm: string }>()
  const asked: Record<string, number> = {}
  const answers = new Map<string, (request: IncomingMessage, response: ServerResponse) => void>()
  const server = createServer((request, response) => {
    const path = request.url ?? '/'
    asked[path] = (asked[path] ?? 0) + 1
    const json = (body: unknown): void =>
      void response.setHeader('content-type', 'application/json').end(JSON.stringify(body))
    const own = answers.get(path)
    if (own) own(request, response)
    else if (path === '/.well-known/openid-configuration') json({ issuer, jwks_uri: `${issuer}/keys` })
    else if (path === '/keys') json({ keys: [...keys.values()].map(({ jwk }) => jwk) })
    else response.writeHead(404).end()
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  // A listening server on a port has an address.
  const issuer = `http://127.0.0.1:${(server.address() as AddressInfo).port}`

  const provider: TestProvider = {
    issuer,
    asked,
    async addKey(kid, algorithm = 'RS256', more = {}) {
      const pair = await generateKeyPair(algorithm, { extractable: true })
      const jwk = { ...(await exportJWK(pair.publicKey)), kid, use: 'sig', alg: algorithm, ...more }
      keys.set(kid, { pair, jwk, algorithm })
      return pair
    },
    keys: () => [...keys.values()].map(({ jwk }) => jwk),
    removeKey: (kid) => void keys.delete(kid),
    serve: (path, respond) => void answers.set(path, respond),
    async token(claims, { kid = 'k1', header = {} } = {}) {
      const key = keys.get(kid)
      if (!key) throw new Error(`no key ${kid}`)
      const now = Math.floor(Date.now() / 1000)
      const all = { iss: issuer, aud: audience, sub: 'subject-1', iat: now, exp: now + 600, ...claims }
      return new SignJWT(JSON.parse(JSON.stringify(all)))
        .setProtectedHeader({ alg: key.algorithm, kid, ...header })
        .sign(key.pair.privateKey)
    },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
  await provider.addKey('k1')
  return provider
}
