import { afterAll, beforeAll, expect, test } from 'vitest'
import { plans } from '../../schema/config/tenant.ts'
import { inProcessRateLimit, type RateLimit } from '../../shared/rate-limit.ts'
import { type Answer, type ControlPlane, controlPlane } from '../support/control-plane.ts'
import { movableClock } from '../support/people.ts'

let plane: ControlPlane
beforeAll(async () => {
  plane = await controlPlane()
})
afterAll(() => plane[Symbol.asyncDispose]())

const points = plans.SCALE.apiPointsPerMinute
const small = '{ viewer { tenantId } }'
// 100 runs with 40 fields each: 41 points.
const dear = `{ runs(first: 100) { nodes { ${Array.from({ length: 29 }, (_, i) => `a${i}: id`).join(' ')} state steps { key } } } }`
const codes = ({ errors }: Answer): string[] => errors.map(({ extensions }) => extensions.code)
const figures = ({ headers }: Answer) =>
  Object.fromEntries(
    ['limit', 'remaining', 'used', 'reset', 'resource'].map((name) => [name, headers.get(`x-ratelimit-${name}`)]),
  )
const freshApp = () => {
  const clock = movableClock(Date.now())
  return { clock, app: plane.appWith({ rateLimit: inProcessRateLimit(clock) }, { clock }) }
}

test('every answer says in five headers how the limits stand, and what it cost', async () => {
  const t = await plane.tenant()
  const { app, clock } = freshApp()
  const first = await plane.query(small, { token: t.token, app })
  expect(JSON.parse(first.text).extensions).toEqual({ cost: { cost: 2, points: 1 } })
  expect(figures(first)).toEqual({
    limit: String(points / 2),
    remaining: String(points / 2 - 1),
    used: '1',
    reset: String(Math.ceil((clock.now().getTime() + 60_000 / (points / 2)) / 1000)),
    resource: 'key',
  })
  const more = await plane.query(dear, { token: t.token, app })
  expect(more.errors).toEqual([])
  const { cost } = JSON.parse(more.text).extensions
  expect(cost.points).toBe(Math.ceil(cost.cost / 100))
  expect(cost.points).toBeGreaterThan(30)
  const wrong = await plane.query('{ nothing }', { token: t.token, app })
  expect(figures(wrong)).toMatchObject({ resource: 'key', limit: String(points / 2) })
  const asked = await plane.query('{ rateLimit { limit cost remaining used resetAt } }', { token: t.token, app })
  expect(asked.data.rateLimit).toMatchObject({
    limit: points / 2,
    cost: 1,
    remaining: Number(figures(asked).remaining),
  })
  expect(asked.data.rateLimit.used).toBe(points / 2 - asked.data.rateLimit.remaining)
})

test('a key has half of what its tenant has: who uses up one is refused, the other is not', async () => {
  const t = await plane.tenant()
  const other = await plane.key(t.id)
  const stranger = await plane.tenant()
  const { app, clock } = freshApp()
  const ask = (token: string): Promise<Answer> => plane.query(small, { token, app })
  await plane.query('mutation ($i: SetTenantLimitsInput!) { setTenantLimits(input: $i) { errors { code } } }', {
    token: plane.platformToken,
    variables: { i: { tenantId: t.id, limits: { apiPointsPerMinute: 10 } } },
  })
  for (let i = 0; i < 5; i++) expect((await ask(t.token)).status).toBe(200)
  const refused = await ask(t.token)
  expect([refused.status, codes(refused)]).toEqual([429, ['RATE_LIMITED']])
  expect(refused.headers.get('retry-after')).toBe('12')
  expect(figures(refused)).toMatchObject({ resource: 'key', remaining: '0', limit: '5' })
  for (let i = 0; i < 5; i++) expect((await ask(other)).status).toBe(200)
  // Now it is the tenant that has nothing left, whichever key asks.
  const third = await ask(await plane.key(t.id))
  expect([third.status, figures(third).resource]).toEqual([429, 'tenant'])
  expect((await ask(stranger.token)).status).toBe(200)
  clock.forward(12_000)
  expect((await ask(t.token)).status).toBe(200)
})

test('people have a limit of their own, each', async () => {
  const t = await plane.tenant()
  const { userId } = await plane.person(t.id, 'TENANT_ADMIN')
  const { app } = freshApp()
  const answer = await plane.query(small, { token: await plane.session(t.id, userId), app })
  expect(figures(answer)).toMatchObject({ resource: 'user', used: '1' })
})

test('what is dear is refused before it runs, with all that it would cost', async () => {
  const t = await plane.tenant()
  const { app } = freshApp()
  await plane.query('mutation ($i: SetTenantLimitsInput!) { setTenantLimits(input: $i) { errors { code } } }', {
    token: plane.platformToken,
    variables: { i: { tenantId: t.id, limits: { apiPointsPerMinute: 100 } } },
  })
  expect((await plane.query(dear, { token: t.token, app })).status).toBe(200)
  const refused = await plane.query(dear, { token: t.token, app })
  expect([refused.status, codes(refused)]).toEqual([429, ['RATE_LIMITED']])
  expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(20)
  expect((await plane.query(small, { token: t.token, app })).status).toBe(200)
})

test('an address that cannot say who it is is soon not asked any more, and then not for good keys either', async () => {
  const t = await plane.tenant()
  const { app, clock } = freshApp()
  const guess = (address: string, token = `key_${'0'.repeat(32)}.${'x'.repeat(43)}`): Promise<Answer> =>
    plane.query(small, { token, app, address })
  let tries = 0
  while ((await guess('203.0.113.7')).status === 401) tries++
  expect(tries).toBeGreaterThanOrEqual(300)
  expect(tries).toBeLessThan(330)
  const refused = await guess('203.0.113.7', t.token)
  expect([refused.status, codes(refused), figures(refused).resource]).toEqual([429, ['RATE_LIMITED'], 'address'])
  expect((await guess('203.0.113.8', t.token)).status).toBe(200)
  expect((await guess('203.0.113.8')).status).toBe(401)
  clock.forward(60_000)
  expect((await guess('203.0.113.7', t.token)).status).toBe(200)
})

test('limits that cannot be asked, or do not answer in time, stop nobody', async () => {
  const t = await plane.tenant()
  const broken: RateLimit = { take: () => Promise.reject(new Error('the store is away')) }
  const silent: RateLimit = { take: () => new Promise(() => undefined) }
  for (const rateLimit of [broken, silent]) {
    plane.logged.length = 0
    const answer = await plane.query('{ rateLimit { limit cost } }', {
      token: t.token,
      app: plane.appWith({ rateLimit }),
    })
    expect([answer.status, answer.data]).toEqual([200, { rateLimit: { limit: null, cost: 0 } }])
    expect(answer.headers.get('x-ratelimit-limit')).toBeNull()
    expect(plane.logged.filter((line) => line.includes('rate_limit.open'))).toHaveLength(1)
  }
})

test('limits that are away are told of once a minute, with how many requests passed, and asked no longer than they may take', async () => {
  const t = await plane.tenant()
  const clock = movableClock(Date.now())
  let gaveUp = 0
  const silent: RateLimit = {
    take: (_, __, signal) => new Promise(() => signal?.addEventListener('abort', () => void gaveUp++)),
  }
  const app = plane.appWith({ rateLimit: silent }, { clock })
  plane.logged.length = 0
  const told = (): unknown[] =>
    plane.logged.filter((line) => line.includes('rate_limit.open')).map((line) => JSON.parse(line).times)
  for (let i = 0; i < 3; i++) expect((await plane.query(small, { token: t.token, app })).status).toBe(200)
  expect(told()).toEqual([1])
  expect(gaveUp).toBe(3)
  clock.forward(60_000)
  await plane.query(small, { token: t.token, app })
  expect(told()).toEqual([1, 3])
})
