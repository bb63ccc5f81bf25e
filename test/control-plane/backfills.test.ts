import { sql } from 'drizzle-orm'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { AppError, errorData } from '../../shared/errors.ts'
import { rowsOf } from '../../shared/db/db.ts'
import { fireDue } from '../../shared/schedules/fire-due.ts'
import { type ControlPlane, controlPlane, type Loose, smallWorker, until } from '../support/control-plane.ts'
import { tamper } from '../support/database.ts'

let plane: ControlPlane
beforeAll(async () => {
  plane = await controlPlane()
})
afterAll(() => plane[Symbol.asyncDispose]())

type Tenant = { id: string; token: string }
const path = 'x/y/z'
const yaml = 'pipeline_id: p\nsteps:\n  - step_id: only\n    ps_type: file.delete\n    paths: ["a"]\n'

async function mutate(tenant: Tenant, name: string, input: object, select = ''): Promise<Loose> {
  const type = `${name[0]?.toUpperCase()}${name.slice(1)}Input`
  const { data, errors } = await plane.query(
    `mutation ($input: ${type}!) { ${name}(input: $input) { ${select} errors { code path } } }`,
    { token: tenant.token, variables: { input } },
  )
  expect(errors).toEqual([])
  return data[name]
}
async function withPipeline(head = ''): Promise<Tenant> {
  const tenant = await plane.tenant()
  expect(await mutate(tenant, 'savePipeline', { path, yaml: yaml + head })).toEqual({ errors: [] })
  return tenant
}
async function begin(tenant: Tenant, input: object): Promise<string> {
  const { backfill, errors } = await mutate(tenant, 'startBackfill', { pipeline: path, ...input }, 'backfill { id }')
  expect(errors).toEqual([])
  return backfill.id
}
async function see(tenant: Tenant, id: string): Promise<Loose> {
  const { data, errors } = await plane.query(
    `{ backfill(id: "${id}") { state total maxActive problem { code } finishedAt
       progress { pending active succeeded failed refused cancelled }
       slots(first: 100) { nodes { date state run { id state parameters requestedBy trigger } problem { code } } } } }`,
    tenant,
  )
  expect(errors).toEqual([])
  return data.backfill
}
async function fireAll(): Promise<void> {
  while ((await fireDue(plane.ports, 'worker')) > 0);
}

test('each day of the range has one run with its date, at most so many at once, oldest first', async () => {
  const a = await withPipeline()
  const id = await begin(a, { from: '2026-03-27', to: '2026-03-31', maxActive: 2 })
  const ticker = async (): Promise<void> => {
    for (let round = 0; round < 3; round++) await fireDue(plane.ports, 'worker')
  }
  await Promise.all([ticker(), ticker(), ticker()])
  const begun = await see(a, id)
  expect(begun.progress).toMatchObject({ pending: 3, active: 2 })
  expect(begun.slots.nodes.map(({ date, state }: Loose) => `${date} ${state}`).slice(0, 3)).toEqual([
    '2026-03-27 STARTED',
    '2026-03-28 STARTED',
    '2026-03-29 PENDING',
  ])
  await using _worker = smallWorker(plane.ports)
  await until('the backfill has finished', async () => {
    await fireAll()
    const { state, progress } = await see(a, id)
    expect(progress.active).toBeLessThanOrEqual(2)
    return state === 'FINISHED'
  })
  const done = await see(a, id)
  expect(done.progress).toEqual({ pending: 0, active: 0, succeeded: 5, failed: 0, refused: 0, cancelled: 0 })
  expect(done.slots.nodes.map(({ date, run }: Loose) => [date, run.parameters.date, run.trigger])).toEqual(
    ['27', '28', '29', '30', '31'].map((day) => [`2026-03-${day}`, `2026-03-${day}`, 'backfill']),
  )
  const [row] = await rowsOf<{ runs: number }>(
    plane.ports.db,
    sql`select count(*)::int as runs from app.pipeline_run where tenant_id = ${a.id}`,
  )
  expect(row?.runs).toBe(5)
})

test('the times, parameters and pipeline of a schedule can be taken', async () => {
  const a = await withPipeline(
    'parameters: { region: { type: string } }\nschedule: { cron: "0 */12 * * *", timezone: Europe/Berlin, parameters: { region: EU } }\n',
  )
  const { data } = await plane.query('{ schedules { nodes { id } } }', a)
  const [{ id: scheduleId }] = data.schedules.nodes
  const { backfill, errors } = await mutate(
    a,
    'startBackfill',
    { scheduleId, from: '2026-03-29', to: '2026-03-30', maxActive: 9 },
    'backfill { id every total }',
  )
  expect(errors).toEqual([])
  expect(backfill).toMatchObject({ every: 'SCHEDULE', total: 4 })
  await fireAll()
  const seen = await see(a, backfill.id)
  expect(seen.slots.nodes.map(({ run }: Loose) => run.parameters)).toEqual(
    ['29', '29', '30', '30'].map((day) => ({ region: 'EU', date: `2026-03-${day}` })),
  )
})

test('a paused one starts nothing, and resumed it goes on where it was', async () => {
  const a = await withPipeline()
  const id = await begin(a, { from: '2026-01-01', to: '2026-01-03', maxActive: 1 })
  await fireAll()
  await mutate(a, 'pauseBackfill', { id })
  await using _worker = smallWorker(plane.ports)
  await until('the first run has ended', async () => (await see(a, id)).progress.succeeded === 1)
  await fireAll()
  expect(await see(a, id)).toMatchObject({ state: 'PAUSED', progress: { pending: 2, active: 0 } })
  await mutate(a, 'resumeBackfill', { id })
  await until('it has finished', async () => {
    await fireAll()
    return (await see(a, id)).state === 'FINISHED'
  })
  expect((await see(a, id)).progress.succeeded).toBe(3)
})

test('an ended one starts nothing more, and stops its runs when told so', async () => {
  const a = await withPipeline()
  const id = await begin(a, { from: '2026-01-01', to: '2026-01-09', maxActive: 3 })
  await fireAll()
  await mutate(a, 'cancelBackfill', { id, cancelRuns: true })
  await fireAll()
  const seen = await see(a, id)
  expect(seen).toMatchObject({ state: 'CANCELLED', progress: { pending: 0, cancelled: 6, failed: 3 } })
  expect(seen.slots.nodes.slice(0, 3).map(({ run }: Loose) => run.state)).toEqual([
    'CANCELLED',
    'CANCELLED',
    'CANCELLED',
  ])
  expect((await mutate(a, 'resumeBackfill', { id })).errors).toEqual([{ code: 'CONFLICT', path: ['id'] }])
  expect((await mutate(a, 'cancelBackfill', { id })).errors).toEqual([])
})

test('failed runs count as done, and can be retried by themselves', async () => {
  const a = await withPipeline()
  const id = await begin(a, { from: '2026-01-01', to: '2026-01-02' })
  const failure = errorData(new AppError('FILE_MISSING', 'Gone.'))
  await using _worker = smallWorker(plane.ports, () => failure)
  await until('it has finished', async () => {
    await fireAll()
    return (await see(a, id)).state === 'FINISHED'
  })
  expect((await see(a, id)).progress).toMatchObject({ failed: 2, succeeded: 0 })
})

test('a full queue holds it for a while and loses no slot', async () => {
  const a = await withPipeline()
  const id = await begin(a, { from: '2026-01-01', to: '2026-01-03', maxActive: 3 })
  await tamper(plane.ports.db, sql`update app.tenant_limit set max_queued_runs = 1 where tenant_id = ${a.id}`)
  await fireAll()
  expect(await see(a, id)).toMatchObject({
    state: 'RUNNING',
    problem: { code: 'QUOTA_EXCEEDED' },
    progress: { active: 1, pending: 2, refused: 0 },
  })
  await tamper(
    plane.ports.db,
    sql`update app.tenant_limit set max_queued_runs = 9 where tenant_id = ${a.id}`,
    sql`update app.backfill set held_until = now() where tenant_id = ${a.id}`,
  )
  await fireAll()
  expect(await see(a, id)).toMatchObject({ problem: null, progress: { active: 3, pending: 0 } })
})

test('ten failures of configuration in a row pause it; resumed, the refused slots come again', async () => {
  const a = await withPipeline()
  const id = await begin(a, { from: '2026-01-01', to: '2026-01-20', maxActive: 50 })
  await tamper(plane.ports.db, sql`update app.pipeline_version set yaml = 'pipeline_id: p' where tenant_id = ${a.id}`)
  await fireAll()
  expect(await see(a, id)).toMatchObject({
    state: 'PAUSED',
    problem: { code: 'CONFIG_INVALID' },
    progress: { refused: 10, pending: 10 },
  })
  await mutate(a, 'savePipeline', { path, yaml: `${yaml}description: mended\n` })
  await mutate(a, 'resumeBackfill', { id })
  await fireAll()
  expect(await see(a, id)).toMatchObject({ state: 'RUNNING', progress: { active: 20, refused: 0 } })
})

describe('refused', () => {
  test.for([
    [{ from: '2026-01-02', to: '2026-01-01' }, 'BAD_INPUT', 'to'],
    [{ from: '2020-01-01', to: '2026-01-01' }, 'TOO_LARGE', 'to'],
    [{ maxActive: 51 }, 'BAD_INPUT', 'maxActive'],
    [{ pipeline: 'no/such/one' }, 'NOT_FOUND', 'pipeline'],
    [{ parameters: { date: '2026-01-01' } }, 'BAD_INPUT', 'parameters'],
    [{ parameters: { nothing: 1 } }, 'PARAMETER_INVALID', 'nothing'],
    [{ every: 'SCHEDULE' }, 'BAD_INPUT', 'scheduleId'],
    [{ scheduleId: 'sch_0' }, 'NOT_FOUND', 'scheduleId'],
    [{ scheduleId: 'sch_0', every: 'DAY' }, 'BAD_INPUT', 'every'],
    [{ environment: 'prod' }, 'NOT_FOUND', 'environment'],
  ] as const)('with %o as %s at %s', async ([input, code, place]) => {
    const a = await withPipeline()
    const given = { pipeline: path, from: '2026-01-01', to: '2026-01-02', ...input }
    expect((await mutate(a, 'startBackfill', given)).errors).toEqual([{ code, path: [place] }])
  })

  test('of another tenant as if there were none', async () => {
    const [a, b] = [await withPipeline(), await plane.tenant()]
    const id = await begin(a, { from: '2026-01-01', to: '2026-01-02' })
    for (const name of ['pauseBackfill', 'resumeBackfill', 'cancelBackfill'])
      expect((await mutate(b, name, { id })).errors).toEqual((await mutate(b, name, { id: 'bkf_0' })).errors)
    expect((await plane.query(`{ backfill(id: "${id}") { id } }`, b)).errors[0]?.extensions.code).toBe('NOT_FOUND')
    await mutate(a, 'cancelBackfill', { id })
  })
})
