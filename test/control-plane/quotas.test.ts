import { sql } from 'drizzle-orm'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { z } from 'zod'
import { limitsOf, plans, queueLimitOf } from '../../schema/config/tenant.ts'
import { tenantLimit } from '../../schema/tables/index.ts'
import { rowsOf, withLedger, withTenant } from '../../shared/db/db.ts'
import { claimOutbox, claimSteps, completeStep, noteStorage } from '../../shared/runs/ledger.ts'
import { queueTypes } from '../../schema/states.ts'
import { type StepInput, stepInput } from '../../workers/step-input.ts'
import { type ControlPlane, controlPlane, type Loose } from '../support/control-plane.ts'

let plane: ControlPlane
beforeAll(async () => {
  plane = await controlPlane()
})
afterAll(() => plane[Symbol.asyncDispose]())

const jobOf = (input: StepInput) => (input && 'job' in input ? input.job : undefined)

type T = { id: string; token: string }
const errors = 'errors { __typename code path ... on QuotaError { quota limit used resetsAt } }'
const mutate = async (
  t: T | { token: string },
  name: string,
  type: string,
  input: object,
  select = '',
): Promise<Loose> => {
  const answer = await plane.query(`mutation ($input: ${type}!) { ${name}(input: $input) { ${select} ${errors} } }`, {
    token: t.token,
    variables: { input },
  })
  expect(answer.errors).toEqual([])
  return answer.data[name]
}
const limit = (t: T, limits: Partial<typeof tenantLimit.$inferInsert>) =>
  withTenant(plane.ports.db, { tenantId: t.id, side: 'api' }, (tx) => tx.update(tenantLimit).set(limits))
const usage = async (t: T): Promise<Record<string, Loose>> => {
  const { data } = await plane.query('{ tenant { usage { quota limit used percent resetsAt } } }', t)
  return Object.fromEntries(data.tenant.usage.map(({ quota, ...rest }: Loose) => [quota, rest]))
}
const nextMonth = (): string => {
  const now = new Date()
  return new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() + 1, 1)).toISOString()
}

const yaml = (
  step = 'ps_type: file.ingest\n    source: { path: a.csv }\n    destination: { table: t, business_key: [a] }',
) => `pipeline_id: p\nsteps:\n  - step_id: s\n    ${step}\n`
const save = (t: T, path: string, text = yaml()) => mutate(t, 'savePipeline', 'SavePipelineInput', { path, yaml: text })
const start = (t: T, input: object = {}) =>
  mutate(t, 'runPipeline', 'RunPipelineInput', { pipeline: 'x/y/z', ...input }, 'run { id } created')
async function load(t: T, rows: number): Promise<void> {
  const [claim] = await claimSteps(plane.ports.db, {
    worker: 'wrk_test',
    queues: queueTypes,
    limit: 1,
    leaseMs: 30_000,
    tenants: [t.id],
  })
  if (!claim) throw new Error('there was nothing to claim')
  expect(await completeStep(plane.ports.db, claim, { rows }, [])).toBe(true)
  // Once: a repeat of the same completion is stale.
  expect(await completeStep(plane.ports.db, claim, { rows }, [])).toBe(false)
}
const actions = async (t: T, action: string): Promise<number> =>
  (await plane.query(`{ auditLog(first: 100) { nodes { action } } }`, t)).data.auditLog.nodes.filter(
    (row: Loose) => row.action === action,
  ).length

test('runs of a month are bounded, and a repeat of a key costs nothing', async () => {
  const t = await plane.tenant()
  await save(t, 'x/y/z')
  await limit(t, { runsPerMonth: 2 })
  const first = await start(t, { idempotencyKey: 'k' })
  expect((await start(t, { idempotencyKey: 'k' })).run).toEqual(first.run)
  expect((await start(t)).errors).toEqual([])
  expect((await start(t)).errors).toEqual([
    {
      __typename: 'QuotaError',
      code: 'QUOTA_EXCEEDED',
      path: null,
      quota: 'runsPerMonth',
      limit: 2,
      used: 2,
      resetsAt: nextMonth(),
    },
  ])
  expect((await usage(t))['RUNS_PER_MONTH']).toEqual({ limit: 2, used: 2, percent: 100, resetsAt: nextMonth() })
  // A refused start is no run of the month.
  expect((await start(t, { idempotencyKey: 'k' })).created).toBe(false)
})

test('a load is let to its end, and the next run is refused, a retry as well', async () => {
  const t = await plane.tenant()
  await save(t, 'x/y/z')
  await limit(t, { rowsPerMonth: 1000 })
  const { run } = await start(t)
  await start(t)
  await load(t, 999)
  expect((await start(t)).errors).toEqual([])
  await load(t, 5000)
  expect((await usage(t))['ROWS_PER_MONTH']).toMatchObject({ used: 5999, percent: 599 })
  const refused = { __typename: 'QuotaError', quota: 'rowsPerMonth', limit: 1000, used: 5999, resetsAt: nextMonth() }
  expect((await start(t)).errors).toMatchObject([refused])
  const retry = await mutate(t, 'retryRun', 'RetryRunInput', { id: run.id, fromStep: 's' })
  expect(retry.errors).toMatchObject([refused])
})

test('a worker that reports nonsense moves no counter below or beyond', async () => {
  const t = await plane.tenant()
  await save(t, 'x/y/z')
  for (const rows of [-5, 0.9, 1e300]) {
    await start(t)
    await load(t, rows)
  }
  expect((await usage(t))['ROWS_PER_MONTH']?.used).toBe(1e15)
})

test('people, keys, credentials and pipelines are bounded, and what is given up makes room', async () => {
  const t = await plane.tenant()
  await limit(t, { maxMembers: 1, maxApiKeys: 2, maxCredentials: 1, maxPipelines: 1 })
  const user = (email: string) =>
    mutate(t, 'createUser', 'CreateUserInput', { email, role: 'DATA_ANALYST' }, 'user { id }')
  const made = await user('a@acme.example')
  expect((await user('b@acme.example')).errors).toMatchObject([{ quota: 'members', limit: 1, used: 1, resetsAt: null }])
  await mutate(t, 'deleteUser', 'UserInput', { id: made.user.id })
  expect((await user('b@acme.example')).errors).toEqual([])

  const key = () =>
    mutate(t, 'createApiKey', 'CreateApiKeyInput', { name: 'k', scopes: ['RUNS_READ'] }, 'apiKey { id }')
  const { apiKey } = await key()
  expect((await key()).errors).toMatchObject([{ quota: 'apiKeys', limit: 2, used: 2 }])
  await mutate(t, 'revokeApiKey', 'RevokeApiKeyInput', { id: apiKey.id })
  expect((await key()).errors).toEqual([])

  const secret = { host: 'h', username: 'u', password: 'a-password' }
  const credential = (name: string) =>
    mutate(t, 'createCredential', 'CreateCredentialInput', { name, provider: 'sftp', secret })
  expect((await credential('a')).errors).toEqual([])
  expect((await credential('a')).errors).toMatchObject([{ code: 'ALREADY_EXISTS' }])
  expect((await credential('b')).errors).toMatchObject([{ quota: 'credentials' }])
  await mutate(t, 'deleteCredential', 'DeleteCredentialInput', { name: 'a' })
  expect((await credential('b')).errors).toEqual([])

  expect((await save(t, 'x/y/a')).errors).toEqual([])
  expect((await save(t, 'x/y/a', yaml('ps_type: file.delete\n    paths: [a]'))).errors).toEqual([])
  expect((await save(t, 'x/y/b')).errors).toMatchObject([{ quota: 'pipelines', limit: 1, used: 1 }])
})

test('ten at once get no more than there is room for', async () => {
  const t = await plane.tenant()
  await save(t, 'x/y/z')
  await limit(t, { runsPerMonth: 3, maxMembers: 3 })
  const runs = await Promise.all(Array.from({ length: 10 }, () => start(t)))
  expect(runs.filter((one) => one.errors.length === 0)).toHaveLength(3)
  const people = await Promise.all(
    Array.from({ length: 10 }, (_, n) => mutate(t, 'createUser', 'CreateUserInput', { email: `u${n}@acme.example` })),
  )
  expect(people.filter((one) => one.errors.length === 0)).toHaveLength(3)
})

test('the counters are what a recount finds', async () => {
  const recount = await rowsOf<{ quota: string; tenant_id: string; used: number; counted: number }>(
    plane.ports.db,
    sql`select u.quota, u.tenant_id, u.used::int, coalesce(c.n, 0)::int as counted from app.tenant_usage u left join (
        select 'members' quota, tenant_id, count(*) n from app.tenant_user where status <> 'deleted' group by 2
        union all select 'apiKeys', tenant_id, count(*) from app.api_key where revoked_at is null group by 2
        union all select 'credentials', tenant_id, count(*) from app.credential group by 2
        union all select 'pipelines', tenant_id, count(*) from app.pipeline where origin = 'tenant' group by 2
        union all select 'runsPerMonth', tenant_id, count(*) from app.pipeline_run group by 2) c using (quota, tenant_id)
      where u.quota in ('members', 'apiKeys', 'credentials', 'pipelines', 'runsPerMonth')`,
  )
  expect(recount.length).toBeGreaterThan(10)
  expect(recount.filter(({ used, counted }) => used !== counted)).toEqual([])
})

test('at 80 and at 100 percent the tenant is told, once a month each', async () => {
  const t = await plane.tenant()
  await save(t, 'x/y/z')
  await limit(t, { rowsPerMonth: 1000 })
  for (const rows of [500, 350, 10, 140, 3]) {
    await limit(t, { rowsPerMonth: 10_000 })
    await start(t)
    await limit(t, { rowsPerMonth: 1000 })
    await load(t, rows)
  }
  expect([await actions(t, 'quota.warned'), await actions(t, 'quota.reached')]).toEqual([1, 1])
  const mails = (await claimOutbox(plane.ports.db, 100, 1)).filter((mail) => mail.tenantId === t.id)
  // Due messages are handed out in no order.
  const told = mails.map(({ payload }) => z.object({ to: z.array(z.string()), subject: z.string() }).parse(payload))
  expect(told.toSorted((x, y) => (x.subject < y.subject ? 1 : -1))).toEqual([
    { to: [`admin@${t.id}.example`], subject: '80 % of the quota rowsPerMonth are used' },
    { to: [`admin@${t.id}.example`], subject: '100 % of the quota rowsPerMonth are used' },
  ])
})

test('a step that would write is refused when the storage is used up, and one that frees it is not', async () => {
  const t = await plane.tenant()
  await save(
    t,
    'x/y/z',
    `${yaml()}  - step_id: free\n    ps_type: file.delete\n    paths: [a.csv]\n    depends_on: [s]\n    trigger: always\n`,
  )
  await noteStorage(plane.ports.db, t.id, plans.SCALE.diskBytes + 1)
  expect((await usage(t))['STORAGE_BYTES']).toMatchObject({
    limit: plans.SCALE.diskBytes,
    percent: 100,
    resetsAt: null,
  })
  await start(t)
  const claim = async () => {
    const [one] = await claimSteps(plane.ports.db, {
      worker: 'w',
      queues: queueTypes,
      limit: 1,
      leaseMs: 1000,
      tenants: [t.id],
    })
    if (!one) throw new Error('there was nothing to claim')
    return one
  }
  const writes = await claim()
  await expect(stepInput(plane.ports, writes)).rejects.toMatchObject({ code: 'QUOTA_EXCEEDED', retry: 'never' })
  await completeStep(plane.ports.db, writes, {}, [])
  expect(jobOf(await stepInput(plane.ports, await claim()))?.psType).toBe('file.delete')
  await noteStorage(plane.ports.db, t.id, 10)
  expect((await usage(t))['STORAGE_BYTES']?.used).toBe(10)
})

test('a change of the plan moves limits and queues, and what was set beside it stays', async () => {
  const t = await plane.tenant()
  const platform = { token: plane.platformToken }
  const select = 'tenant { plan version limits { runsPerMonth maxMembers beyondPlan } queues { maxRunning } }'
  const set = await mutate(
    platform,
    'setTenantLimits',
    'SetTenantLimitsInput',
    { tenantId: t.id, limits: { maxMembers: 7, maxRunningPerQueue: 5 } },
    select,
  )
  expect(set.tenant).toMatchObject({
    version: 2,
    limits: { maxMembers: 7, beyondPlan: { maxMembers: 7, maxRunningPerQueue: 5 } },
  })
  const changed = await mutate(
    platform,
    'changePlan',
    'ChangePlanInput',
    { tenantId: t.id, plan: 'ENTERPRISE' },
    select,
  )
  expect(changed.tenant).toMatchObject({
    plan: 'ENTERPRISE',
    limits: { runsPerMonth: plans.ENTERPRISE.runsPerMonth, maxMembers: 7 },
    queues: queueTypes.map(() => ({ maxRunning: 5 })),
  })
  const back = await mutate(
    platform,
    'setTenantLimits',
    'SetTenantLimitsInput',
    { tenantId: t.id, limits: { maxMembers: null, maxRunningPerQueue: null } },
    select,
  )
  expect(back.tenant).toMatchObject({
    limits: { maxMembers: plans.ENTERPRISE.maxMembers, beyondPlan: {} },
    queues: queueTypes.map(() => ({ maxRunning: queueLimitOf('ENTERPRISE') })),
  })
  for (const limits of [{ maxMembers: 0 }, { threads: 1e6 }, { maxMembers: 2 ** 40 }])
    expect(
      (await mutate(platform, 'setTenantLimits', 'SetTenantLimitsInput', { tenantId: t.id, limits })).errors,
    ).toMatchObject([{ code: 'BAD_INPUT' }])
  expect([await actions(t, 'tenant.plan_changed'), await actions(t, 'tenant.limits_set')]).toEqual([1, 2])
  const { overrides, ...limits } = limitsOf('ENTERPRISE')
  const [row] = await withTenant(plane.ports.db, { tenantId: t.id, side: 'api' }, (tx) => tx.select().from(tenantLimit))
  expect({ row, overrides }).toMatchObject({ row: limits, overrides: {} })
})

test('what a smaller plan does not hold is kept, and nothing is added', async () => {
  const t = await plane.tenant()
  for (let n = 0; n < 11; n++) await mutate(t, 'createUser', 'CreateUserInput', { email: `u${n}@acme.example` })
  await mutate({ token: plane.platformToken }, 'changePlan', 'ChangePlanInput', { tenantId: t.id, plan: 'STARTER' })
  expect((await usage(t))['MEMBERS']).toMatchObject({ limit: 10, used: 11, percent: 110 })
  expect((await mutate(t, 'createUser', 'CreateUserInput', { email: 'more@acme.example' })).errors).toMatchObject([
    { quota: 'members', limit: 10, used: 11 },
  ])
})

test('a tenant neither reads nor moves what another uses', async () => {
  const [a, b] = [await plane.tenant(), await plane.tenant()]
  await save(b, 'x/y/z')
  const other = await plane.query(`{ tenant(id: "${b.id}") { usage { used } } }`, a)
  expect(other.errors[0]?.extensions.code).toBe('NOT_FOUND')
  for (const side of ['api', 'worker'] as const) {
    const seen = await withTenant(plane.ports.db, { tenantId: a.id, side }, (tx) => tx.query.tenantUsage.findMany())
    expect(new Set(seen.map(({ tenantId }) => tenantId))).toEqual(new Set([a.id]))
    await expect(
      withTenant(plane.ports.db, { tenantId: a.id, side }, (tx) =>
        tx.execute(sql`update app.tenant_usage set used = 0`),
      ),
    ).rejects.toThrow(/Failed query/)
  }
  await expect(
    withLedger(plane.ports.db, 'api', (tx) => tx.execute(sql`select app.use_quota(${a.id}, 'members', -1, false)`)),
  ).rejects.toThrow(/Failed query/)
})
