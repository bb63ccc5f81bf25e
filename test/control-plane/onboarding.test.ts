import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { onboardingSteps } from '../../control-plane/onboarding/step.ts'
import { tenantScopes } from '../../schema/roles.ts'
import type { Db } from '../../shared/db/db.ts'
import { type Answer, type ControlPlane, controlPlane, smallWorker } from '../support/control-plane.ts'

let plane: ControlPlane
beforeAll(async () => {
  plane = await controlPlane({ waits: { provisionMs: 5000 } })
})
afterAll(() => plane[Symbol.asyncDispose]())

const document = `mutation ($input: OnboardTenantInput!) {
  onboardTenant(input: $input) {
    created token apiKey { id scopes }
    tenant { id status provisioned plan queues { queue maxRunning } limits { maxRunningTotal } users { nodes { email roles } } }
    errors { __typename code message path }
  }
}`
const canary = 'hunter2-canary-0815'
const input = (tenantId: string, more: object = {}): object => ({
  tenantId,
  name: 'Guru',
  companyName: 'Guru Corp',
  adminEmail: 'admin@guru.example',
  plan: 'SCALE',
  ...more,
})
const sftp = {
  host: 'sftp.guru.example',
  username: 'guru',
  password: canary,
  hostKey: `SHA256:${'A'.repeat(43)}`,
  remoteDirectory: '/inbox',
}
const onboard = (
  given: object,
  options: { token?: string; app?: Parameters<typeof plane.query>[1] } = {},
): Promise<Answer> =>
  plane.query(document, { token: options.token ?? plane.platformToken, variables: { input: given }, ...options.app })

test('a tenant is set up with everything and its first key works', async () => {
  await using worker = smallWorker(plane.ports)
  const { data, errors } = await onboard(input('guru_232342'))
  expect(errors).toEqual([])
  const result = data.onboardTenant
  expect(result.errors).toEqual([])
  expect(result).toMatchObject({
    created: true,
    tenant: {
      id: 'guru_232342',
      status: 'ACTIVE',
      provisioned: [...onboardingSteps],
      queues: [
        { queue: 'DELIVERY', maxRunning: 2 },
        { queue: 'EXPORT', maxRunning: 2 },
        { queue: 'INGEST', maxRunning: 2 },
        { queue: 'TRANSFORM', maxRunning: 2 },
      ],
      limits: { maxRunningTotal: 4 },
      users: { nodes: [{ email: 'admin@guru.example', roles: ['TENANT_ADMIN'] }] },
    },
  })
  expect(result.apiKey.scopes).toHaveLength(tenantScopes.length)
  expect(worker.done).toEqual(['guru_232342 lake', 'guru_232342 folders'])
  const viewer = await plane.query('{ viewer { tenantId } auditLog { nodes { action details } } }', {
    token: result.token,
  })
  expect(viewer.data.viewer.tenantId).toBe('guru_232342')
  const steps = viewer.data.auditLog.nodes.filter((row: { action: string }) => row.action === 'tenant.provisioned')
  expect(steps.map((row: { details: { step: string } }) => row.details.step).toReversed()).toEqual([...onboardingSteps])
})

test('a repeat on an active tenant answers it without a new key, and another profile is refused', async () => {
  await using _worker = smallWorker(plane.ports)
  await onboard(input('repeated'))
  const again = (await onboard(input('repeated'))).data.onboardTenant
  expect(again).toMatchObject({ created: false, token: null, apiKey: null, errors: [], tenant: { status: 'ACTIVE' } })
  const other = (await onboard(input('repeated', { companyName: 'Another' }))).data.onboardTenant
  expect(other).toMatchObject({
    created: false,
    tenant: null,
    errors: [{ code: 'ALREADY_EXISTS', path: ['tenantId'] }],
  })
})

describe('killed between any two transactions, a repeat finishes', () => {
  test('at every place', { timeout: 120_000 }, async () => {
    await using _worker = smallWorker(plane.ports)
    let place = 0
    let wasKilled = true
    for (; wasKilled; place++) {
      const id = `killed_${place}`
      wasKilled = false
      // The connection is lost for good after `place` transactions of this request.
      let left = place
      const db = new Proxy(plane.ports.db, {
        get(target, name, receiver) {
          if (name !== 'transaction') return Reflect.get(target, name, receiver)
          return (work: Parameters<Db['transaction']>[0]) => {
            if (left-- > 0) return target.transaction(work)
            wasKilled = true
            return Promise.reject(new Error('connection lost'))
          }
        },
      })
      await onboard(input(id, { sftp }), { app: { app: plane.appWith({}, { db }) } })
      const repeat = (await onboard(input(id, { sftp }))).data.onboardTenant
      expect({ place, errors: repeat.errors }).toEqual({ place, errors: [] })
      expect(repeat.tenant).toMatchObject({ status: 'ACTIVE', provisioned: [...onboardingSteps] })
      expect(repeat.tenant.users.nodes).toHaveLength(1)
      expect(repeat.tenant.queues).toHaveLength(4)
    }
    // Authentication, nine places of onboarding and what its answer reads.
    expect(place).toBeGreaterThan(12)
  })
})

test('without a worker it says so, and finishes when one is there', async () => {
  const app = plane.appWith({ waits: { provisionMs: 50 } })
  const first = (await onboard(input('no_worker'), { app: { app } })).data.onboardTenant
  expect(first).toMatchObject({
    created: false,
    token: null,
    tenant: { status: 'PROVISIONING', provisioned: ['tenant', 'keys', 'queues'] },
    errors: [{ code: 'UNAVAILABLE', message: expect.stringContaining('no worker') }],
  })
  await using _worker = smallWorker(plane.ports)
  const second = (await onboard(input('no_worker'))).data.onboardTenant
  expect(second).toMatchObject({ created: true, errors: [], tenant: { status: 'ACTIVE' } })
  expect(second.token).toMatch(/^key_/)
})

test('a wrong SFTP server is told, and a repeat with the right one goes on', async () => {
  let isRight = false
  await using worker = smallWorker(plane.ports, ({ stepKey }) =>
    stepKey === 'remote' && !isRight
      ? { code: 'CREDENTIAL_REJECTED', message: 'The server refused the log-in.', hint: 'Check it.', retry: 'never' }
      : undefined,
  )
  const first = (await onboard(input('wrong_sftp', { sftp }))).data.onboardTenant
  expect(first.errors).toMatchObject([{ code: 'CREDENTIAL_REJECTED', message: expect.stringContaining('remote') }])
  expect(first.tenant.status).toBe('PROVISIONING')
  isRight = true
  const second = (await onboard(input('wrong_sftp', { sftp: { ...sftp, password: 'right' } }))).data.onboardTenant
  expect(second).toMatchObject({ created: true, errors: [] })
  // What had succeeded was not done again.
  expect(worker.done).toEqual(['wrong_sftp lake', 'wrong_sftp folders', 'wrong_sftp remote', 'wrong_sftp remote'])
  const stored = await plane.query('{ credentials { nodes { name provider version } } }', { token: second.token })
  expect(stored.data.credentials.nodes).toEqual([{ name: 'sftp', provider: 'sftp', version: 2 }])
})

test('two calls at once set up one tenant and give one key', async () => {
  await using _worker = smallWorker(plane.ports)
  const both = await Promise.all([onboard(input('at_once')), onboard(input('at_once'))])
  const results = both.map(({ data }) => data.onboardTenant)
  expect(results.map(({ errors }) => errors)).toEqual([[], []])
  expect(results.filter(({ token }) => token !== null)).toHaveLength(1)
  expect(results[0].tenant.users.nodes).toHaveLength(1)
})

test('only the platform onboards, and no input makes another kind of tenant', async () => {
  const a = await plane.tenant()
  const refused = await onboard(input('by_a_tenant'), { token: a.token })
  expect(refused.errors[0]?.extensions.code).toBe('FORBIDDEN')
  for (const id of ['platform', 'pg_temp', 'Upper', '1st', 'a', 'x'.repeat(49), 'a-b', "a'; drop table app.tenant"]) {
    const answer = (await onboard(input(id))).data.onboardTenant
    expect(answer).toMatchObject({ tenant: null, errors: [{ code: 'BAD_INPUT', path: ['tenantId'] }] })
  }
  const secretive = await onboard(input('secretive', { configuration: { database: { password: canary } } }))
  expect(secretive.data.onboardTenant.errors[0]).toMatchObject({
    code: 'BAD_INPUT',
    path: ['configuration.database.password'],
  })
  expect(secretive.text).not.toContain(canary)
})

test('the platform gives an active tenant another key, and takes one back', async () => {
  const a = await plane.tenant()
  const create = `mutation ($input: CreateApiKeyInput!) { createApiKey(input: $input) { token apiKey { id scopes } errors { code } } }`
  const made = await plane.query(create, {
    token: plane.platformToken,
    variables: { input: { tenantId: a.id, name: 'second', scopes: ['RUNS_READ'] } },
  })
  const { token, apiKey } = made.data.createApiKey
  expect(apiKey.scopes).toEqual(['RUNS_READ'])
  expect((await plane.query('{ viewer { scopes } }', { token })).data.viewer.scopes).toEqual(['RUNS_READ'])
  const tooMuch = await plane.query(create, {
    token: plane.platformToken,
    variables: { input: { tenantId: a.id, name: 'x', scopes: ['PLATFORM_ADMIN'] } },
  })
  expect(tooMuch.data.createApiKey.errors).toEqual([{ code: 'BAD_INPUT' }])
  const revoke = `mutation ($input: RevokeApiKeyInput!) { revokeApiKey(input: $input) { apiKey { revokedAt } errors { code } } }`
  const taken = await plane.query(revoke, {
    token: plane.platformToken,
    variables: { input: { tenantId: a.id, id: apiKey.id } },
  })
  expect(taken.data.revokeApiKey.apiKey.revokedAt).not.toBeNull()
  expect((await plane.query('{ viewer { keyId } }', { token })).status).toBe(401)
})
