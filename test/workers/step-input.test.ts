import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { queueTypes } from '../../schema/states.ts'
import { withTenant } from '../../shared/db/db.ts'
import { claimSteps } from '../../shared/runs/ledger.ts'
import { cryptoExtension, extensionFile } from '../../workers/lake/extensions.ts'
import type { LakeOptions } from '../../workers/lake/tenant-store.ts'
import { bindingOf } from '../../workers/run-step.ts'
import { type StepInput, stepInput } from '../../workers/step-input.ts'
import { type ControlPlane, controlPlane } from '../support/control-plane.ts'

let plane: ControlPlane

beforeAll(async () => {
  plane = await controlPlane()
})
afterAll(async () => {
  await plane[Symbol.asyncDispose]()
})

const store = async (token: string, name: string, provider: 'sftp' | 'postgres'): Promise<void> => {
  const secrets = {
    sftp: { host: name, username: 'u', password: 'p' },
    postgres: { host: name, database: 'd', user: 'u', password: 'p' },
  }
  const { data } = await plane.query(
    `mutation ($input: CreateCredentialInput!) { createCredential(input: $input) { errors { code } } }`,
    {
      token,
      variables: { input: { name, provider, secret: secrets[provider] } },
    },
  )
  expect(data.createCredential.errors).toEqual([])
}

// What the first step of a run is given, claimed as a worker claims it.
async function inputOf(
  tenant: { id: string; token: string },
  step: string,
  lake?: LakeOptions,
): Promise<Extract<StepInput, { job: unknown }> | undefined> {
  const yaml = `pipeline_id: p\nsteps:\n  - step_id: s\n${step.replaceAll(/^/gm, '    ')}`
  await plane.query(
    `mutation ($save: SavePipelineInput!, $run: RunPipelineInput!) {
      savePipeline(input: $save) { errors { message } } runPipeline(input: $run) { errors { message } } }`,
    { token: tenant.token, variables: { save: { path: 'a/b/c', yaml }, run: { pipeline: 'a/b/c' } } },
  )
  const claims = await claimSteps(plane.ports.db, {
    worker: 'wrk_test',
    queues: queueTypes,
    limit: 10,
    leaseMs: 30_000,
    tenants: [tenant.id],
  })
  const [claim] = claims
  if (!claim) throw new Error('there was no step to claim')
  const input = await stepInput(plane.ports, claim, lake)
  if (input && 'items' in input) throw new Error('the step fans out')
  return input
}

const upload = 'ps_type: transfer.sftp_upload\nsource: { paths: [a.csv] }\ndestination: { directory: . }'

test('a step that names no credential gets the only one of its provider, and the opening is audited', async () => {
  const tenant = await plane.tenant()
  await store(tenant.token, 'partner', 'sftp')
  await store(tenant.token, 'warehouse', 'postgres')
  expect((await inputOf(tenant, upload))?.job.secret).toMatchObject({ host: 'partner' })
  const audit = await plane.query(`{ auditLog(first: 100) { nodes { action } } }`, { token: tenant.token })
  const actions = audit.data.auditLog.nodes.map(({ action }: { action: string }) => action)
  expect(actions.filter((action: string) => action === 'credential.opened')).toHaveLength(1)
})

test('another provider or another tenant has none to give', async () => {
  const other = await plane.tenant()
  await store(other.token, 'partner', 'sftp')
  const tenant = await plane.tenant()
  await store(tenant.token, 'warehouse', 'postgres')
  expect((await inputOf(tenant, upload))?.job.secret).toBeNull()
})

test('of two credentials none is chosen until the step names one', async () => {
  const tenant = await plane.tenant()
  await store(tenant.token, 'north', 'sftp')
  await store(tenant.token, 'south', 'sftp')
  await expect(inputOf(tenant, upload)).rejects.toMatchObject({
    code: 'CREDENTIAL_MISSING',
    hint: expect.stringContaining('credential:'),
  })
  expect((await inputOf(tenant, `${upload}\ncredential: south`))?.job.secret).toMatchObject({ host: 'south' })
})

test('a step whose processor takes no credential is given none', async () => {
  const tenant = await plane.tenant()
  await store(tenant.token, 'partner', 'sftp')
  const step = 'ps_type: sql.transform\nquery: SELECT 1 AS n\ndestination: { table: t }'
  expect((await inputOf(tenant, step))?.job.secret).toBeNull()
})

test('a process is told the key of its tenant’s lake where the engine can encrypt, and of no other lake', async () => {
  const extensions = await mkdtemp(join(tmpdir(), 'extensions-'))
  try {
    const file = extensionFile(extensions, cryptoExtension)
    await mkdir(dirname(file), { recursive: true })
    await writeFile(file, '')
    const storeOf = async (tenant: { id: string; token: string }, lake: LakeOptions) => {
      const input = await inputOf(tenant, upload, lake)
      if (!input) throw new Error('the step is not wanted')
      return (await bindingOf(input, { dataDir: '/data', lake, allowPrivateNetwork: false })).store
    }
    const keyOf = ({ id }: { id: string }) =>
      withTenant(plane.ports.db, { tenantId: id, side: 'worker' }, (tx) => plane.ports.secrets.lakeKey(tx, id))
    // A queue of a tenant gives two steps at once.
    for (const without of [{}, { extensions: dirname(extensions) }]) {
      const tenant = await plane.tenant()
      const place = { file: `/data/tenants/${tenant.id}/lake.duckdb` }
      expect(await storeOf(tenant, { extensions })).toEqual({ ...place, extensions, key: await keyOf(tenant) })
      expect(await storeOf(tenant, without)).toEqual(place)
    }
  } finally {
    await rm(extensions, { recursive: true, force: true })
  }
})
