import { sql } from 'drizzle-orm'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { App } from '../../control-plane/app.ts'
import { type Passwords, passwords } from '../../control-plane/auth/password.ts'
import { attemptsMax } from '../../control-plane/auth/attempts.ts'
import { type Role, scopesOf } from '../../schema/roles.ts'
import { systemClock } from '../../shared/clock.ts'
import { rowsOf } from '../../shared/db/db.ts'
import {
  type Answer,
  type ControlPlane,
  controlPlane,
  type Frame,
  type Loose,
  smallWorker,
  until,
} from '../support/control-plane.ts'
import { goodPassword, movableClock, people } from '../support/people.ts'

let plane: ControlPlane
let a: { id: string; token: string }
let who: ReturnType<typeof people>
const clock = movableClock()
let later: App
beforeAll(async () => {
  plane = await controlPlane()
  a = await plane.tenant()
  later = plane.appWith({}, { clock })
  who = people(plane, later)
})
afterAll(() => plane[Symbol.asyncDispose]())

const minute = 60_000
const day = 24 * 60 * minute
const bare = ({ status, text }: Answer): string => `${status} ${text.replaceAll(/req_[0-9a-f]+/g, 'req')}`
const actions = async (target: string): Promise<string[]> =>
  (
    await rowsOf<{ action: string }>(
      plane.ports.db,
      sql`select action from app.audit_event where target = ${target} order by seq`,
    )
  ).map(({ action }) => action)
const viewer = async (token: string): Promise<Loose> =>
  (
    await plane.query(
      '{ viewer { userId keyId tenantId actor roles scopes permissions { canViewJobs canCreateJobs } session { id } sessions { id } } }',
      { token, app: later },
    )
  ).data?.viewer

describe('somebody who signs in', () => {
  test('is who it is, in its tenant, with the scopes of its roles', async () => {
    const ada = await who.signUp(a, { role: 'POWER_USER' })
    const { accessToken, session } = await who.login(ada)
    expect(await viewer(accessToken)).toEqual({
      userId: ada.userId,
      keyId: null,
      tenantId: a.id,
      actor: `user:${ada.userId}`,
      roles: ['POWER_USER'],
      scopes: namesOf(['POWER_USER']),
      permissions: { canViewJobs: true, canCreateJobs: true },
      session: { id: session.id },
      sessions: [{ id: session.id }],
    })
    expect(await viewer(a.token)).toMatchObject({ userId: null, roles: [], session: null, sessions: [] })
  })

  test('acts under its name, and makes keys with no more than its own scopes', async () => {
    const admin = await who.signUp(a)
    const { accessToken } = await who.login(admin)
    const make = (scopes: string): Promise<Answer> =>
      plane.query(
        `mutation { createApiKey(input: { name: "k", scopes: [${scopes}] }) { apiKey { id createdBy expiresAt } errors { code } } }`,
        { token: accessToken },
      )
    const { apiKey } = (await make('RUNS_READ')).data.createApiKey
    expect(apiKey).toMatchObject({ createdBy: `user:${admin.userId}`, expiresAt: null })
    expect((await make('PLATFORM_READ')).errors[0]?.extensions.code).toBe('FORBIDDEN')
    expect(await rowsOf(plane.ports.db, sql`select actor from app.audit_event where target = ${apiKey.id}`)).toEqual([
      { actor: `user:${admin.userId}` },
    ])
  })

  test('may write the address in whatever case, and the password however it is composed', async () => {
    const zoe = await who.signUp(a, {
      email: 'Zoë-1@x.example'.replace('ë', 'e'),
      password: 'Zo\u0065\u0308s Geheimnis 1',
    })
    const session = await who.login({ ...zoe, email: zoe.email.toUpperCase(), password: 'Zo\u00ebs Geheimnis 1' })
    expect(await who.isIn(session.accessToken)).toBe(true)
  })

  test('has its access for 15 minutes, and as long as it refreshes within a week for 30 days', async () => {
    const ada = await who.signUp(a)
    let { accessToken, refreshToken } = await who.login(ada)
    clock.forward(14 * minute)
    expect(await who.isIn(accessToken)).toBe(true)
    clock.forward(2 * minute)
    expect(await who.isIn(accessToken)).toBe(false)
    for (let days = 0; days < 30; days += 6) {
      ;({ accessToken, refreshToken } = (await who.done('refreshSession', { refreshToken })).tokens)
      expect(await who.isIn(accessToken)).toBe(true)
      clock.forward(6 * day)
    }
    expect(await who.refusal('refreshSession', { refreshToken })).toBe('UNAUTHENTICATED')
    const idle = await who.login(ada)
    clock.forward(7 * day + minute)
    expect(await who.refusal('refreshSession', { refreshToken: idle.refreshToken })).toBe('UNAUTHENTICATED')
  })

  test('has 20 sessions at most; one more ends the oldest', async () => {
    const ada = await who.signUp(a)
    const sessions = []
    for (let i = 0; i < 21; i++) sessions.push(await who.login(ada))
    const [oldest, next] = sessions
    expect([await who.isIn(oldest?.accessToken ?? ''), await who.isIn(next?.accessToken ?? '')]).toEqual([false, true])
    expect((await viewer(next?.accessToken ?? '')).sessions).toHaveLength(20)
  })
})

describe('what ends a session counts at once', () => {
  test('logout ends one, or all', async () => {
    const ada = await who.signUp(a)
    const [one, two, three] = [await who.login(ada), await who.login(ada), await who.login(ada)]
    expect(await who.done('logout', {}, { token: one.accessToken })).toMatchObject({ ended: 1 })
    expect(await who.isIn(one.accessToken)).toBe(false)
    expect(await who.refusal('refreshSession', { refreshToken: one.refreshToken })).toBe('UNAUTHENTICATED')
    expect(await who.isIn(two.accessToken)).toBe(true)
    expect(await who.done('logout', { everywhere: true }, { token: two.accessToken })).toMatchObject({ ended: 2 })
    expect(await who.isIn(three.accessToken)).toBe(false)
    expect(await actions(one.session.id)).toEqual(['session.started', 'session.ended'])
    expect(await who.refusal('logout', {}, { token: a.token })).toBe('BAD_INPUT')
  })

  test('so do deactivation and deletion of the person, and coming back brings no session back', async () => {
    const ada = await who.signUp(a, { role: 'DATA_ANALYST' })
    const { accessToken, refreshToken } = await who.login(ada)
    await who.done('deactivateUser', { id: ada.userId }, { token: a.token })
    expect(await who.isIn(accessToken)).toBe(false)
    expect(await who.refusal('login', credentialsOf(ada))).toBe('UNAUTHENTICATED')
    await who.done('activateUser', { id: ada.userId }, { token: a.token })
    expect(await who.isIn(accessToken)).toBe(false)
    expect(await who.refusal('refreshSession', { refreshToken })).toBe('UNAUTHENTICATED')
    const again = await who.login(ada)
    await who.done('deleteUser', { id: ada.userId }, { token: a.token })
    expect(await who.isIn(again.accessToken)).toBe(false)
    for (const table of ['user_password', 'account_link'])
      expect(
        await rowsOf(plane.ports.db, sql`select 1 from app.${sql.identifier(table)} where user_id = ${ada.userId}`),
      ).toEqual([])
  })

  test('a changed role counts from the next request on', async () => {
    const ada = await who.signUp(a, { role: 'DATA_ANALYST' })
    const { accessToken } = await who.login(ada)
    await plane.query(
      `mutation { changeUserRole(input: { id: "${ada.userId}", role: DATA_STEWARD }) { user { id } } }`,
      a,
    )
    expect((await viewer(accessToken)).roles).toEqual(['DATA_STEWARD'])
  })

  test('a suspended tenant is read and not changed, and an offboarded one is closed', async () => {
    const b = await plane.tenant()
    const ada = await who.signUp(b)
    const { accessToken } = await who.login(ada)
    const set = (status: string) =>
      plane.ports.db.execute(sql`update app.tenant set status = ${status} where id = ${b.id}`)
    await set('suspended')
    const { scopes } = await viewer((await who.login(ada)).accessToken)
    expect(scopes.every((scope: string) => scope.endsWith('_READ'))).toBe(true)
    expect(await who.refusal('createUser', { email: 'x@x.example' }, { token: accessToken })).toBe('TENANT_NOT_ACTIVE')
    await set('offboarded')
    expect(await who.isIn(accessToken)).toBe(false)
    expect(await who.refusal('login', credentialsOf(ada))).toBe('UNAUTHENTICATED')
  })

  test('offboarding ends every session and leaves no way in', async () => {
    await using _worker = smallWorker(plane.ports)
    const b = await plane.tenant()
    const ada = await who.signUp(b)
    const { accessToken, session } = await who.login(ada)
    await who.done('inviteUser', { id: ada.userId }, { token: b.token })
    await plane.query(
      'mutation { configureIdentityProvider(input: { issuer: "https://id.acme.example", audience: "x" }) { errors { code } } }',
      b,
    )
    const { data } = await plane.query(
      `mutation { offboardTenant(input: { tenantId: "${b.id}" }) { tenant { status } errors { code message } } }`,
      { token: plane.platformToken },
    )
    expect(data.offboardTenant).toEqual({ tenant: { status: 'OFFBOARDED' }, errors: [] })
    expect(await who.isIn(accessToken)).toBe(false)
    expect(await rowsOf(plane.ports.db, sql`select ended_why from app.session where id = ${session.id}`)).toEqual([
      { ended_why: 'offboarded' },
    ])
    for (const table of ['user_password', 'account_link', 'identity_provider', 'user_identity'])
      expect(
        await rowsOf(plane.ports.db, sql`select 1 from app.${sql.identifier(table)} where tenant_id = ${b.id}`),
      ).toEqual([])
  })

  test.each([
    ['logout', (token: string) => people(plane).ask('logout', {}, { token })],
    [
      'a role that may do less',
      (_token: string, id: string) =>
        plane.query(`mutation { changeUserRole(input: { id: "${id}", role: DATA_STEWARD }) { user { id } } }`, a),
    ],
    [
      'deactivation',
      (_token: string, id: string) =>
        plane.query(`mutation { deactivateUser(input: { id: "${id}" }) { user { id } } }`, a),
    ],
  ] as const)('a stream ends with its session within 5 s of %s', async (_name, end) => {
    const ada = await who.signUp(a, { role: 'POWER_USER' })
    const { accessToken: token } = await people(plane).login(ada)
    await plane.query(
      'mutation { savePipeline(input: { path: "x/y/z", yaml: "pipeline_id: p\\nsteps:\\n  - step_id: only\\n    ps_type: file.delete\\n    paths: [a]\\n" }) { errors { message } } }',
      a,
    )
    const started = await plane.query(
      'mutation { runPipeline(input: { pipeline: "x/y/z" }) { run { id } errors { message } } }',
      { token },
    )
    const stream = plane.subscribe('subscription ($id: ID!) { runEvents(runId: $id) { type } }', {
      token,
      variables: { id: started.data.runPipeline.run.id },
    })
    const first = await stream.next()
    expect(first.value?.data.data.runEvents.type).toBe('run.queued')
    const at = Date.now()
    await end(token, ada.userId)
    const rest: Frame[] = []
    for await (const frame of stream) rest.push(frame)
    // A look is five seconds away at most; by itself the stream would go on for five minutes.
    expect(Date.now() - at).toBeLessThan(30_000)
    expect(JSON.stringify(rest.map(({ data }) => data))).toContain('UNAUTHENTICATED')
  })
})

describe('refreshing', () => {
  test('the next pair works, and the one before does not', async () => {
    const first = await who.login(await who.signUp(a))
    const { tokens } = await who.done('refreshSession', { refreshToken: first.refreshToken })
    expect(tokens.session.id).toBe(first.session.id)
    expect(tokens.refreshToken).not.toBe(first.refreshToken)
    expect(await who.isIn(tokens.accessToken)).toBe(true)
    await who.done('refreshSession', { refreshToken: tokens.refreshToken })
  })

  test('of many at once exactly one wins, and the session goes on for the winner', async () => {
    const { refreshToken, session } = await who.login(await who.signUp(a))
    const answers = await Promise.all(Array.from({ length: 8 }, () => who.ask('refreshSession', { refreshToken })))
    const won = answers.flatMap(({ data }) => data.refreshSession.tokens ?? [])
    expect(won).toHaveLength(1)
    expect(answers.filter(({ data }) => data.refreshSession.errors[0]?.code === 'CONFLICT')).toHaveLength(7)
    await who.done('refreshSession', { refreshToken: won[0].refreshToken })
    expect(await actions(session.id)).not.toContain('session.reuse_detected')
  })

  test('a repeat within seconds leaves the session, and the same a minute later ends it', async () => {
    const first = await who.login(await who.signUp(a))
    const { tokens: second } = await who.done('refreshSession', { refreshToken: first.refreshToken })
    clock.forward(5_000)
    expect(await who.refusal('refreshSession', { refreshToken: first.refreshToken })).toBe('CONFLICT')
    expect(await who.isIn(second.accessToken)).toBe(true)
    clock.forward(minute)
    expect(await who.refusal('refreshSession', { refreshToken: first.refreshToken })).toBe('UNAUTHENTICATED')
    expect(await who.isIn(second.accessToken)).toBe(false)
    expect(await who.refusal('refreshSession', { refreshToken: second.refreshToken })).toBe('UNAUTHENTICATED')
    expect(await actions(first.session.id)).toEqual([
      'session.started',
      'session.refreshed',
      'session.reuse_detected',
      'session.ended',
    ])
  })

  test('a token that is two steps old ends the session even at once', async () => {
    const first = await who.login(await who.signUp(a))
    const { tokens: second } = await who.done('refreshSession', { refreshToken: first.refreshToken })
    const { tokens: third } = await who.done('refreshSession', { refreshToken: second.refreshToken })
    expect(await who.refusal('refreshSession', { refreshToken: first.refreshToken })).toBe('UNAUTHENTICATED')
    expect(await who.isIn(third.accessToken)).toBe(false)
  })

  test('who only knows the id of a session cannot end it', async () => {
    const { accessToken, refreshToken } = await who.login(await who.signUp(a))
    const [head = '', id = '', family = '', secret = ''] = refreshToken.split('.')
    const other = 'ab'.repeat(32)
    const forged = [
      [head, id, other, other],
      [head, id, other, secret],
      [`ref_${(await plane.tenant()).id}`, id, family, secret],
      [head, id.replace(/.$/, (last) => (last === '0' ? '1' : '0')), family, secret],
      [head, id, family],
    ]
    const answers = await Promise.all(
      forged.map((parts) => who.ask('refreshSession', { refreshToken: parts.join('.') })),
    )
    expect(new Set(answers.map(bare)).size).toBe(1)
    expect(answers[0]?.status).toBe(401)
    expect(await who.isIn(accessToken)).toBe(true)
    await who.done('refreshSession', { refreshToken })
  })

  test('no refresh token stands in the database', async () => {
    const { refreshToken } = await who.login(await who.signUp(a))
    const rows = JSON.stringify(await rowsOf(plane.ports.db, sql`select * from app.session`))
    for (const part of refreshToken.split('.').slice(2)) expect(rows).not.toContain(part)
  })
})

describe('a refused sign-in', () => {
  test('has the same answer and the same work whatever is wrong', async () => {
    const costs: string[] = []
    const real = passwords(systemClock, { ln: 4, r: 1, p: 1 })
    const counting: Passwords = {
      hash: (password) => (costs.push('hash'), real.hash(password)),
      verify: (password, hash) => (costs.push(hash?.split('$')[2] ?? 'ln=4,r=1,p=1'), real.verify(password, hash)),
    }
    const app = plane.appWith({ identity: { passwords: counting } }, { clock })
    const b = await plane.tenant()
    const [good, gone, waiting] = [
      await who.signUp(b),
      await who.signUp(b, { role: 'DATA_ANALYST' }),
      'waiting@x.example',
    ]
    await who.done('deactivateUser', { id: gone.userId }, { token: b.token })
    await who.done('createUser', { email: waiting }, { token: b.token })
    const closed = await plane.tenant()
    const closedUser = await who.signUp(closed)
    await plane.ports.db.execute(sql`update app.tenant set status = 'offboarded' where id = ${closed.id}`)
    const cases = [
      { ...good, password: 'another password' },
      { ...good, email: 'nobody@x.example' },
      { ...good, tenantId: 'no_such_tenant' },
      { ...good, tenantId: a.id },
      { ...good, tenantId: 'Not A Tenant' },
      { ...good, password: '' },
      gone,
      { ...good, email: waiting },
      closedUser,
    ]
    const answers: string[] = []
    for (const each of cases) answers.push(bare(await people(plane, app).ask('login', credentialsOf(each))))
    expect(new Set(answers).size).toBe(1)
    expect(answers[0]).toMatch(/^401 .*UNAUTHENTICATED/)
    expect(costs).toEqual(cases.map(() => 'ln=4,r=1,p=1'))
    await who.login(good)
  })

  test('is counted in the log of its tenant, an entry a minute', async () => {
    const b = await plane.tenant()
    const ada = await who.signUp(b)
    for (let i = 0; i < 5; i++) await who.ask('login', { ...credentialsOf(ada), password: 'another password' })
    await who.ask('login', { ...credentialsOf(ada), email: 'nobody@x.example' })
    const read = () =>
      rowsOf(
        plane.ports.db,
        sql`select actor from app.audit_event where tenant_id = ${b.id} and action = 'session.refused' order by actor`,
      )
    await until('both are noted', async () => (await read()).length >= 2)
    expect(await read()).toEqual([{ actor: 'unknown' }, { actor: `user:${ada.userId}` }])
  })

  test('after ten the account waits, whether there is one or not, and a parallel flood gets no further', async () => {
    const ada = await who.signUp(a)
    for (const email of [ada.email, 'nobody-at-all@x.example']) {
      const flood = await Promise.all(
        Array.from({ length: 14 }, () =>
          who.ask('login', { ...credentialsOf(ada), email, password: 'another password' }),
        ),
      )
      expect(flood.filter(({ status }) => status === 401)).toHaveLength(attemptsMax.account)
      const [refusal] = flood.flatMap(({ data }) => data?.login?.errors ?? [])
      expect(refusal).toMatchObject({ code: 'RATE_LIMITED' })
      expect(refusal.retryAfterSeconds).toBeGreaterThan(800)
      expect(refusal.retryAfterSeconds).toBeLessThanOrEqual(900)
      for (const { data, headers } of flood) {
        const [limited] = data?.login?.errors ?? []
        expect(headers.get('retry-after')).toBe(limited ? String(limited.retryAfterSeconds) : null)
      }
    }
    expect(await who.refusal('login', credentialsOf(ada))).toBe('RATE_LIMITED')
    clock.forward(15 * minute + 1000)
    await who.login(ada)
  })

  test('a success forgets the failures of the account', async () => {
    const ada = await who.signUp(a)
    for (let round = 0; round < 3; round++) {
      for (let i = 0; i < 9; i++) await who.ask('login', { ...credentialsOf(ada), password: 'another password' })
      expect(await who.isIn((await who.login(ada)).accessToken)).toBe(true)
    }
  })

  test('an address waits after a hundred, with all its IPv6 network, and another does not', async () => {
    const ada = await who.signUp(a)
    const from = (address: string, i: number) =>
      who.refusal('login', { ...credentialsOf(ada), email: `${i}@guess.example` }, { address })
    for (let i = 0; i < 100; i++) expect(await from(`2001:db8:1:2::${i.toString(16)}`, i)).toBe('UNAUTHENTICATED')
    expect(await from('2001:db8:1:2:ffff::1', 200)).toBe('RATE_LIMITED')
    expect(await from('2001:db8:1:3::1', 200)).toBe('UNAUTHENTICATED')
    expect(await from('192.0.2.1', 201)).toBe('UNAUTHENTICATED')
    clock.forward(15 * minute + 1000)
    expect(await from('2001:db8:1:2:ffff::1', 202)).toBe('UNAUTHENTICATED')
  })

  test('what is counted goes when its window is over', async () => {
    clock.forward(day)
    for (let i = 0; i < 30; i++) await who.ask('login', { tenantId: a.id, email: `${i}@sweep.example`, password: 'x' })
    const count = async () =>
      (await rowsOf<{ n: number }>(plane.ports.db, sql`select count(*)::int as n from app.login_bucket`))[0]?.n
    expect(await count()).toBe(30)
  })

  test('a password that is too long for any account is refused before it costs anything', async () => {
    expect(await who.refusal('login', { tenantId: a.id, email: 'x@x.example', password: 'x'.repeat(257) })).toBe(
      'BAD_INPUT',
    )
    expect(await who.refusal('login', { tenantId: a.id, email: 'x@x.example', password: 'ä'.repeat(129) })).toBe(
      'BAD_INPUT',
    )
  })
})

describe('links', () => {
  test('an invitation is good once, for a week, and only the newest', async () => {
    const { user } = await who.done('createUser', { email: 'inv@x.example', role: 'POWER_USER' }, { token: a.token })
    expect(user.status).toBe('invited')
    const invite = async (): Promise<string> => (await who.done('inviteUser', { id: user.id }, { token: a.token })).link
    const [old, newest] = [await invite(), await invite()]
    const use = (token: string, password = goodPassword) => who.refusal('activateAccount', { token, password })
    expect(await use(old)).toBe('UNAUTHENTICATED')
    expect(await use(newest, 'too short')).toBe('BAD_INPUT')
    expect(await who.refusal('resetPassword', { token: newest, password: goodPassword })).toBe('UNAUTHENTICATED')
    const uses = await Promise.all([use(newest), use(newest), use(newest)])
    expect(uses.toSorted()).toEqual(['UNAUTHENTICATED', 'UNAUTHENTICATED', undefined])
    expect(await use(newest)).toBe('UNAUTHENTICATED')
    expect(await actions(user.id)).toEqual([
      'user.created',
      'user.invited',
      'user.invited',
      'user.activated',
      'user.password_set',
    ])
    const late = await invite()
    clock.forward(7 * day + minute)
    expect(await use(late)).toBe('UNAUTHENTICATED')
  })

  test('an invitation goes out by mail when the tenant says so, and is then shown to nobody', async () => {
    const b = await plane.tenant()
    await plane.ports.db.execute(
      sql`update app.tenant set configuration = jsonb_set(configuration, '{userManagement,welcomeMail}', 'true') where id = ${b.id}`,
    )
    const { user } = await who.done('createUser', { email: 'm@x.example' }, { token: b.token })
    const welcome = await who.mailed(b.id, 'welcome')
    expect((await who.done('inviteUser', { id: user.id }, { token: b.token })).link).toBeNull()
    const invitation = await who.mailed(b.id, 'invited')
    expect(await who.refusal('activateAccount', { token: welcome, password: goodPassword })).toBe('UNAUTHENTICATED')
    await who.done('activateAccount', { token: invitation, password: goodPassword })
    const payloads = JSON.stringify(
      await rowsOf(plane.ports.db, sql`select payload from app.outbox where tenant_id = ${b.id}`),
    )
    expect(payloads).toContain('{link}')
    for (const token of [welcome, invitation]) expect(payloads).not.toContain(token?.split('.').at(-1))
  })

  test('a lost password is set anew by mail; sessions end, and the answer tells nothing', async () => {
    const b = await plane.tenant()
    const ada = await who.signUp(b)
    const session = await who.login(ada)
    const answers = await Promise.all(
      [ada.email, 'nobody@x.example'].map((email) => who.ask('requestPasswordReset', { tenantId: b.id, email })),
    )
    answers.push(await who.ask('requestPasswordReset', { tenantId: 'no_such_tenant', email: ada.email }))
    expect(new Set(answers.map(bare)).size).toBe(1)
    const token = await who.mailed(b.id, 'reset')
    const password = 'another good password'
    await who.done('resetPassword', { token, password })
    expect(await who.isIn(session.accessToken)).toBe(false)
    expect(await who.refusal('login', credentialsOf(ada))).toBe('UNAUTHENTICATED')
    await who.login({ ...ada, password })
    await who.ask('requestPasswordReset', { tenantId: b.id, email: ada.email })
    const late = await who.mailed(b.id, 'reset')
    clock.forward(61 * minute)
    expect(await who.refusal('resetPassword', { token: late, password })).toBe('UNAUTHENTICATED')
  })

  test('mail for one account can be asked for three times in a quarter of an hour, whether there is one or not', async () => {
    const ada = await who.signUp(a)
    for (const email of [ada.email, 'not-there@x.example']) {
      const codes: (string | undefined)[] = []
      for (let i = 0; i < 4; i++) codes.push(await who.refusal('requestPasswordReset', { tenantId: a.id, email }))
      expect(codes).toEqual([undefined, undefined, undefined, 'RATE_LIMITED'])
    }
  })

  test('a link to an address that was changed since is good no more', async () => {
    const ada = await who.signUp(a)
    await who.ask('requestPasswordReset', { tenantId: a.id, email: ada.email })
    const token = await who.mailed(a.id, 'reset')
    await plane.query(
      `mutation { updateUser(input: { id: "${ada.userId}", email: "new@x.example" }) { errors { code } } }`,
      a,
    )
    expect(await who.refusal('resetPassword', { token, password: goodPassword })).toBe('UNAUTHENTICATED')
  })

  test('a changed password ends the other sessions and not this one', async () => {
    const ada = await who.signUp(a)
    const [here, there] = [await who.login(ada), await who.login(ada)]
    const change = (currentPassword: string, newPassword: string) =>
      who.refusal('changePassword', { currentPassword, newPassword }, { token: here.accessToken })
    expect(await change('not the password', 'another good password')).toBe('BAD_INPUT')
    expect(await change(goodPassword, 'short')).toBe('BAD_INPUT')
    expect(await change(goodPassword, 'another good password')).toBeUndefined()
    expect([await who.isIn(here.accessToken), await who.isIn(there.accessToken)]).toEqual([true, false])
    await who.login({ ...ada, password: 'another good password' })
    expect(await who.refusal('changePassword', { currentPassword: 'x', newPassword: goodPassword }, a)).toBe(
      'BAD_INPUT',
    )
  })
})

test('people of the platform are made by its keys, with its roles alone', async () => {
  const platform = { id: 'platform', token: plane.platformToken }
  const helper = await who.signUp(platform, { role: 'SUPPORT' })
  const { accessToken } = await who.login(helper)
  expect((await viewer(accessToken)).scopes).toEqual(namesOf(['SUPPORT']))
  const read = await plane.query(`{ tenant(id: "${a.id}") { id } }`, { token: accessToken, app: later })
  expect(read.data.tenant.id).toBe(a.id)
  const make = (role: string | undefined, token: string) =>
    who.refusal('createUser', { email: `${role}@y.example`, ...(role ? { role } : {}) }, { token })
  expect(await make('TENANT_ADMIN', platform.token)).toBe('BAD_INPUT')
  expect(await make(undefined, platform.token)).toBe('BAD_INPUT')
  expect(await make('SUPPORT', a.token)).toBe('BAD_INPUT')
  expect(await make('AUDITOR', accessToken)).toBe('FORBIDDEN')
})

const credentialsOf = ({ tenantId, email, password }: { tenantId: string; email: string; password: string }) => ({
  tenantId,
  email,
  password,
})

const namesOf = (roles: Role[]): string[] => scopesOf(roles).map((scope) => scope.toUpperCase().replace(':', '_'))
