import { sql } from 'drizzle-orm'
import type { App } from '../../control-plane/app.ts'
import { linkSeed, linkToken } from '../../shared/auth/account-link.ts'
import { type Clock, systemClock } from '../../shared/clock.ts'
import { rowsOf } from '../../shared/db/db.ts'
import { secretCanary } from './canary.ts'
import type { Answer, ControlPlane, Loose } from './control-plane.ts'

/** A password that is good enough. */
export const goodPassword = secretCanary('of a person')

/** A person who has signed up by an invitation, through the API. */
export type SignedUp = { tenantId: string; userId: string; email: string; password: string }

/** Tokens as `login` gives them. */
export type Tokens = { accessToken: string; refreshToken: string; expiresAt: string; session: { id: string } }

/** A clock that a test can put forward; one that is given where it stands goes on by nothing else. */
export function movableClock(standsAt?: number): Clock & { forward(ms: number): void } {
  let ahead = 0
  return {
    now: () => new Date((standsAt ?? Date.now()) + ahead),
    sleep: systemClock.sleep,
    forward: (ms) => void (ahead += ms),
  }
}

const inputs: Record<string, string> = {
  activateAccount: 'AccountLinkInput',
  resetPassword: 'AccountLinkInput',
  inviteUser: 'UserInput',
  deactivateUser: 'UserInput',
  activateUser: 'UserInput',
  deleteUser: 'UserInput',
}
const selected: Record<string, string> = {
  login: 'tokens { accessToken expiresAt refreshToken session { id } }',
  refreshSession: 'tokens { accessToken expiresAt refreshToken session { id } }',
  createUser: 'user { id status }',
  inviteUser: 'link',
  logout: 'ended',
}

type Options = { token?: string | undefined; address?: string }

/** Signing in and what belongs to it, as a client does it; `app` is the plane's own unless given. */
export function people(plane: ControlPlane, app: App = plane.app) {
  let made = 0
  const ask = (name: string, input: object, options: Options = {}): Promise<Answer> =>
    plane.query(
      `mutation ($input: ${inputs[name] ?? `${name.charAt(0).toUpperCase()}${name.slice(1)}Input`}!) { ${name}(input: $input) { errors { code message ... on RateLimitError { retryAfterSeconds } } ${selected[name] ?? ''} } }`,
      { ...options, app, variables: { input } },
    )
  const done = async (name: string, input: object, options: Options = {}): Promise<Loose> => {
    const { errors, data } = await ask(name, input, options)
    const refusals = errors.length > 0 ? errors : data[name].errors
    if (refusals.length > 0) throw new Error(`${name}: ${JSON.stringify(refusals)}`)
    return data[name]
  }
  return {
    /** The answer to a mutation, whatever it is. */
    ask,
    /** The payload of a mutation that must not be refused. */
    done,
    /** The code of a refusal, thrown or in the payload; undefined without one. */
    async refusal(name: string, input: object, options: Options = {}): Promise<string | undefined> {
      const { errors, data } = await ask(name, input, options)
      return errors[0]?.extensions.code ?? data[name].errors[0]?.code
    },
    /** Makes, invites and activates a person with the tenant's key. */
    async signUp(
      { id: tenantId, token }: { id: string; token: string },
      more: { role?: string; email?: string; password?: string } = {},
    ): Promise<SignedUp> {
      const { role = 'TENANT_ADMIN', email = `p${++made}@x.example`, password = goodPassword } = more
      const { user } = await done('createUser', { email, role }, { token })
      const { link } = await done('inviteUser', { id: user.id }, { token })
      await done('activateAccount', { token: link, password })
      return { tenantId, userId: user.id, email, password }
    },
    /** The tokens of a new session. */
    async login({ tenantId, email, password }: Omit<SignedUp, 'userId'>): Promise<Tokens> {
      return (await done('login', { tenantId, email, password })).tokens
    },
    /** Whether a request with this token is answered. */
    isIn: async (token: string): Promise<boolean> =>
      (await plane.query('{ viewer { userId } }', { token, app })).status === 200,
    /** The token in the newest mail of this name, as whoever sends it makes it. */
    async mailed(tenantId: string, name: 'welcome' | 'invited' | 'reset'): Promise<string | undefined> {
      const [mail] = await rowsOf<{ link: unknown }>(
        plane.ports.db,
        sql`select payload -> 'link' as link from app.outbox where tenant_id = ${tenantId}
            and dedupe_key like ${`user.${name} %`} order by created_at desc, id desc limit 1`,
      )
      return mail && linkToken(plane.ports.signing, linkSeed.parse(mail.link))
    },
  }
}
