import { claimedIssuer } from '../../shared/auth/verify-token.ts'
import { ownIssuer } from '../../shared/auth/own-token.ts'
import { AppError } from '../../shared/errors.ts'
import { type Auth, type Context, noBearer } from '../context.ts'
import { authenticateKey } from './api-key.ts'
import { refused } from './person.ts'
import { authenticateProvider } from '../identity-providers/authenticate-provider.ts'
import { authenticateSession } from './session.ts'

// Providers put groups into their tokens; beyond this nobody reads.
const charsMax = 8_192

/**
 * The authority behind what the request carries in `Authorization: Bearer` or `x-api-key`: a key, an access token of a
 * session, or the token of an identity provider, whose tenant is named in `x-tenant-id`. Throws UNAUTHENTICATED with one
 * and the same text for whatever is malformed, unknown, wrong, ended or revoked; TENANT_NOT_ACTIVE for a good key of a
 * tenant that is not there yet; FORBIDDEN when `x-tenant-id` names another tenant than that of the key or session.
 */
export async function authenticate(context: Context, headers: Headers): Promise<Auth> {
  const token = presented(headers)
  if (token === undefined) throw new AppError('UNAUTHENTICATED', noBearer)
  if (token.length > charsMax) throw refused()
  const tenantId = headers.get('x-tenant-id')
  const issuer = token.startsWith('key_') ? undefined : claimedIssuer(token)
  if (issuer !== undefined && issuer !== ownIssuer) return authenticateProvider(context, token, issuer, tenantId)
  const { ports, keyCache } = context
  // What is to be remembered keeps nobody waiting.
  const cache: typeof keyCache = keyCache && {
    ...keyCache,
    keep: async (...found) => context.later(() => keyCache.keep(...found)),
  }
  const auth = await (issuer === undefined ? authenticateKey(ports, token, cache) : authenticateSession(ports, token))
  if (tenantId !== null && tenantId !== auth.tenantId)
    throw new AppError('FORBIDDEN', 'The header x-tenant-id names another tenant.')
  return auth
}

// Two headers, or one twice, would let two readers see two callers.
function presented(headers: Headers): string | undefined {
  const [authorization, key] = [headers.get('authorization'), headers.get('x-api-key')]
  if (authorization !== null && key !== null) return ''
  if (authorization !== null) return /^Bearer +(\S+)$/i.exec(authorization.trim())?.[1] ?? ''
  return key?.trim()
}
