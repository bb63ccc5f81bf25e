import { sql } from 'drizzle-orm'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { queueTypes } from '../../schema/states.ts'
import { type Db, rowsOf } from '../../shared/db/db.ts'
import { AppError, errorData } from '../../shared/errors.ts'
import { claimSteps, completeStep, failStep } from '../../shared/runs/ledger.ts'
import { type StepInput, stepInput } from '../../workers/step-input.ts'
import { type ControlPlane, controlPlane, type Loose } from '../support/control-plane.ts'

let plane: ControlPlane
beforeAll(async () => {
  plane = await controlPlane()
})
afterAll(() => plane[Symbol.asyncDispose]())

const jobOf = (input: StepInput) => (input && 'job' in input ? input.job : undefined)

type T = { id: string; token: string }
const canary = 'canary-0815-never-shown'
const shown = 'id name status hostKey checkRun version problem { code message hint }'
const create = async (t: T, input: object = {}): Promise<Loose> => {
  const secret = { host: 'h', username: 'u', password: canary }
  const { data } = await plane.query(
    `mutation ($input: CreateCredentialInput!) { createCredential(input: $input) { credential { ${shown} } errors { code path } } }`,
    { token: t.token, variables: { input: { name: 'partner', provider: 'sftp', mode: 'QUEUED', secret, ...input } } },
  )
  return data.createCredential
}
const read = async (t: T): Promise<Loose> =>
  (await plane.query(`{ credential(name: "partner") { ${shown} } }`, t)).data.credential
const claimOf = async (t: T) => {
  const [claim] = await claimSteps(plane.ports.db, {
    worker: 'wrk_test',
    queues: queueTypes,
    limit: 1,
    leaseMs: 30_000,
    tenants: [t.id],
  })
  if (!claim) throw new Error('there was nothing to claim')
  return claim
}
const upload =
  'pipeline_id: p\nsteps:\n  - step_id: s\n    ps_type: transfer.sftp_upload\n    source: { paths: [a.csv] }\n    destination: { directory: . }\n    credential: partner\n'
async function useIt(t: T) {
  await plane.query(
    `mutation ($save: SavePipelineInput!) { savePipeline(input: $save) { errors { message } } runPipeline(input: { pipeline: "x/y/z" }) { errors { message } } }`,
    { token: t.token, variables: { save: { path: 'x/y/z', yaml: upload } } },
  )
  return stepInput(plane.ports, await claimOf(t))
}

test('a queued credential is used when its test has succeeded, and not before', async () => {
  const t = await plane.tenant()
  const { credential, errors } = await create(t)
  expect({ credential, errors }).toMatchObject({ credential: { status: 'PENDING', problem: null }, errors: [] })
  const check = await claimOf(t)
  expect(check.runId).toBe(credential.checkRun)
  await expect(useIt(t)).rejects.toMatchObject({
    code: 'CREDENTIAL_MISSING',
    message: expect.stringContaining('waits'),
  })
  // The test itself opens it; what it was given names no secret but the opened one.
  const input = await stepInput(plane.ports, check)
  expect(jobOf(input)?.secret).toMatchObject({ password: canary })
  await completeStep(plane.ports.db, check, { ok: true }, [])
  expect(await read(t)).toMatchObject({ status: 'ACTIVE', problem: null })
  expect(jobOf(await useIt(t))?.secret).toMatchObject({ password: canary })
  const log = await plane.query('{ auditLog(first: 50) { nodes { action target } } }', t)
  expect(log.data.auditLog.nodes).toContainEqual({ action: 'credential.activated', target: credential.id })
})

test('one that fails its test says why and is not used; a new value is, and its old test changes nothing', async () => {
  const t = await plane.tenant()
  await create(t)
  const check = await claimOf(t)
  await completeStep(
    plane.ports.db,
    check,
    { ok: false, code: 'HOST_KEY_MISSING', message: 'Not pinned.', hint: 'Pin it.', host_key: 'SHA256:abc' },
    [],
  )
  expect(await read(t)).toMatchObject({
    status: 'FAILED',
    hostKey: 'SHA256:abc',
    problem: { code: 'HOST_KEY_MISSING', message: 'Not pinned.', hint: 'Pin it.' },
  })
  await expect(useIt(t)).rejects.toMatchObject({
    code: 'CREDENTIAL_MISSING',
    message: expect.stringContaining('failed'),
  })
  const { data } = await plane.query(
    `mutation ($input: UpdateCredentialInput!) { updateCredential(input: $input) { credential { ${shown} } } }`,
    {
      token: t.token,
      variables: { input: { name: 'partner', secret: { host: 'h', username: 'u', password: 'another-one' } } },
    },
  )
  expect(data.updateCredential.credential).toMatchObject({
    status: 'ACTIVE',
    problem: null,
    hostKey: null,
    checkRun: null,
  })
})

test('a test that breaks, is cancelled or is replaced leaves no credential pending or revived', async () => {
  const broken = await plane.tenant()
  await create(broken)
  const error = errorData(new AppError('TIMED_OUT', 'No answer.', { retry: 'never' }))
  await failStep(plane.ports.db, await claimOf(broken), error)
  expect(await read(broken)).toMatchObject({ status: 'FAILED', problem: { code: 'TIMED_OUT', message: 'No answer.' } })

  const cancelled = await plane.tenant()
  const { credential } = await create(cancelled)
  await plane.query(`mutation { cancelRun(input: { id: "${credential.checkRun}" }) { errors { code } } }`, cancelled)
  expect(await read(cancelled)).toMatchObject({ status: 'FAILED', problem: { code: 'CANCELLED' } })

  const replaced = await plane.tenant()
  await create(replaced)
  const check = await claimOf(replaced)
  await plane.query(
    `mutation ($input: UpdateCredentialInput!) { updateCredential(input: $input) { errors { code } } }`,
    {
      token: replaced.token,
      variables: { input: { name: 'partner', secret: { host: 'h', username: 'u', password: 'another-one' } } },
    },
  )
  await completeStep(plane.ports.db, check, { ok: false, code: 'CREDENTIAL_REJECTED', message: 'Old.' }, [])
  expect(await read(replaced)).toMatchObject({ status: 'ACTIVE', problem: null, version: 2 })
})

test('a repeat with the same key answers the first one, in whatever state it is, and starts no second test', async () => {
  const t = await plane.tenant()
  const first = await create(t, { idempotencyKey: 'k1' })
  const [again, third] = await Promise.all([create(t, { idempotencyKey: 'k1' }), create(t, { idempotencyKey: 'k1' })])
  expect([again, third]).toEqual([first, first])
  await completeStep(plane.ports.db, await claimOf(t), { ok: true }, [])
  expect((await create(t, { idempotencyKey: 'k1' })).credential).toMatchObject({
    id: first.credential.id,
    status: 'ACTIVE',
  })
  await expect(claimOf(t)).rejects.toThrow('nothing to claim')
  expect((await create(t, { idempotencyKey: 'k1', name: 'other' })).errors).toEqual([
    { code: 'IDEMPOTENCY_KEY_REUSED', path: ['idempotencyKey'] },
  ])
  expect((await create(t)).errors).toEqual([{ code: 'ALREADY_EXISTS', path: ['name'] }])
})

test('no row and no line holds the secret of a queued credential', async () => {
  const t = await plane.tenant()
  await create(t)
  const tables = await rowsOf<{ name: string }>(
    plane.ports.db,
    sql`select table_name as name from information_schema.tables where table_schema = 'app' and table_type = 'BASE TABLE'`,
  )
  for (const { name } of tables) {
    const [row] = await rowsOf<{ n: number }>(
      plane.ports.db,
      sql`select count(*)::int as n from ${sql.identifier('app')}.${sql.identifier(name)} t where t::text like ${`%${canary}%`}`,
    )
    expect([name, row?.n]).toEqual([name, 0])
  }
  expect(plane.logged.join()).not.toContain(canary)
})

test('histories of a page of credentials are read together', async () => {
  const t = await plane.tenant()
  for (let n = 0; n < 5; n++) await create(t, { name: `c${n}`, mode: 'DIRECT' })
  let reads = 0
  const db = new Proxy(plane.ports.db, {
    get(target, name, receiver) {
      if (name !== 'transaction') return Reflect.get(target, name, receiver)
      return (work: Parameters<Db['transaction']>[0]) => {
        reads++
        return target.transaction(work)
      }
    },
  })
  const app = plane.appWith({}, { db })
  const ask = async (fields: string): Promise<number> => {
    reads = 0
    const { data } = await plane.query(`{ credentials { nodes { name ${fields} } } }`, { token: t.token, app })
    expect(data.credentials.nodes).toHaveLength(5)
    return reads
  }
  await ask('')
  expect((await ask('versions { version createdBy }')) - (await ask(''))).toBe(1)
})

test('each opening is in the log with its run, its step and who opened it', async () => {
  const t = await plane.tenant()
  const { credential } = await create(t, { mode: 'DIRECT' })
  await plane.query(
    `mutation ($save: SavePipelineInput!) { savePipeline(input: $save) { errors { message } } runPipeline(input: { pipeline: "x/y/z" }) { errors { message } } }`,
    { token: t.token, variables: { save: { path: 'x/y/z', yaml: upload } } },
  )
  const claim = await claimOf(t)
  await stepInput(plane.ports, claim)
  const { data } = await plane.query('{ auditLog(first: 50) { nodes { action actor target details } } }', t)
  expect(data.auditLog.nodes.filter(({ action }: Loose) => action === 'credential.opened')).toEqual([
    {
      action: 'credential.opened',
      actor: 'worker:wrk_test',
      target: credential.id,
      details: { runId: claim.runId, step: 's', attempt: 1, version: 1 },
    },
  ])
})
