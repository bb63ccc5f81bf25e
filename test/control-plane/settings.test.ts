import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { queueTypes } from '../../schema/states.ts'
import { claimSteps } from '../../shared/runs/ledger.ts'
import { type StepInput, stepInput } from '../../workers/step-input.ts'
import { type ControlPlane, controlPlane, type Loose } from '../support/control-plane.ts'

let plane: ControlPlane
beforeAll(async () => {
  plane = await controlPlane()
})
afterAll(() => plane[Symbol.asyncDispose]())

const jobOf = (input: StepInput) => (input && 'job' in input ? input.job : undefined)

type T = { id: string; token: string }
const mutate = async (t: { token: string }, name: string, type: string, input: object, select = ''): Promise<Loose> => {
  const answer = await plane.query(
    `mutation ($input: ${type}!) { ${name}(input: $input) { ${select}
      errors { __typename code path message ... on VersionConflict { expectedVersion currentVersion } } } }`,
    { token: t.token, variables: { input } },
  )
  expect(answer.errors).toEqual([])
  return answer.data[name]
}
const update = (t: T, input: object) =>
  mutate(
    t,
    'updateTenantSettings',
    'UpdateTenantSettingsInput',
    input,
    'tenant { name companyName version configuration }',
  )
const log = async (t: T): Promise<Loose[]> =>
  (await plane.query('{ auditLog(first: 50) { nodes { action target details } } }', t)).data.auditLog.nodes
const claimOf = async (t: T) => {
  const [claim] = await claimSteps(plane.ports.db, {
    worker: 'w',
    queues: queueTypes,
    limit: 1,
    leaseMs: 1000,
    tenants: [t.id],
  })
  if (!claim) throw new Error('there was nothing to claim')
  return claim
}

describe('settings', () => {
  test('take what is given, keep the rest, and go back to the default by null', async () => {
    const t = await plane.tenant()
    const first = await update(t, {
      expectedVersion: 1,
      companyName: 'Acme Corporation',
      configuration: { monitoring: { alertEmails: ['ops@acme.example'] }, fileProcessing: { compress: false } },
    })
    expect(first).toMatchObject({
      errors: [],
      tenant: {
        name: t.id,
        companyName: 'Acme Corporation',
        version: 2,
        configuration: {
          monitoring: { alertEmails: ['ops@acme.example'], logLevel: 'info' },
          fileProcessing: { compress: false, format: 'csv' },
        },
      },
    })
    const second = await update(t, {
      expectedVersion: 2,
      configuration: { fileProcessing: { compress: null }, monitoring: null },
    })
    expect(second.tenant.configuration).toMatchObject({
      fileProcessing: { compress: true },
      monitoring: { alertEmails: [] },
    })
    expect((await update(t, { expectedVersion: 3, companyName: 'Acme Corporation' })).tenant.version).toBe(3)
    const rows = (await log(t)).filter(({ action }) => action === 'tenant.settings_changed')
    expect(rows.map(({ details }) => details.fields)).toEqual([
      ['fileProcessing.compress', 'monitoring.alertEmails'],
      ['companyName', 'fileProcessing.compress', 'monitoring.alertEmails'],
    ])
    // Addresses stay out of the log.
    expect(JSON.stringify(rows)).not.toContain('ops@acme.example')
  })

  test('of two changes at once the later one is told which version there is', async () => {
    const t = await plane.tenant()
    const both = await Promise.all([
      update(t, { expectedVersion: 1, name: 'A' }),
      update(t, { expectedVersion: 1, name: 'B' }),
    ])
    const refused = both.filter((one) => one.errors.length > 0)
    expect(refused).toMatchObject([
      {
        tenant: null,
        errors: [{ __typename: 'VersionConflict', code: 'CONFLICT', expectedVersion: 1, currentVersion: 2 }],
      },
    ])
  })

  test('name every fault by its path, and change nothing then', async () => {
    const t = await plane.tenant()
    const { errors } = await update(t, {
      expectedVersion: 1,
      name: '',
      adminEmail: 'nobody',
      configuration: {
        sftp: { password: 'in the wrong place' },
        fileProcessing: { format: 'zip' },
        other: {},
        monitoring: 3,
      },
    })
    expect(errors.map((error: Loose) => error.path[0]).sort()).toEqual([
      'adminEmail',
      'configuration.fileProcessing.format',
      'configuration.monitoring',
      'configuration.other',
      'configuration.sftp.password',
      'name',
    ])
    expect(JSON.stringify(errors)).not.toContain('in the wrong place')
    expect((await plane.query('{ tenant { name version } }', t)).data.tenant).toEqual({ name: t.id, version: 1 })
  })

  test('are an administrator’s alone', async () => {
    const t = await plane.tenant()
    const reader = await plane.key(t.id, { scopes: ['tenant:read', 'pipelines:write'] })
    const { errors } = await plane.query(
      'mutation { updateTenantSettings(input: { expectedVersion: 1 }) { tenant { id } } }',
      { token: reader },
    )
    expect(errors[0]?.extensions.code).toBe('FORBIDDEN')
  })
})

const steps = {
  bigQuery: 'ps_type: gcp.bq_etl\n    source: { query: SELECT 1 AS n }\n    destination: { table: t, mode: replace }',
  email: 'ps_type: notify_systems.email_notification\n    to_emails: [a@acme.example]',
}
const yaml = (step: string) => `pipeline_id: p\nsteps:\n  - step_id: s\n    ${step}\n`
const save = (t: T, step: string) => mutate(t, 'savePipeline', 'SavePipelineInput', { path: 'x/y/z', yaml: yaml(step) })
const start = (t: T, input: object = {}) =>
  mutate(
    t,
    'runPipeline',
    'RunPipelineInput',
    { pipeline: 'x/y/z', ...input },
    'run { id environment parameters steps { credential } }',
  )
const turn = (who: { token: string }, feature: string, isOn: boolean, tenantId?: string) =>
  mutate(
    who,
    'setTenantFeature',
    'SetTenantFeatureInput',
    { feature, isOn, ...(tenantId ? { tenantId } : {}) },
    'tenant { features { feature isOn } }',
  )

describe('features', () => {
  test('without BigQuery a run with such a step does not start', async () => {
    const t = await plane.tenant()
    await save(t, steps.bigQuery)
    await turn({ token: plane.platformToken }, 'BIG_QUERY', false, t.id)
    expect((await start(t)).errors).toMatchObject([{ code: 'FEATURE_OFF', path: ['steps.s'] }])
    await turn({ token: plane.platformToken }, 'BIG_QUERY', true, t.id)
    expect((await start(t)).errors).toEqual([])
    // Switched off between start and turn: the worker refuses the step.
    const claim = await claimOf(t)
    await turn({ token: plane.platformToken }, 'BIG_QUERY', false, t.id)
    await expect(stepInput(plane.ports, claim)).rejects.toMatchObject({ code: 'FEATURE_OFF' })
  })

  test('without e-mail such a step is passed over', async () => {
    const t = await plane.tenant()
    await save(t, steps.email)
    expect((await turn(t, 'EMAIL', false)).tenant.features).toContainEqual({ feature: 'EMAIL', isOn: false })
    expect((await start(t)).errors).toEqual([])
    expect(await stepInput(plane.ports, await claimOf(t))).toBeUndefined()
  })

  test('without pipelines of its own a tenant saves none and runs what there is', async () => {
    const t = await plane.tenant()
    await save(t, steps.email)
    await turn({ token: plane.platformToken }, 'CUSTOM_PIPELINES', false, t.id)
    expect((await save(t, steps.bigQuery)).errors).toMatchObject([{ code: 'FEATURE_OFF' }])
    expect((await start(t)).errors).toEqual([])
  })

  test('of the platform are not the tenant’s to switch, nor are those of another tenant', async () => {
    const [t, other] = [await plane.tenant(), await plane.tenant()]
    const document = (feature: string, id: string) =>
      `mutation { setTenantFeature(input: { feature: ${feature}, isOn: false, tenantId: "${id}" }) { tenant { id } errors { code } } }`
    expect((await plane.query(document('BIG_QUERY', t.id), t)).data.setTenantFeature.errors).toEqual([
      { code: 'BAD_INPUT' },
    ])
    expect((await plane.query(document('EMAIL', other.id), t)).data.setTenantFeature.errors).toEqual([
      { code: 'NOT_FOUND' },
    ])
    expect((await log(t)).filter(({ action }) => action.startsWith('feature.'))).toEqual([])
  })
})

describe('an environment', () => {
  const secret = { host: 'h', username: 'u', password: 'a-password' }
  const upload =
    'ps_type: transfer.sftp_upload\n    source: { paths: ["{bucket}/a.csv"] }\n    destination: { directory: . }'
  const withVariables = (step: string) => `${yaml(step)}variables:\n  bucket: prod\n  region: eu\n`
  async function tenantWithTwo(step: string): Promise<T> {
    const t = await plane.tenant()
    for (const name of ['north', 'south'])
      await mutate(t, 'createCredential', 'CreateCredentialInput', {
        name,
        provider: 'sftp',
        secret: { ...secret, host: name },
      })
    await mutate(t, 'savePipeline', 'SavePipelineInput', { path: 'x/y/z', yaml: withVariables(step) })
    return t
  }
  const saveEnvironment = (t: T, input: object) =>
    mutate(t, 'saveEnvironment', 'SaveEnvironmentInput', input, 'environment { name version variables credentials }')

  test('gives a run its variables and its credentials, and the run says which it was', async () => {
    const t = await tenantWithTwo(`${upload}\n    credential: north`)
    await saveEnvironment(t, {
      name: 'dev',
      variables: { bucket: 'dev', elsewhere: 1 },
      credentials: { north: 'south' },
    })
    const { run, errors } = await start(t, { environment: 'dev' })
    expect({ run, errors }).toMatchObject({
      run: { environment: 'dev', parameters: { bucket: 'dev' }, steps: [{ credential: 'south' }] },
      errors: [],
    })
    // What it took stays with the run.
    await mutate(t, 'deleteEnvironment', 'DeleteEnvironmentInput', { name: 'dev' })
    const input = await stepInput(plane.ports, await claimOf(t))
    expect(jobOf(input)?.settings['source']).toEqual({ paths: ['dev/a.csv'] })
    expect(jobOf(input)?.secret).toMatchObject({ host: 'south' })
    expect((await start(t, { environment: 'dev' })).errors).toMatchObject([
      { code: 'NOT_FOUND', path: ['environment'] },
    ])
  })

  test('stands in by provider where a step names no credential, and a parameter of the run wins', async () => {
    const t = await tenantWithTwo(upload)
    await saveEnvironment(t, { name: 'prod', variables: { bucket: 'b', region: 'us' }, credentials: { sftp: 'north' } })
    const { run } = await start(t, { environment: 'prod', parameters: { bucket: 'mine' } })
    expect(run).toMatchObject({ parameters: { bucket: 'mine', region: 'us' }, steps: [{ credential: 'north' }] })
    const plain = await start(t)
    expect(plain.run).toMatchObject({ environment: null, parameters: {}, steps: [{ credential: null }] })
  })

  test('is part of what an idempotency key stands for', async () => {
    const t = await tenantWithTwo(upload)
    await saveEnvironment(t, { name: 'dev' })
    await start(t, { idempotencyKey: 'k' })
    expect((await start(t, { idempotencyKey: 'k', environment: 'dev' })).errors).toMatchObject([
      { code: 'IDEMPOTENCY_KEY_REUSED' },
    ])
  })

  test('is changed by version, and takes no credential that is not there and no odd name', async () => {
    const t = await tenantWithTwo(upload)
    expect(
      (await saveEnvironment(t, { name: 'dev', variables: { a: 1 }, expectedVersion: 0 })).environment.version,
    ).toBe(1)
    expect((await saveEnvironment(t, { name: 'dev', expectedVersion: 0 })).errors).toMatchObject([
      { __typename: 'VersionConflict', currentVersion: 1 },
    ])
    expect((await saveEnvironment(t, { name: 'dev', credentials: { x: 'north' } })).environment).toMatchObject({
      version: 2,
      variables: { a: 1 },
      credentials: { x: 'north' },
    })
    for (const [input, path] of [
      [{ name: 'dev', credentials: { x: 'nowhere' } }, 'credentials.x'],
      [{ name: 'Dev' }, 'name'],
      [{ name: 'dev', variables: { a: { b: 1 } } }, 'variables.a'],
    ] as const)
      expect((await saveEnvironment(t, input)).errors).toMatchObject([{ code: 'BAD_INPUT', path: [path] }])
    expect((await plane.query('{ tenant { environments { name version } } }', t)).data.tenant.environments).toEqual([
      { name: 'dev', version: 2 },
    ])
    const other = await plane.tenant()
    expect((await plane.query('{ tenant { environments { name } } }', other)).data.tenant.environments).toEqual([])
  })
})

test('the platform lists its tenants page by page, by status and plan; a tenant lists none', async () => {
  await plane.tenant('zz_halted')
  await mutate({ token: plane.platformToken }, 'suspendTenant', 'TenantLifeInput', { tenantId: 'zz_halted' })
  const list = async (args: string, token = plane.platformToken) => {
    const { data, errors } = await plane.query(
      `{ tenants(${args}) { nodes { id plan status createdAt version } pageInfo { endCursor hasNextPage } } }`,
      { token },
    )
    return { ...data?.tenants, errors }
  }
  const seen: string[] = []
  for (let after = ''; ;) {
    const page = await list(`first: 3${after ? `, after: "${after}"` : ''}`)
    seen.push(...page.nodes.map(({ id }: Loose) => id))
    if (!page.pageInfo.hasNextPage) break
    after = page.pageInfo.endCursor
  }
  expect(seen).toEqual([...new Set(seen)].toSorted())
  expect(seen).not.toContain('platform')
  expect((await list('filter: { status: SUSPENDED }')).nodes).toMatchObject([
    { id: 'zz_halted', plan: 'SCALE', status: 'SUSPENDED' },
  ])
  expect((await list('filter: { plan: "STARTER" }')).nodes).toEqual([])
  const t = await plane.tenant()
  expect((await list('first: 1', t.token)).errors[0]?.extensions.code).toBe('FORBIDDEN')
})
