import { sql } from 'drizzle-orm'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { rowsOf } from '../../shared/db/db.ts'
import { AppError, errorData } from '../../shared/errors.ts'
import { fireDue } from '../../shared/schedules/fire-due.ts'
import { type ControlPlane, controlPlane, type Loose, smallWorker, until } from '../support/control-plane.ts'
import { tamper } from '../support/database.ts'

let plane: ControlPlane
beforeAll(async () => {
  plane = await controlPlane()
})
afterAll(() => plane[Symbol.asyncDispose]())

type Tenant = { id: string; token: string }
const steps = 'steps:\n  - step_id: only\n    ps_type: file.delete\n    paths: ["a"]\n'

async function save(tenant: Tenant, path: string, head = ''): Promise<Loose[]> {
  const { data, errors } = await plane.query(
    `mutation ($input: SavePipelineInput!) { savePipeline(input: $input) {
       errors { message ... on ValidationError { line column problem } } } }`,
    { token: tenant.token, variables: { input: { path, yaml: `pipeline_id: p\n${head}\n${steps}` } } },
  )
  expect(errors).toEqual([])
  return data.savePipeline.errors
}
async function run(tenant: Tenant, pipeline: string, parameters = {}): Promise<string> {
  const { data, errors } = await plane.query(
    'mutation ($input: RunPipelineInput!) { runPipeline(input: $input) { run { id } errors { message } } }',
    { token: tenant.token, variables: { input: { pipeline, parameters } } },
  )
  expect([errors, data.runPipeline.errors]).toEqual([[], []])
  return data.runPipeline.run.id
}
const runsOf = (tenant: Tenant): Promise<Loose[]> =>
  rowsOf(
    plane.ports.db,
    sql`select p.path, r.run_id as id, r.state, r.parameters, r.trigger_kind as trigger, r.requested_by as by
        from app.pipeline_run r join app.pipeline p on p.tenant_id = r.tenant_id and p.id = r.pipeline_id
        where r.tenant_id = ${tenant.id} order by r.run_id`,
  )
async function fireAll(): Promise<void> {
  while ((await fireDue(plane.ports, 'worker')) > 0);
}
const ended = (tenant: Tenant, count: number): Promise<void> =>
  until(`${count} runs have ended`, async () => {
    await fireAll()
    const runs = await runsOf(tenant)
    return runs.length >= count && runs.every(({ state }) => state === 'succeeded' || state === 'failed')
  })
const follows = (path: string, parameters = ''): string =>
  `triggers:\n  - { on: pipeline, pipeline: ${path}${parameters ? `, parameters: { ${parameters} }` : ''} }`

test('a pipeline follows each run of another that succeeded, once, with what that run was given and left', async () => {
  const a = await plane.tenant()
  await save(a, 'a/a/load', 'parameters: { region: { type: string } }')
  expect(
    await save(
      a,
      'a/a/export',
      `parameters: { region: { type: string }, from: { type: string }, tries: { type: integer } }\n${follows(
        'a/a/load',
        'region: "{upstream.parameters.region}", from: "run {upstream.run_id}", tries: "{upstream.steps.only.attempt}"',
      )}`,
    ),
  ).toEqual([])
  const first = await run(a, 'a/a/load', { region: 'EU', date: '2026-03-29' })
  await using _worker = smallWorker(plane.ports)
  await ended(a, 2)
  for (let n = 0; n < 3; n++) await Promise.all([fireAll(), fireAll()])
  expect(await runsOf(a)).toEqual([
    expect.objectContaining({ path: 'a/a/load', id: first }),
    expect.objectContaining({
      path: 'a/a/export',
      trigger: 'pipeline',
      by: `run:${first}`,
      parameters: { region: 'EU', from: `run ${first}`, tries: 1, date: '2026-03-29' },
    }),
  ])
  await run(a, 'a/a/load', { region: 'US' })
  await ended(a, 4)
  expect((await runsOf(a)).map(({ path }) => path)).toEqual(['a/a/load', 'a/a/export', 'a/a/load', 'a/a/export'])
})

test('a run that is retried and succeeds again is followed no second time, one that failed not at all', async () => {
  const a = await plane.tenant()
  await save(a, 'a/a/load')
  await save(a, 'a/a/export', follows('a/a/load'))
  const id = await run(a, 'a/a/load')
  let failure: ReturnType<typeof errorData> | undefined = errorData(new AppError('FILE_MISSING', 'Gone.'))
  await using _worker = smallWorker(plane.ports, () => failure)
  await ended(a, 1)
  expect(await runsOf(a)).toHaveLength(1)
  failure = undefined
  const retry = (fromStep?: string): Promise<Loose> =>
    plane.query('mutation ($input: RetryRunInput!) { retryRun(input: $input) { errors { message } } }', {
      token: a.token,
      variables: { input: { id, ...(fromStep ? { fromStep } : {}) } },
    })
  await retry()
  await ended(a, 2)
  await retry('only')
  await ended(a, 2)
  expect((await runsOf(a)).map(({ path }) => path)).toEqual(['a/a/load', 'a/a/export'])
})

test('chains and several followers go on by themselves', async () => {
  const a = await plane.tenant()
  await save(a, 'a/a/one')
  await save(a, 'a/a/two', follows('a/a/one'))
  await save(a, 'a/a/side', follows('a/a/one'))
  await save(a, 'a/a/three', follows('a/a/two'))
  await run(a, 'a/a/one', { date: '2026-01-01' })
  await using _worker = smallWorker(plane.ports)
  await ended(a, 4)
  const runs = await runsOf(a)
  expect(runs.map(({ path }) => path).sort()).toEqual(['a/a/one', 'a/a/side', 'a/a/three', 'a/a/two'])
  expect(new Set(runs.map(({ parameters }) => parameters.date))).toEqual(new Set(['2026-01-01']))
})

test('a full queue delays the run that follows, and loses none', async () => {
  const a = await plane.tenant()
  await save(a, 'a/a/load')
  await save(a, 'a/a/export', follows('a/a/load'))
  await tamper(plane.ports.db, sql`update app.tenant_limit set runs_per_month = 1 where tenant_id = ${a.id}`)
  await run(a, 'a/a/load')
  await using _worker = smallWorker(plane.ports)
  await ended(a, 1)
  await fireAll()
  const { data } = await plane.query(
    '{ pipeline(path: "a/a/export") { triggers { recentFollowUps { state attempts problem { code } upstream { pipelinePath } run { id } } } } }',
    a,
  )
  expect(data.pipeline.triggers[0].recentFollowUps).toEqual([
    {
      state: 'PENDING',
      attempts: 1,
      problem: { code: 'QUOTA_EXCEEDED' },
      upstream: { pipelinePath: 'a/a/load' },
      run: null,
    },
  ])
  await tamper(
    plane.ports.db,
    sql`update app.tenant_limit set runs_per_month = 9 where tenant_id = ${a.id}`,
    sql`update app.run_follow_up set not_before = now() where tenant_id = ${a.id}`,
  )
  await ended(a, 2)
  expect(await runsOf(a)).toHaveLength(2)
})

test('what the run before did not give is said, and nothing starts', async () => {
  const a = await plane.tenant()
  await save(a, 'a/a/load')
  await save(
    a,
    'a/a/export',
    `parameters: { rows: { type: integer } }\n${follows('a/a/load', 'rows: "{upstream.steps.only.rows}"')}`,
  )
  await run(a, 'a/a/load')
  await using _worker = smallWorker(plane.ports)
  await ended(a, 1)
  await fireAll()
  const rows = await rowsOf<{ state: string; code: string }>(
    plane.ports.db,
    sql`select state, problem ->> 'code' as code from app.run_follow_up where tenant_id = ${a.id}`,
  )
  expect(rows).toEqual([{ state: 'refused', code: 'VARIABLE_UNKNOWN' }])
})

describe('saving refuses at its place', () => {
  const place = { line: 3, column: 31 }

  test('a pipeline that is not there', async () => {
    const a = await plane.tenant()
    expect(await save(a, 'a/a/x', follows('no/such/one'))).toEqual([
      expect.objectContaining({ ...place, problem: 'UNKNOWN_PIPELINE' }),
    ])
    expect(await save(a, 'a/a/x', follows('system/tenant/dismantle'))).toEqual([
      expect.objectContaining({ ...place, problem: 'UNKNOWN_PIPELINE' }),
    ])
    const b = await plane.tenant()
    await save(b, 'b/b/own')
    expect(await save(a, 'a/a/x', follows('b/b/own'))).toEqual([
      expect.objectContaining({ problem: 'UNKNOWN_PIPELINE' }),
    ])
    expect(await save(a, 'a/a/x', follows('demo/places/daily'))).toEqual([])
  })

  test('circles of any length', async () => {
    const a = await plane.tenant()
    expect(await save(a, 'a/a/one', follows('a/a/one'))).toEqual([
      expect.objectContaining({ ...place, problem: 'PIPELINE_CYCLE' }),
    ])
    await save(a, 'a/a/one')
    await save(a, 'a/a/two', follows('a/a/one'))
    await save(a, 'a/a/three', follows('a/a/two'))
    expect(await save(a, 'a/a/one', follows('a/a/three'))).toEqual([
      expect.objectContaining({ ...place, problem: 'PIPELINE_CYCLE' }),
    ])
    await save(a, 'a/a/two')
    expect(await save(a, 'a/a/one', follows('a/a/three'))).toEqual([])
  })
})
