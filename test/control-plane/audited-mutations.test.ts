import { sql } from 'drizzle-orm'
import { getNamedType, isInputObjectType } from 'graphql'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { publicFields } from '../../control-plane/auth/public-document.ts'
import { schema } from '../../control-plane/graphql/schema.ts'
import { linkSeed, linkToken } from '../../shared/auth/account-link.ts'
import { verifyAudit } from '../../shared/audit-verify.ts'
import { AppError, errorData } from '../../shared/errors.ts'
import { rowsOf } from '../../shared/db/db.ts'
import { type Answer, type ControlPlane, controlPlane, type Loose, smallWorker } from '../support/control-plane.ts'

let plane: ControlPlane
let a: { id: string; token: string }
beforeAll(async () => {
  plane = await controlPlane()
  a = await plane.tenant()
})
afterAll(() => plane[Symbol.asyncDispose]())

/** What earlier mutations made, for later ones. */
const made: Record<string, string> = {}
const secret = { host: 'sftp.example', username: 'x', password: 'x', hostKey: `SHA256:${'A'.repeat(43)}` }
const yaml = 'pipeline_id: p\nsteps:\n  - step_id: only\n    ps_type: file.delete\n    paths: ["a"]\n'

type Case = {
  name: string
  input: () => object | Promise<object>
  platform?: true
  /** Who asks, instead of a key; undefined for a stranger. */
  bearer?: () => string | undefined
  /** Waits for a worker; the runs of the other cases must not end before their turn. */
  worker?: 'succeeds' | 'fails'
  select?: string
  keep?: (payload: Loose) => unknown
}
const stranger = (): undefined => undefined
const outcomes = { succeeds: undefined, fails: errorData(new AppError('CONNECTION_FAILED', 'No.', { retry: 'never' })) }
/** Every mutation that changes something, in an order in which each can succeed. */
const cases: Case[] = [
  {
    name: 'onboardTenant',
    platform: true,
    worker: 'succeeds',
    input: () => ({ tenantId: 'guru_1', name: 'G', companyName: 'G', adminEmail: 'a@guru.example', plan: 'SCALE' }),
  },
  {
    name: 'createUser',
    input: () => ({ email: 'jo@acme.example', username: 'jo', role: 'POWER_USER' }),
    select: 'user { id }',
    keep: ({ user }) => (made['user'] = user.id),
  },
  { name: 'updateUser', input: () => ({ id: made['user'], firstName: 'Jo' }) },
  { name: 'changeUserRole', input: () => ({ id: made['user'], role: 'DATA_ANALYST' }) },
  {
    name: 'inviteUser',
    input: () => ({ id: made['user'] }),
    select: 'link',
    keep: ({ link }) => (made['link'] = link),
  },
  {
    name: 'activateAccount',
    bearer: stranger,
    input: () => ({ token: made['link'], password: 'correct horse battery' }),
  },
  {
    name: 'login',
    bearer: stranger,
    input: () => ({ tenantId: a.id, email: 'jo@acme.example', password: 'correct horse battery' }),
    select: 'tokens { refreshToken }',
    keep: ({ tokens }) => (made['refresh'] = tokens.refreshToken),
  },
  {
    name: 'refreshSession',
    bearer: stranger,
    input: () => ({ refreshToken: made['refresh'] }),
    select: 'tokens { accessToken }',
    keep: ({ tokens }) => (made['access'] = tokens.accessToken),
  },
  {
    name: 'changePassword',
    bearer: () => made['access'],
    input: () => ({ currentPassword: 'correct horse battery', newPassword: 'correct horse staple' }),
  },
  { name: 'logout', bearer: () => made['access'], input: () => ({ everywhere: true }) },
  {
    name: 'requestPasswordReset',
    bearer: stranger,
    input: () => ({ tenantId: a.id, email: 'jo@acme.example' }),
    keep: async () => {
      const [mail] = await rowsOf<{ link: unknown }>(
        plane.ports.db,
        sql`select payload -> 'link' as link from app.outbox where dedupe_key like 'user.reset %'`,
      )
      made['reset'] = (await linkToken(plane.ports.signing, linkSeed.parse(mail?.link))) ?? ''
    },
  },
  {
    name: 'resetPassword',
    bearer: stranger,
    input: () => ({ token: made['reset'], password: 'correct horse battery' }),
  },
  {
    name: 'configureIdentityProvider',
    input: () => ({ issuer: 'https://id.acme.example', audience: 'tributary' }),
  },
  { name: 'removeIdentityProvider', input: () => ({ issuer: 'https://id.acme.example' }) },
  { name: 'deactivateUser', input: () => ({ id: made['user'] }) },
  { name: 'activateUser', input: () => ({ id: made['user'] }) },
  { name: 'deleteUser', input: () => ({ id: made['user'] }) },
  {
    name: 'createApiKey',
    input: () => ({ name: 'k', scopes: ['RUNS_READ'] }),
    select: 'apiKey { id }',
    keep: ({ apiKey }) => (made['key'] = apiKey.id),
  },
  {
    name: 'rotateApiKey',
    input: () => ({ id: made['key'] }),
    select: 'apiKey { id }',
    keep: ({ apiKey }) => (made['key'] = apiKey.id),
  },
  { name: 'revokeApiKey', input: () => ({ id: made['key'] }) },
  { name: 'createCredential', input: () => ({ name: 'c', provider: 'sftp', secret }) },
  { name: 'testCredential', worker: 'fails', input: () => ({ name: 'c' }) },
  {
    name: 'discardDeadLetter',
    async input() {
      const { data } = await plane.query('{ deadLetters { nodes { runId step { key } } } }', { token: a.token })
      const [letter] = data.deadLetters.nodes
      return { runId: letter.runId, stepKey: letter.step.key }
    },
  },
  { name: 'updateCredential', input: () => ({ name: 'c', secret }) },
  { name: 'rotateTenantKey', platform: true, input: () => ({ tenantId: a.id }) },
  { name: 'deleteCredential', input: () => ({ name: 'c' }) },
  { name: 'updateTenantSettings', input: () => ({ expectedVersion: 1, companyName: 'Other' }) },
  { name: 'setTenantFeature', input: () => ({ feature: 'EMAIL', isOn: false }) },
  { name: 'saveEnvironment', input: () => ({ name: 'dev' }) },
  { name: 'deleteEnvironment', input: () => ({ name: 'dev' }) },
  { name: 'changePlan', platform: true, input: () => ({ tenantId: a.id, plan: 'ENTERPRISE' }) },
  { name: 'setTenantLimits', platform: true, input: () => ({ tenantId: a.id, limits: { maxMembers: 50 } }) },
  { name: 'savePipeline', input: () => ({ path: 'x/y/z', yaml }) },
  {
    name: 'runPipeline',
    input: () => ({ pipeline: 'x/y/z' }),
    select: 'run { id }',
    keep: ({ run }) => (made['run'] = run.id),
  },
  {
    name: 'upsertSchedule',
    input: () => ({ pipeline: 'x/y/z', cron: '0 2 * * *' }),
    select: 'schedule { id }',
    keep: ({ schedule }) => (made['schedule'] = schedule.id),
  },
  { name: 'pauseSchedule', input: () => ({ id: made['schedule'] }) },
  { name: 'resumeSchedule', input: () => ({ id: made['schedule'] }) },
  { name: 'triggerSchedule', input: () => ({ id: made['schedule'] }) },
  {
    name: 'startBackfill',
    input: () => ({ pipeline: 'x/y/z', from: '2026-01-01', to: '2026-01-02' }),
    select: 'backfill { id }',
    keep: ({ backfill }) => (made['backfill'] = backfill.id),
  },
  { name: 'pauseBackfill', input: () => ({ id: made['backfill'] }) },
  { name: 'resumeBackfill', input: () => ({ id: made['backfill'] }) },
  { name: 'cancelBackfill', input: () => ({ id: made['backfill'] }) },
  {
    name: 'createWebhook',
    input: () => ({ name: 'w', pipeline: 'x/y/z' }),
    select: 'webhook { id }',
    keep: ({ webhook }) => (made['webhook'] = webhook.id),
  },
  { name: 'rotateWebhook', input: () => ({ id: made['webhook'] }) },
  { name: 'deleteWebhook', input: () => ({ id: made['webhook'] }) },
  { name: 'deleteSchedule', input: () => ({ id: made['schedule'] }) },
  { name: 'cancelRun', input: () => ({ id: made['run'] }) },
  { name: 'retryRun', input: () => ({ id: made['run'] }) },
  { name: 'controlWorkers', input: () => ({ action: 'STOP', queues: ['EXPORT'] }) },
  { name: 'setQueueLimits', platform: true, input: () => ({ tenantId: a.id, queue: 'EXPORT', maxRunning: 7 }) },
  { name: 'suspendTenant', platform: true, input: () => ({ tenantId: 'guru_1' }) },
  { name: 'setAuditRetention', platform: true, input: () => ({ tenantId: 'guru_1', legalHold: true }) },
  { name: 'resumeTenant', platform: true, input: () => ({ tenantId: 'guru_1' }) },
  { name: 'offboardTenant', platform: true, worker: 'succeeds', input: () => ({ tenantId: 'guru_1' }) },
]
/** Changes nothing. */
const readOnly = ['validatePipeline']

const mutations = schema.getMutationType()?.getFields() ?? {}

const entriesOf = async ({ headers }: Answer): Promise<number> => {
  const rows = await rowsOf(
    plane.ports.db,
    sql`select 1 from app.audit_event where request_id = ${headers.get('x-request-id')}`,
  )
  return rows.length
}
/** What is about the session of the request itself: a new one each time is the point of it. */
const unkeyed = [...publicFields, 'changePassword', 'logout', ...readOnly]

describe('leaves an audit row that names its request, and with its key again does nothing:', () => {
  test.for(cases)('$name', async ({ name, input, platform, bearer, worker, select = '', keep }) => {
    await using _worker = worker ? smallWorker(plane.ports, () => outcomes[worker]) : undefined
    const type = String(mutations[name]?.args[0]?.type)
    const key = unkeyed.includes(name) ? {} : { idempotencyKey: `once-${name}` }
    const options = {
      token: bearer ? bearer() : platform ? plane.platformToken : a.token,
      variables: { input: { ...(await input()), ...key } },
    }
    const document = `mutation ($input: ${type}) { ${name}(input: $input) { errors { code message } ${select} } }`
    const first = await plane.query(document, options)
    const { data, errors } = first
    const codes = data?.[name]?.errors.map((error: Loose) => error.code)
    expect([name, errors, codes]).toEqual([name, [], []])
    await keep?.(data[name])
    expect(await entriesOf(first)).toBeGreaterThan(0)
    const again = unkeyed.includes(name) ? undefined : await plane.query(document, options)
    expect(again?.data ?? data).toEqual(data)
    expect(again === undefined || JSON.parse(again.text).extensions.idempotentReplay).toBe(true)
    expect(again === undefined ? 0 : await entriesOf(again)).toBe(0)
  })
})

describe('takes an idempotency key, unless it is about the session of the request:', () => {
  test.for(Object.values(mutations))('$name', (field) => {
    const type = getNamedType(field.args[0]?.type)
    const isKeyed = isInputObjectType(type) && Object.hasOwn(type.getFields(), 'idempotencyKey')
    expect(isKeyed).toBe(!unkeyed.includes(field.name))
  })
})

describe('has its case here:', () => {
  const known = [...cases.map(({ name }) => name), ...readOnly]
  test.for(Object.keys(mutations))('%s', (name) => expect(known).toContain(name))
})

test('the logs of all that are good', async () => {
  for (const tenantId of [a.id, 'guru_1', 'platform'])
    expect(await verifyAudit(plane.ports.db, { tenantId, side: 'api' })).toMatchObject({ broken: undefined })
})
