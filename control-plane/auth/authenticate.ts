import { claimedIssuer } from '../../shared/auth/verify-token.ts'
import { ownIssuer } from '../../shared/auth/own-token.ts'
import { AppError } from '../../shared/errors.ts'
import { type Auth, type Context, noBearer } from '../context.ts'
import { authenticateKey, knownKey } from './api-key.ts'
import { refused } from './person.ts'
import { pledgeFor } from './pledge.ts'
import { authenticateProvider } from '../identity-providers/authenticate-provider.ts'
import { authenticateSession } from './session.ts'

// Providers put groups into their tokens; beyond this nobody reads.
const charsMax = 8_192

/**
 * The authority behind what the request carries in `Authorization: Bearer` or `x-api-key`: a key, an access token of a
 * session, or the token of an identity provider, whose tenant is named in `x-tenant-id`. Throws UNAUTHENTICATED with one
 * and the same text for whatever is malformed, unknown, wrong, ended or revoked; TENANT_NOT_ACTIVE for a good key of a
 * tenant that is not there yet; FORBIDDEN when `x-tenant-id` names another tenant than that of the key or session. A key that
 * is known is taken for what it was, against a pledge.
 */
export async function authenticate(context: Context, headers: Headers): Promise<Auth> {
  const token = presented(headers)
  if (token === undefined) throw new AppError('UNAUTHENTICATED', noBearer)
  if (token.length > charsMax) throw refused()
  const tenantId = headers.get('x-tenant-id')
  const issuer = token.startsWith('key_') ? undefined : claimedIssuer(token)
  if (issuer !== undefined && issuer !== ownIssuer) return authenticateProvider(context, token, issuer, tenantId)
  const { ports, keyCache, knownKeys } = context
  // What is to be remembered keeps nobody waiting.
  const cache: typeof keyCache = keyCache && {
    ...keyCache,
    keep: async (...found) => context.later(() => keyCache.keep(...found)),
  }
  const known = issuer === undefined ? await knownKey(ports, token, knownKeys) : undefined
  if (known && (tenantId === null || tenantId === known.auth.tenantId)) {
    const lasting = { ...ports, db: context.lastingDb }
    context.pledge = pledgeFor(known.id, known.key, async (anew) => {
      const memories = { known: knownKeys, cache: anew ? undefined : cache }
      const isSame = await isStill(known.auth, authenticateKey(lasting, token, memories))
      if (!isSame) knownKeys.forget(known.id)
      return isSame
    })
    return known.auth
  }
  const auth = await (issuer === undefined
    ? authenticateKey(ports, token, { known: knownKeys, cache })
    : authenticateSession(ports, token))
  if (tenantId !== null && tenantId !== auth.tenantId)
    throw new AppError('FORBIDDEN', 'The header x-tenant-id names another tenant.')
  return auth
}

// A key that is refused now is not what it was; a database that does not answer says nothing.
async function isStill(was: Auth, looking: Promise<Auth>): Promise<boolean> {
  const textOf = ({ tenantId, scopes, isSuspended, expiresAt }: Auth): string =>
    JSON.stringify([tenantId, [...scopes], isSuspended, expiresAt])
  try {
    return textOf(await looking) === textOf(was)
  } catch (error) {
    if (error instanceof AppError) return false
    throw error
  }
}

// Two headers, or one twice, would let two readers see two callers.
function presented(headers: Headers): string | undefined {
  const [authorization, key] = [headers.get('authorization'), headers.get('x-api-key')]
  if (authorization !== null && key !== null) return ''
  if (authorization !== null) return /^Bearer +(\S+)$/i.exec(authorization.trim())?.[1] ?? ''
  return key?.trim()
}
