import { afterAll, beforeAll, expect, test } from 'vitest'
import type { WakeTarget } from '../../shared/waking/waker.ts'
import { type ControlPlane, controlPlane, type Loose, smallWorker, until } from '../support/control-plane.ts'

let plane: ControlPlane
let a: { id: string; token: string }
beforeAll(async () => {
  plane = await controlPlane()
  a = await plane.tenant()
  await save(a.token, 'demo/files/clean', clean)
})
afterAll(() => plane[Symbol.asyncDispose]())

const clean = `pipeline_id: clean
parameters:
  day:
    type: date
    default: "2026-01-01"
steps:
  - step_id: first
    ps_type: file.delete
    paths: ["in/{day}"]
    retry: { attempts: 1 }
  - step_id: second
    ps_type: file.delete
    paths: ["out/*"]
    retry: { attempts: 1 }
`
const save = (token: string, path: string, yaml: string) =>
  plane.query(
    `mutation ($input: SavePipelineInput!) { savePipeline(input: $input) { created pipeline { id version } errors { code message ... on ValidationError { file line column problem } } } }`,
    { token, variables: { input: { path, yaml } } },
  )
const runFields = `id state pipelinePath pipelineVersion parameters requestedBy error { code stepKey }
  steps { key state attempt outputs error { code } }`
const start = async (input: object, token = a.token): Promise<Loose> => {
  const { data, errors } = await plane.query(
    `mutation ($input: RunPipelineInput!) { runPipeline(input: $input) { created run { ${runFields} } errors { __typename code message path ... on QuotaError { quota limit used } } } }`,
    { token, variables: { input } },
  )
  expect(errors).toEqual([])
  return data.runPipeline
}
const read = async (id: string, token = a.token): Promise<Loose> =>
  (await plane.query(`query ($id: ID!) { run(id: $id) { ${runFields} } }`, { token, variables: { id } })).data.run
const ended = (id: string, state: string): Promise<void> =>
  until(`${id} is ${state}`, async () => (await read(id)).state === state)

test('a run goes from queued to succeeded and says what it did', async () => {
  const { run, created, errors } = await start({ pipeline: 'demo/files/clean', parameters: { day: '2026-02-03' } })
  expect(errors).toEqual([])
  expect(created).toBe(true)
  expect(run).toMatchObject({
    state: 'QUEUED',
    pipelinePath: 'demo/files/clean',
    pipelineVersion: 1,
    parameters: { day: '2026-02-03' },
    requestedBy: expect.stringMatching(/^key:key_/),
    steps: [
      { key: 'first', state: 'READY', attempt: 0 },
      { key: 'second', state: 'BLOCKED', attempt: 0 },
    ],
  })
  await using _worker = smallWorker(plane.ports)
  await ended(run.id, 'SUCCEEDED')
  expect(await read(run.id)).toMatchObject({
    steps: [
      { state: 'SUCCEEDED', attempt: 1, outputs: { attempt: 1 } },
      { state: 'SUCCEEDED', attempt: 1 },
    ],
  })
})

test('starting a run wakes the queue of its first step', async () => {
  const woken: WakeTarget[] = []
  using _listening = plane.ports.waker.listen((target) => void woken.push(target))
  await start({ pipeline: 'demo/files/clean' })
  await until('a wake', () => woken.length > 0)
  expect(woken).toEqual([{ tenantId: a.id, queue: 'export' }])
})

test('a repeated idempotency key answers the first run, another input is refused', async () => {
  const first = await start({ pipeline: 'demo/files/clean', idempotencyKey: 'k1', parameters: { day: '2026-01-02' } })
  const again = await start({ pipeline: 'demo/files/clean', idempotencyKey: 'k1', parameters: { day: '2026-01-02' } })
  expect(again).toMatchObject({ created: false, errors: [], run: { id: first.run.id } })
  const other = await start({ pipeline: 'demo/files/clean', idempotencyKey: 'k1', parameters: { day: '2026-01-03' } })
  expect(other).toMatchObject({ run: null, errors: [{ code: 'IDEMPOTENCY_KEY_REUSED', path: ['idempotencyKey'] }] })
  // The key belongs to the tenant: another tenant's is another.
  const b = await plane.tenant()
  await save(b.token, 'demo/files/clean', clean)
  expect(await start({ pipeline: 'demo/files/clean', idempotencyKey: 'k1' }, b.token)).toMatchObject({ created: true })
})

test('twenty equal calls at once start one run', async () => {
  const answers = await Promise.all(
    Array.from({ length: 20 }, () => start({ pipeline: 'demo/files/clean', idempotencyKey: 'at-once' })),
  )
  expect(new Set(answers.map(({ run }) => run.id)).size).toBe(1)
  expect(answers.filter(({ created }) => created)).toHaveLength(1)
})

test('a date is a parameter, given once and as a day', async () => {
  expect((await start({ pipeline: 'demo/files/clean', date: '2026-03-04' })).run.parameters).toMatchObject({
    date: '2026-03-04',
  })
  const twice = await start({ pipeline: 'demo/files/clean', date: '2026-03-04', parameters: { date: '2026-03-05' } })
  expect(twice.errors).toMatchObject([{ code: 'BAD_INPUT', path: ['date'] }])
  const wrong = await plane.query(
    'mutation { runPipeline(input: { pipeline: "demo/files/clean", date: "2026-02-30" }) { created } }',
    { token: a.token },
  )
  expect(wrong.errors[0]?.extensions.code).toBe('BAD_INPUT')
})

test('wrong parameters and unknown pipelines are refused by name', async () => {
  expect((await start({ pipeline: 'demo/files/clean', parameters: { day: 'soon' } })).errors).toMatchObject([
    { code: 'PARAMETER_INVALID', path: ['day'] },
  ])
  expect((await start({ pipeline: 'demo/files/clean', parameters: [1] })).errors[0].code).toBe('BAD_INPUT')
  expect((await start({ pipeline: 'no/such/one' })).errors).toMatchObject([{ code: 'NOT_FOUND', path: ['pipeline'] }])
  expect((await start({ pipeline: 'system/tenant/provision' })).errors[0].code).toBe('NOT_FOUND')
})

test('a failed run is retried from where it failed, and a succeeded one from a step', async () => {
  let isBroken = true
  await using worker = smallWorker(plane.ports, ({ stepKey }) =>
    stepKey === 'second' && isBroken
      ? { code: 'FILE_MISSING', message: 'It is not there.', hint: 'Put it there.', retry: 'never' }
      : undefined,
  )
  const { run } = await start({ pipeline: 'demo/files/clean' })
  await ended(run.id, 'FAILED')
  expect((await read(run.id)).error).toEqual({ code: 'FILE_MISSING', stepKey: 'second' })
  isBroken = false
  worker.done.length = 0
  const retry = (input: object) =>
    plane.query(`mutation ($input: RetryRunInput!) { retryRun(input: $input) { run { id state } errors { code } } }`, {
      token: a.token,
      variables: { input },
    })
  expect((await retry({ id: run.id })).data.retryRun.errors).toEqual([])
  await ended(run.id, 'SUCCEEDED')
  expect(worker.done.filter((line) => line.endsWith('first'))).toEqual([])
  expect((await retry({ id: run.id })).data.retryRun.errors).toEqual([{ code: 'CONFLICT' }])
  worker.done.length = 0
  expect((await retry({ id: run.id, fromStep: 'first' })).data.retryRun.errors).toEqual([])
  await until('both ran again', () => worker.done.filter((line) => line.startsWith(a.id)).length >= 2)
  expect((await retry({ id: run.id, fromStep: 'nope' })).data.retryRun.errors[0].code).toMatch(/NOT_FOUND|CONFLICT/)
})

test('a cancelled run ends, a repeat changes nothing, and one that has ended otherwise is a conflict', async () => {
  const b = await plane.tenant()
  await save(b.token, 'demo/files/clean', clean)
  const { run } = await start({ pipeline: 'demo/files/clean' }, b.token)
  const cancel = (id: string) =>
    plane.query(
      `mutation ($input: CancelRunInput!) { cancelRun(input: $input) { run { state cancelReason steps { state } } errors { code } } }`,
      { token: b.token, variables: { input: { id, reason: 'deadline' } } },
    )
  const first = (await cancel(run.id)).data.cancelRun
  expect(first.errors).toEqual([])
  expect(first.run).toMatchObject({ state: 'CANCELLED', steps: [{ state: 'CANCELLED' }, { state: 'CANCELLED' }] })
  expect((await cancel(run.id)).data.cancelRun.errors).toEqual([])
  await using _worker = smallWorker(plane.ports)
  const { run: other } = await start({ pipeline: 'demo/files/clean' }, b.token)
  await until('it succeeded', async () => (await read(other.id, b.token)).state === 'SUCCEEDED')
  expect((await cancel(other.id)).data.cancelRun).toMatchObject({ run: null, errors: [{ code: 'CONFLICT' }] })
})

test('the plan limits unfinished runs, and says the figures', async () => {
  const b = await plane.tenant()
  await save(b.token, 'demo/files/clean', clean)
  await plane.ports.db.execute(`update app.tenant_limit set max_queued_runs = 1 where tenant_id = '${b.id}'`)
  expect((await start({ pipeline: 'demo/files/clean' }, b.token)).errors).toEqual([])
  expect((await start({ pipeline: 'demo/files/clean' }, b.token)).errors).toMatchObject([
    { __typename: 'QuotaError', code: 'QUOTA_EXCEEDED', quota: 'queuedRuns', limit: 1, used: 1 },
  ])
})

test('a template runs without being saved, and the tenant’s own pipeline of that path wins', async () => {
  const b = await plane.tenant()
  const path = 'demo/places/daily'
  const listed = await plane.query('{ templates { nodes { path sha256 } } pipelines { nodes { path } } }', b)
  const template = listed.data.templates.nodes.find((node: Loose) => node.path === path)
  expect(listed.data.pipelines.nodes).toEqual([])
  expect(listed.text).not.toContain('system/')
  const shown = `{ pipeline(path: "${path}") { origin version yaml sha256 } }`
  expect((await start({ pipeline: path, parameters: { no_such: 1 } }, b.token)).errors).toHaveLength(1)
  expect((await plane.query(shown, b)).data.pipeline).toBeNull()
  expect((await start({ pipeline: path }, b.token)).errors).toEqual([])
  expect((await plane.query(shown, b)).data.pipeline).toMatchObject({
    origin: 'TEMPLATE',
    version: 1,
    sha256: template.sha256,
  })
  await start({ pipeline: path }, b.token)
  expect((await plane.query(shown, b)).data.pipeline.version).toBe(1)
  await save(b.token, path, clean)
  expect((await plane.query(shown, b)).data.pipeline).toMatchObject({ origin: 'TENANT', version: 2, yaml: clean })
  const own = await start({ pipeline: path }, b.token)
  expect(own.run).toMatchObject({ pipelineVersion: 2, steps: [{ key: 'first' }, { key: 'second' }] })
})

test('steps of a list of runs are read together', async () => {
  const b = await plane.tenant()
  await save(b.token, 'demo/files/clean', clean)
  for (let i = 0; i < 10; i++) await start({ pipeline: 'demo/files/clean' }, b.token)
  let transactions = 0
  const db = new Proxy(plane.ports.db, {
    get(target, name, receiver) {
      if (name === 'transaction') transactions++
      return Reflect.get(target, name, receiver)
    },
  })
  const answer = await plane.query(
    '{ runs { nodes { pipeline { path } steps { key } events(first: 5) { nodes { type } } logs { nodes { seq } } } } }',
    { token: b.token, app: plane.appWith({}, { db }) },
  )
  expect(answer.errors).toEqual([])
  expect(answer.data.runs.nodes).toHaveLength(10)
  expect(answer.data.runs.nodes[9].steps).toHaveLength(2)
  expect(answer.data.runs.nodes[9].events.nodes).toEqual([{ type: 'run.queued' }])
  // Key, limits of the tenant, runs, pipelines, steps, events, logs, use of the key: as many for 10 runs as for 1.
  expect(transactions).toBeLessThanOrEqual(8)
})
