import { importPKCS8, SignJWT } from 'jose'
import { z } from 'zod'
import type { serviceAccount } from '../../schema/config/credentials.ts'
import { AppError } from '../../shared/errors.ts'
import type { StepContext } from '../define.ts'
import { exchange, untilAnswered } from '../http.ts'

/** A checked key. */
export type ServiceAccount = z.output<typeof serviceAccount>

/** Access tokens of one account, one for each scope. */
export type GoogleTokens = {
  /**
   * A token that is good for another minute at least. Throws CREDENTIAL_INVALID for a key that is none,
   * CREDENTIAL_REJECTED when Google refuses it, and as `exchange`.
   */
  get(scope: string, ctx: Pick<StepContext, 'signal' | 'allowPrivateNetwork'>): Promise<string>
  /** Forgets the tokens, for Google may take one back before its time. */
  forget(): void
  /** What must not be seen by anybody: the tokens so far. */
  issued(): string[]
}

const tokenReply = z.object({
  access_token: z.string().regex(/^[\x21-\x7e]{1,8192}$/),
  expires_in: z.number().positive().default(3600),
})
const refusal = z.object({ error: z.string().regex(/^[a-z_]{1,60}$/) })

/** Opens nothing yet: the first `get` does. */
export function googleTokens(account: ServiceAccount): GoogleTokens {
  const known = new Map<string, { token: string; untilMs: number }>()
  const issued: string[] = []
  return {
    async get(scope, ctx) {
      const cached = known.get(scope)
      if (cached && cached.untilMs > performance.now()) return cached.token
      const body = new URLSearchParams({
        grant_type: 'urn:ietf:params:oauth:grant-type:jwt-bearer',
        assertion: await assertion(account, scope),
      }).toString()
      const headers = { 'content-type': 'application/x-www-form-urlencoded', accept: 'application/json' }
      const url = new URL(account.token_uri)
      const reply = await untilAnswered(ctx, () => exchange(ctx, { method: 'POST', url, headers, body }))
      if (reply.status !== 200) throw refused(reply.status, reply.body)
      const parsed = tokenReply.safeParse(jsonOf(reply.body))
      if (!parsed.success) throw new AppError('SOURCE_FAILED', 'The token service answered without a token.')
      const { access_token: token, expires_in: seconds } = parsed.data
      issued.push(token)
      known.set(scope, { token, untilMs: performance.now() + (seconds - 60) * 1000 })
      return token
    },
    forget: () => known.clear(),
    issued: () => issued,
  }
}

async function assertion(account: ServiceAccount, scope: string): Promise<string> {
  // Without the cause, which may repeat a part of the key.
  const key = await importPKCS8(account.private_key, 'RS256').catch(() => {
    throw new AppError('CREDENTIAL_INVALID', 'private_key is not a PKCS#8 key in PEM form.')
  })
  return new SignJWT({ scope })
    .setProtectedHeader({ alg: 'RS256', typ: 'JWT' })
    .setIssuer(account.client_email)
    .setAudience(account.token_uri)
    .setIssuedAt()
    .setExpirationTime('1h')
    .sign(key)
}

function refused(status: number, body: Buffer): AppError {
  const said = refusal.safeParse(jsonOf(body)).data?.error
  if (status === 400 || status === 401 || status === 403)
    return new AppError('CREDENTIAL_REJECTED', `Google refused this key${said ? ` (${said})` : ''}.`)
  return new AppError('SOURCE_FAILED', `The token service answered with status ${status}.`)
}

/** The JSON of a body; undefined when it is none. */
export function jsonOf(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString('utf8'))
  } catch {
    return undefined
  }
}
