import { eq } from 'drizzle-orm'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { App } from '../../control-plane/app.ts'
import { offboardingSteps } from '../../control-plane/offboarding/offboard-tenant.ts'
import { credential } from '../../schema/tables/index.ts'
import { type Db, withTenant } from '../../shared/db/db.ts'
import { type ControlPlane, controlPlane, smallWorker, until } from '../support/control-plane.ts'

let plane: ControlPlane
beforeAll(async () => {
  plane = await controlPlane({ waits: { provisionMs: 5000 } })
})
afterAll(() => plane[Symbol.asyncDispose]())

type Verb = 'suspendTenant' | 'resumeTenant' | 'offboardTenant'
const life = async (verb: Verb, tenantId: string, options: { token?: string; app?: App } = {}) =>
  (
    await plane.query(
      `mutation ($input: ${verb === 'offboardTenant' ? 'OffboardTenantInput' : 'TenantLifeInput'}!) { result: ${verb}(input: $input) { tenant { status dismantled } errors { code path message } } }`,
      { token: plane.platformToken, variables: { input: { tenantId } }, ...options },
    )
  ).data?.result

const yaml = 'pipeline_id: p\nsteps:\n  - step_id: only\n    ps_type: file.delete\n    paths: ["a"]\n'
const start = (token: string) =>
  plane.query(
    `mutation ($save: SavePipelineInput!) { savePipeline(input: $save) { created } runPipeline(input: { pipeline: "x/y/a" }) { run { id state } errors { code } } }`,
    { token, variables: { save: { path: 'x/y/a', yaml } } },
  )
const runStates = (tenantId: string) =>
  withTenant(plane.ports.db, { tenantId, side: 'api' }, (tx) => tx.query.pipelineRun.findMany()).then((rows) =>
    rows.map(({ state }) => state),
  )
async function withCredential(): Promise<{ id: string; token: string }> {
  const t = await plane.tenant()
  await plane.query(
    `mutation { createCredential(input: { name: "c", provider: "sftp", secret: { host: "h", username: "u", password: "p" } }) { errors { code } } }`,
    t,
  )
  return t
}
const openCredential = (tenantId: string) =>
  withTenant(plane.ports.db, { tenantId, side: 'api' }, async (tx) => {
    const [row] = await tx.select().from(credential).where(eq(credential.tenantId, tenantId))
    return plane.ports.secrets.open(tx, { tenantId, credentialId: row?.id ?? '', version: 1 }, row?.sealed)
  })

describe('a suspended tenant', () => {
  test('is read and not changed, by any of its mutations, until it is resumed', async () => {
    const t = await withCredential()
    expect(await life('suspendTenant', t.id)).toMatchObject({ tenant: { status: 'SUSPENDED' }, errors: [] })
    expect((await life('suspendTenant', t.id)).errors).toEqual([])
    const read = await plane.query('{ credentials { nodes { name } } runs { nodes { id } } tenant { status } }', t)
    expect(read.errors).toEqual([])
    expect(read.data).toMatchObject({ credentials: { nodes: [{ name: 'c' }] }, tenant: { status: 'SUSPENDED' } })
    for (const mutation of [
      'runPipeline(input: { pipeline: "x/y/a" }) { created }',
      'deleteCredential(input: { name: "c" }) { id }',
      'retryRun(input: { id: "run_1" }) { errors { code } }',
    ])
      expect((await plane.query(`mutation { ${mutation} }`, t)).errors[0]?.extensions.code).toBe('TENANT_NOT_ACTIVE')
    expect(await life('resumeTenant', t.id)).toMatchObject({ tenant: { status: 'ACTIVE' }, errors: [] })
    expect((await start(t.token)).data.runPipeline.errors).toEqual([])
  })

  test('lets what runs come to its end', async () => {
    const t = await plane.tenant()
    await start(t.token)
    await life('suspendTenant', t.id)
    await using _worker = smallWorker(plane.ports)
    await until('the run has ended', async () => !['queued', 'running'].includes((await runStates(t.id))[0] ?? ''))
    expect(await runStates(t.id)).toEqual(['succeeded'])
  })

  test('says in its audit log who halted and resumed it', async () => {
    const t = await plane.tenant()
    await life('suspendTenant', t.id)
    await life('resumeTenant', t.id)
    const { data } = await plane.query('{ auditLog { nodes { action actor } } }', t)
    expect(data.auditLog.nodes.map((row: { action: string }) => row.action)).toEqual([
      'tenant.resumed',
      'tenant.suspended',
    ])
  })
})

test('offboarding ends runs, keys and credentials for good', async () => {
  const t = await withCredential()
  const worker = smallWorker(plane.ports)
  await using _stop = worker
  expect(await openCredential(t.id)).toMatchObject({ password: 'p' })
  expect(await life('offboardTenant', t.id)).toEqual({
    tenant: { status: 'OFFBOARDED', dismantled: [...offboardingSteps] },
    errors: [],
  })
  expect((await plane.query('{ viewer { keyId } }', t)).status).toBe(401)
  await expect(openCredential(t.id)).rejects.toMatchObject({ code: 'SECRET_UNREADABLE' })
  expect(worker.done).toContain(`${t.id} data`)
  expect((await life('offboardTenant', t.id)).errors).toEqual([])
  for (const verb of ['suspendTenant', 'resumeTenant'] as const)
    expect((await life(verb, t.id)).errors).toMatchObject([{ code: 'CONFLICT' }])
})

test('of people, addresses and mail nothing is left; name, runs and log stay', async () => {
  await using _worker = smallWorker(plane.ports)
  const t = await plane.tenant()
  await plane.query(
    `mutation ($user: CreateUserInput!, $settings: UpdateTenantSettingsInput!, $environment: SaveEnvironmentInput!) {
      updateTenantSettings(input: $settings) { errors { code } } createUser(input: $user) { errors { code } }
      saveEnvironment(input: $environment) { errors { code } } }`,
    {
      token: t.token,
      variables: {
        user: { email: 'jo.doe@acme.example', firstName: 'Jo', lastName: 'Doe' },
        environment: { name: 'dev', variables: { contact: 'jo.doe@acme.example' } },
        settings: {
          expectedVersion: 1,
          configuration: {
            userManagement: { welcomeMail: true },
            monitoring: { alertEmails: ['jo.doe@acme.example'] },
          },
        },
      },
    },
  )
  await life('offboardTenant', t.id)
  const left = await withTenant(plane.ports.db, { tenantId: t.id, side: 'api' }, async (tx) => ({
    mail: await tx.query.outbox.findMany(),
    environments: await tx.query.tenantEnvironment.findMany(),
    people: await tx.query.tenantUser.findMany(),
    roles: await tx.query.userRole.findMany(),
    tenant: await tx.query.tenant.findMany(),
  }))
  expect(left).toMatchObject({
    mail: [],
    environments: [],
    people: [{ status: 'deleted', email: '', firstName: '' }],
    roles: [],
    tenant: [{ id: t.id, companyName: `${t.id} Corp`, adminEmail: '', status: 'offboarded' }],
  })
  expect(JSON.stringify(left)).not.toContain('jo.doe')
})

test('who watches a run goes on while its tenant is suspended, and is cut off when it leaves', async () => {
  const t = await plane.tenant()
  const { data } = await start(t.token)
  const runId = data.runPipeline.run.id
  const types: string[] = []
  let refusal: string | undefined
  const watching = (async () => {
    for await (const frame of plane.subscribe(`subscription { runEvents(runId: "${runId}") { type } }`, t)) {
      if (frame.data?.errors) refusal = frame.data.errors[0].extensions.code
      else if (frame.data) types.push(frame.data.data.runEvents.type)
    }
  })()
  await until('the stream is open', () => types.includes('step.ready') || types.includes('run.queued'))
  await life('suspendTenant', t.id)
  const seen = types.length
  const started = performance.now()
  {
    // What runs goes on to its end; here it only begins, and the watcher hears of it.
    const hold = Promise.withResolvers<undefined>()
    const worker = smallWorker(plane.ports, () => hold.promise)
    await until('the watcher hears of the suspended tenant', () => types.length > seen)
    const leaving = life('offboardTenant', t.id, { app: plane.appWith({ waits: { provisionMs: 10 } }) })
    await leaving
    await watching
    // By itself the stream would go on for five minutes.
    expect(performance.now() - started).toBeLessThan(30_000)
    hold.resolve(undefined)
    await worker[Symbol.asyncDispose]()
  }
  expect(refusal).toBe('UNAUTHENTICATED')
})

test('an id is never used again', async () => {
  await using _worker = smallWorker(plane.ports)
  const input = {
    tenantId: 'used_once',
    name: 'A',
    companyName: 'A',
    adminEmail: 'a@a.example',
    plan: 'STARTER',
  }
  const onboard = async () =>
    (
      await plane.query(
        'mutation ($input: OnboardTenantInput!) { onboardTenant(input: $input) { created tenant { status } errors { code path } } }',
        { token: plane.platformToken, variables: { input } },
      )
    ).data.onboardTenant
  expect((await onboard()).created).toBe(true)
  await life('offboardTenant', 'used_once')
  expect(await onboard()).toEqual({
    created: false,
    tenant: null,
    errors: [{ code: 'ALREADY_EXISTS', path: ['tenantId'] }],
  })
})

test('without a worker it says so, cannot be resumed, and finishes when one is there', async () => {
  const t = await withCredential()
  await start(t.token)
  const app = plane.appWith({ waits: { provisionMs: 50 } })
  const first = await life('offboardTenant', t.id, { app })
  expect(first).toMatchObject({
    tenant: { status: 'SUSPENDED', dismantled: ['keys', 'runs'] },
    errors: [{ code: 'UNAVAILABLE' }],
  })
  expect(await runStates(t.id)).toEqual(expect.arrayContaining(['cancelled', 'queued']))
  expect((await life('resumeTenant', t.id)).errors).toMatchObject([{ code: 'CONFLICT' }])
  await using _worker = smallWorker(plane.ports)
  expect(await life('offboardTenant', t.id)).toMatchObject({ tenant: { status: 'OFFBOARDED' }, errors: [] })
})

test('data that could not be removed is told, and a repeat goes on', async () => {
  const t = await plane.tenant()
  let isFull = true
  await using _worker = smallWorker(plane.ports, () =>
    isFull ? { code: 'CONFLICT', message: 'In use.', hint: 'Wait.', retry: 'never' } : undefined,
  )
  const first = await life('offboardTenant', t.id)
  expect(first).toMatchObject({ tenant: { status: 'SUSPENDED' }, errors: [{ code: 'CONFLICT' }] })
  isFull = false
  expect(await life('offboardTenant', t.id)).toMatchObject({ tenant: { status: 'OFFBOARDED' }, errors: [] })
})

test('killed between any two transactions, a repeat finishes', { timeout: 60_000 }, async () => {
  await using _worker = smallWorker(plane.ports)
  let wasKilled = true
  let place = 0
  for (; wasKilled; place++) {
    const t = await withCredential()
    await start(t.token)
    wasKilled = false
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
    await life('offboardTenant', t.id, { app: plane.appWith({}, { db }) })
    const repeat = await life('offboardTenant', t.id)
    expect({ place, ...repeat }).toEqual({
      place,
      tenant: { status: 'OFFBOARDED', dismantled: [...offboardingSteps] },
      errors: [],
    })
  }
  expect(place).toBeGreaterThan(8)
})

test('only the platform decides over the life of a tenant, and never over its own', async () => {
  const t = await plane.tenant()
  for (const verb of ['suspendTenant', 'resumeTenant', 'offboardTenant'] as const) {
    const document = `mutation { ${verb}(input: { tenantId: "${t.id}" }) { tenant { id } } }`
    expect((await plane.query(document, t)).errors[0]?.extensions.code).toBe('FORBIDDEN')
    expect((await life(verb, 'platform')).errors).toMatchObject([{ code: 'BAD_INPUT', path: ['tenantId'] }])
    expect((await life(verb, 'no_such_tenant')).errors).toMatchObject([{ code: 'NOT_FOUND', path: ['tenantId'] }])
  }
})

test('a test of a credential says when there is none, and when no worker answers', async () => {
  const t = await withCredential()
  const check = async (name: string, app?: App) =>
    (
      await plane.query(`mutation { testCredential(input: { name: "${name}" }) { ok errors { code } } }`, {
        token: t.token,
        ...(app ? { app } : {}),
      })
    ).data.testCredential
  expect(await check('none')).toEqual({ ok: null, errors: [{ code: 'NOT_FOUND' }] })
  const app = plane.appWith({ waits: { provisionMs: 50 } })
  expect(await check('c', app)).toEqual({ ok: null, errors: [{ code: 'UNAVAILABLE' }] })
})
