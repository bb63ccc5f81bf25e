import { sql } from 'drizzle-orm'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Scope } from '../../schema/roles.ts'
import { rowsOf } from '../../shared/db/db.ts'
import { fireDue } from '../../shared/schedules/fire-due.ts'
import { type ControlPlane, controlPlane, type Loose, smallWorker, until } from '../support/control-plane.ts'
import { tamper } from '../support/database.ts'
import { leastMs } from '../support/timing.ts'

let plane: ControlPlane
beforeAll(async () => {
  plane = await controlPlane()
})
afterAll(() => plane[Symbol.asyncDispose]())

type Tenant = { id: string; token: string }
const steps = 'steps:\n  - step_id: only\n    ps_type: file.delete\n    paths: ["a"]\n'
const path = 'x/y/z'

async function mutate(tenant: Tenant, name: string, input: object, select = ''): Promise<Loose> {
  const type = `${name[0]?.toUpperCase()}${name.slice(1)}Input`
  const { data, errors } = await plane.query(
    `mutation ($input: ${type}!) { ${name}(input: $input) { ${select} errors { code message path
       ... on ValidationError { line column problem } ... on VersionConflict { currentVersion } } } }`,
    { token: tenant.token, variables: { input } },
  )
  expect(errors).toEqual([])
  return data[name]
}
const save = (tenant: Tenant, head: string): Promise<Loose> =>
  mutate(tenant, 'savePipeline', { path, yaml: `pipeline_id: p\n${head}\n${steps}` })

const fields = `id name source cron timezone misfire overlap catchupMax isPaused pausedBy nextFireAt failures version parameters
  problem { code } nextFireTimes(first: 3) fires { nodes { fireAt state source run { state parameters trigger requestedBy } problem { code message } } }`
async function schedulesOf({ token }: Tenant): Promise<Loose[]> {
  const { data, errors } = await plane.query(`{ schedules { nodes { ${fields} } } }`, { token })
  expect(errors).toEqual([])
  return data.schedules.nodes
}
async function onlySchedule(tenant: Tenant): Promise<Loose> {
  const all = await schedulesOf(tenant)
  expect(all).toHaveLength(1)
  return all[0]
}
/** What became of the slots, oldest first. */
const firesOf = async (tenant: Tenant): Promise<string[]> =>
  (await onlySchedule(tenant)).fires.nodes.map(({ state }: Loose) => state).toReversed()

/** The schedule's first undecided slot lies so far back, as if nobody had ticked since. */
const outage = (tenant: Tenant, ago: string): Promise<void> =>
  tamper(
    plane.ports.db,
    sql`update app.schedule set next_fire_at = date_trunc('minute', now()) - ${ago}::interval where tenant_id = ${tenant.id}`,
  )
/** Ticks until nothing of anybody is due. */
async function fireAll(): Promise<void> {
  while ((await fireDue(plane.ports, 'worker')) > 0);
}

describe('the schedule of a file', () => {
  test('is that of the saved file: made, changed and removed with it', async () => {
    const a = await plane.tenant()
    expect(
      await save(a, 'schedule: { cron: "0 2 * * *", timezone: Europe/Berlin, catchup: true, overlap: queue }'),
    ).toEqual({ errors: [] })
    const made = await onlySchedule(a)
    expect(made).toMatchObject({
      name: 'yaml',
      source: 'YAML',
      cron: '0 2 * * *',
      timezone: 'Europe/Berlin',
      misfire: 'ALL',
      overlap: 'QUEUE',
      isPaused: false,
      version: 1,
    })
    await save(
      a,
      'schedule: { cron: "0 2 * * *", timezone: Europe/Berlin, catchup: true, overlap: queue }\ndescription: other',
    )
    expect(await onlySchedule(a)).toEqual(made)
    await save(a, 'schedule: { cron: "0 3 * * *" }')
    expect(await onlySchedule(a)).toMatchObject({
      id: made.id,
      cron: '0 3 * * *',
      timezone: 'UTC',
      misfire: 'LATEST',
      version: 2,
    })
    await save(a, 'description: none')
    expect(await schedulesOf(a)).toEqual([])
  })

  test('stays paused when the file is saved again, and fires at its next time when it is resumed', async () => {
    const a = await plane.tenant()
    await save(a, 'schedule: { cron: "* * * * *" }')
    const { id } = await onlySchedule(a)
    await mutate(a, 'pauseSchedule', { id })
    await save(a, 'schedule: { cron: "*/2 * * * *" }')
    expect(await onlySchedule(a)).toMatchObject({ isPaused: true, nextFireAt: null, nextFireTimes: [] })
    await mutate(a, 'resumeSchedule', { id })
    const resumed = await onlySchedule(a)
    expect(resumed.isPaused).toBe(false)
    expect(Date.parse(resumed.nextFireAt)).toBeGreaterThan(Date.now())
  })

  test('cannot be changed or deleted beside the file', async () => {
    const a = await plane.tenant()
    await save(a, 'schedule: { cron: "0 2 * * *" }')
    const { id } = await onlySchedule(a)
    for (const [name, input] of [
      ['deleteSchedule', { id }],
      ['upsertSchedule', { pipeline: path, name: 'yaml', cron: '* * * * *' }],
    ] as const)
      expect((await mutate(a, name, input)).errors).toEqual([expect.objectContaining({ code: 'CONFLICT' })])
  })

  test('is refused at its line where the plan allows no more often, by the check as well', async () => {
    const a = await plane.tenant()
    await tamper(plane.ports.db, sql`update app.tenant set plan = 'STARTER' where id = ${a.id}`)
    const refusal = { errors: [expect.objectContaining({ line: 2, column: 19, problem: 'BAD_VALUE' })] }
    expect(await save(a, 'schedule: { cron: "* * * * *" }')).toEqual(refusal)
    expect(
      await mutate(a, 'validatePipeline', { yaml: `pipeline_id: p\nschedule: { cron: "* * * * *" }\n${steps}` }),
    ).toEqual(refusal)
    expect(await save(a, 'schedule: { cron: "*/5 * * * *" }')).toEqual({ errors: [] })
  })
})

describe('a slot', () => {
  test('starts a run with the day of the slot in its zone, once', async () => {
    const a = await plane.tenant()
    await save(
      a,
      'schedule: { cron: "30 23 * * *", timezone: America/New_York, parameters: { region: EU } }\nparameters: { region: { type: string } }',
    )
    const day = '2026-03-01'
    await tamper(
      plane.ports.db,
      sql`update app.schedule set catchup_max = 1, misfire = 'all', next_fire_at = '2026-03-02T04:30Z', cron = '30 23 1 3 *' where tenant_id = ${a.id}`,
    )
    await fireAll()
    await fireAll()
    const { fires, nextFireAt } = await onlySchedule(a)
    expect(fires.nodes).toHaveLength(1)
    expect(fires.nodes[0]).toMatchObject({
      fireAt: '2026-03-02T04:30:00.000Z',
      state: 'STARTED',
      run: {
        parameters: { date: day, region: 'EU' },
        trigger: 'schedule',
        requestedBy: expect.stringMatching(/^schedule:sch_/),
      },
    })
    expect(nextFireAt).toBe('2027-03-02T04:30:00.000Z')
  })

  test('fires once with two tickers at the same time', async () => {
    const tenants = await Promise.all(Array.from({ length: 4 }, () => plane.tenant()))
    for (const tenant of tenants) {
      await save(tenant, 'schedule: { cron: "* * * * *", catchup: all }')
      await outage(tenant, '7 minutes')
    }
    const ticker = async (): Promise<void> => {
      for (let round = 0; round < 6; round++) await fireDue(plane.ports, 'worker', { limit: 3 })
    }
    await Promise.all([ticker(), ticker(), ticker()])
    await fireAll()
    for (const tenant of tenants) {
      const fires = (await onlySchedule(tenant)).fires.nodes
      expect(fires.length).toBeGreaterThanOrEqual(8)
      const [row] = await rowsOf<{ runs: number }>(
        plane.ports.db,
        sql`select count(*)::int as runs from app.pipeline_run where tenant_id = ${tenant.id}`,
      )
      expect(row?.runs).toBe(fires.length)
      const gaps = fires.map(
        ({ fireAt }: Loose, n: number) => Date.parse(fires[0].fireAt) - Date.parse(fireAt) - n * 60_000,
      )
      expect(new Set(gaps)).toEqual(new Set([0]))
    }
  })

  test('of a suspended tenant waits until it is resumed', async () => {
    const a = await plane.tenant()
    await save(a, 'schedule: { cron: "* * * * *" }')
    await outage(a, '2 minutes')
    await tamper(plane.ports.db, sql`update app.tenant set status = 'suspended' where id = ${a.id}`)
    await fireAll()
    expect(await firesOf(a)).toEqual([])
    await tamper(plane.ports.db, sql`update app.tenant set status = 'active' where id = ${a.id}`)
    await fireAll()
    expect(await firesOf(a)).toEqual(['MISSED', 'STARTED'])
  })

  test('of a paused schedule does not fire', async () => {
    const a = await plane.tenant()
    await save(a, 'schedule: { cron: "* * * * *" }')
    await outage(a, '2 minutes')
    await mutate(a, 'pauseSchedule', { id: (await onlySchedule(a)).id })
    await fireAll()
    expect(await firesOf(a)).toEqual([])
  })

  test('never fires again when the clock of the database goes back', async () => {
    const a = await plane.tenant()
    await save(a, 'schedule: { cron: "* * * * *" }')
    await outage(a, '0 minutes')
    await fireAll()
    // The same slot is due a second time.
    await outage(a, '0 minutes')
    await fireAll()
    expect((await firesOf(a)).filter((state) => state === 'STARTED').length).toBeLessThanOrEqual(2)
    const [row] = await rowsOf<{ runs: number; slots: number }>(
      plane.ports.db,
      sql`select count(*)::int as runs, count(distinct idempotency_key)::int as slots from app.pipeline_run where tenant_id = ${a.id}`,
    )
    expect(row?.runs).toBe(row?.slots)
  })
})

describe('after an outage', () => {
  const states = async (catchup: string, ago: string): Promise<string[]> => {
    const a = await plane.tenant()
    await save(a, `schedule: { cron: "*/10 * * * *", catchup: ${catchup} }`)
    await tamper(
      plane.ports.db,
      sql`update app.schedule set catchup_max = 3, next_fire_at = date_trunc('hour', now()) - ${ago}::interval where tenant_id = ${a.id}`,
    )
    await fireAll()
    return firesOf(a)
  }
  test('"latest" fires the last slot', async () => {
    expect(await states('latest', '24 hours')).toEqual(['MISSED', 'STARTED'])
  })
  test('"all" fires the last ones up to its bound, oldest first', async () => {
    expect(await states('all', '24 hours')).toEqual(['MISSED', 'STARTED', 'STARTED', 'STARTED'])
  })
  test('"skip" fires none that is older than five minutes', async () => {
    const a = await plane.tenant()
    await save(a, 'schedule: { cron: "0 0 1 1 *", catchup: skip }')
    await outage(a, '400 days')
    await fireAll()
    expect(await firesOf(a)).toEqual(['MISSED'])
  })
  test('of years of minutes, deciding takes no longer than of an hour', async () => {
    const decide = (ago: string, enough: number): Promise<number> =>
      leastMs(enough, async () => {
        const a = await plane.tenant()
        await save(a, 'schedule: { cron: "* * * * *" }')
        await outage(a, ago)
        await fireAll()
        expect((await firesOf(a)).slice(0, 2)).toEqual(['MISSED', 'STARTED'])
      })
    // About the same here, with 87,600 times as many minutes.
    const bound = 10 * (await decide('1 hour', 0))
    expect(await decide('3650 days', bound)).toBeLessThan(bound)
  })
})

describe('while a run before it is unfinished', () => {
  const fire = async (a: Tenant): Promise<void> => {
    await outage(a, '0 minutes')
    await tamper(
      plane.ports.db,
      sql`update app.schedule_fire set fire_at = fire_at - interval '1 hour' where tenant_id = ${a.id}`,
      sql`update app.schedule set waiting_fire_at = waiting_fire_at - interval '1 hour' where tenant_id = ${a.id}`,
    )
    await fireAll()
  }
  test('"allow" starts another, "skip" passes over', async () => {
    const [a, b] = [await plane.tenant(), await plane.tenant()]
    await save(a, 'schedule: { cron: "0 0 1 1 *" }')
    await save(b, 'schedule: { cron: "0 0 1 1 *", overlap: skip }')
    for (const tenant of [a, b]) {
      await mutate(tenant, 'triggerSchedule', { id: (await onlySchedule(tenant)).id })
      await tamper(
        plane.ports.db,
        sql`update app.schedule set cron = '* * * * *', next_fire_at = date_trunc('minute', now()) where tenant_id = ${tenant.id}`,
      )
    }
    await fireAll()
    expect((await firesOf(a)).filter((state) => state === 'SKIPPED')).toEqual([])
    const { fires } = await onlySchedule(b)
    expect(fires.nodes.find(({ source }: Loose) => source === 'SCHEDULE')).toMatchObject({
      state: 'SKIPPED',
      problem: { code: 'CONFLICT' },
    })
  })

  test('"queue" lets one wait, which starts when that run has ended', async () => {
    const a = await plane.tenant()
    await save(a, 'schedule: { cron: "* * * * *", overlap: queue }')
    await fire(a)
    expect(await firesOf(a)).toEqual(['STARTED'])
    await fire(a)
    expect(await firesOf(a)).toEqual(['STARTED', 'WAITING'])
    await fire(a)
    expect(await firesOf(a)).toEqual(['STARTED', 'WAITING', 'SKIPPED'])
    await tamper(
      plane.ports.db,
      sql`update app.schedule set next_fire_at = now() + interval '1 day' where tenant_id = ${a.id}`,
    )
    await fireAll()
    expect(await firesOf(a)).toEqual(['STARTED', 'WAITING', 'SKIPPED'])
    await using _worker = smallWorker(plane.ports)
    await until('the waiting slot has started', async () => {
      await fireAll()
      return (await firesOf(a))[1] === 'STARTED'
    })
    await until('both runs have ended', async () =>
      (await onlySchedule(a)).fires.nodes.every(({ run }: Loose) => run === null || run.state === 'SUCCEEDED'),
    )
  })
})

describe('what cannot start', () => {
  test('says why in its fire, and the schedule goes on', async () => {
    const a = await plane.tenant()
    await save(a, 'schedule: { cron: "* * * * *" }')
    await tamper(plane.ports.db, sql`update app.tenant_limit set runs_per_month = 1 where tenant_id = ${a.id}`)
    await mutate(a, 'triggerSchedule', { id: (await onlySchedule(a)).id })
    await outage(a, '0 minutes')
    await fireAll()
    const seen = await onlySchedule(a)
    expect(seen).toMatchObject({ isPaused: false, failures: 0, problem: { code: 'QUOTA_EXCEEDED' } })
    expect(seen.fires.nodes.find(({ source }: Loose) => source === 'SCHEDULE')).toMatchObject({
      state: 'REFUSED',
      problem: { code: 'QUOTA_EXCEEDED' },
      run: null,
    })
    expect(Date.parse(seen.nextFireAt)).toBeGreaterThan(Date.now() - 60_000)
  })

  test('pauses the schedule by itself after ten failures of configuration in a row, with an audit row', async () => {
    const a = await plane.tenant()
    await save(a, 'schedule: { cron: "* * * * *", catchup: all }')
    await tamper(plane.ports.db, sql`update app.pipeline_version set yaml = 'pipeline_id: p' where tenant_id = ${a.id}`)
    await outage(a, '8 minutes')
    await fireAll()
    const failing = await onlySchedule(a)
    expect(failing).toMatchObject({ isPaused: false, problem: { code: 'CONFIG_INVALID' } })
    expect(failing.failures).toBeGreaterThanOrEqual(9)
    await tamper(
      plane.ports.db,
      sql`update app.schedule_fire set fire_at = fire_at - interval '1 day' where tenant_id = ${a.id}`,
    )
    await outage(a, '5 minutes')
    await fireAll()
    expect(await onlySchedule(a)).toMatchObject({ isPaused: true, pausedBy: 'system:schedules', nextFireAt: null })
    const rows = await rowsOf<{ details: Loose }>(
      plane.ports.db,
      sql`select details from app.audit_event where tenant_id = ${a.id} and action = 'schedule.paused'`,
    )
    expect(rows).toEqual([{ details: { code: 'CONFIG_INVALID', failures: expect.any(Number) } }])
  })

  test('by a fault of ours is held for a minute and keeps no other tenant from firing', async () => {
    const [a, b] = [await plane.tenant(), await plane.tenant()]
    for (const tenant of [a, b]) {
      await save(tenant, 'schedule: { cron: "* * * * *" }')
      await outage(tenant, '1 minute')
    }
    await tamper(plane.ports.db, sql`update app.schedule set timezone = 'Nowhere/At_All' where tenant_id = ${a.id}`)
    await fireAll()
    expect((await firesOf(b)).at(-1)).toBe('STARTED')
    expect(plane.logged.some((line) => line.includes('trigger.failed') && line.includes(a.id))).toBe(true)
    expect(await fireDue(plane.ports, 'worker')).toBe(0)
    await tamper(plane.ports.db, sql`delete from app.schedule where tenant_id = ${a.id}`)
  })
})

describe('a schedule by the API', () => {
  test('is made for a template, changed, triggered and deleted', async () => {
    const a = await plane.tenant()
    const template = 'demo/places/daily'
    const first = await mutate(
      a,
      'upsertSchedule',
      { pipeline: template, cron: '@daily', timezone: 'Europe/Berlin' },
      'created schedule { id version }',
    )
    expect(first).toMatchObject({ created: true, errors: [] })
    const second = await mutate(
      a,
      'upsertSchedule',
      {
        pipeline: template,
        cron: '0 5 * * MON-FRI',
        misfire: 'ALL',
        catchupMax: 7,
        overlap: 'SKIP',
        expectedVersion: 1,
      },
      'created schedule { id version }',
    )
    expect(second).toMatchObject({ created: false, schedule: { id: first.schedule.id, version: 2 }, errors: [] })
    expect(await onlySchedule(a)).toMatchObject({
      timezone: 'Europe/Berlin',
      misfire: 'ALL',
      catchupMax: 7,
      overlap: 'SKIP',
    })
    expect((await onlySchedule(a)).nextFireTimes).toHaveLength(3)
    const { id } = first.schedule
    await mutate(a, 'pauseSchedule', { id })
    const fired = await mutate(a, 'triggerSchedule', { id }, 'fire { state source run { pipelinePath requestedBy } }')
    expect(fired).toMatchObject({
      errors: [],
      fire: { state: 'STARTED', source: 'MANUAL', run: { pipelinePath: template } },
    })
    expect(await mutate(a, 'deleteSchedule', { id }, 'id')).toEqual({ id, errors: [] })
    expect(await schedulesOf(a)).toEqual([])
  })

  test.for(['worker', 'api'] as const)('fires a template that the tenant never ran, by the %s', async (side) => {
    const a = await plane.tenant()
    await mutate(a, 'upsertSchedule', { pipeline: 'demo/places/daily', cron: '* * * * *' })
    await outage(a, '0 minutes')
    await fireDue(plane.ports, side)
    expect(await firesOf(a)).toContain('STARTED')
  })

  test.for([
    [{ cron: '0 0 31 6 *' }, 'BAD_INPUT', 'cron'],
    [{ cron: '* * * *' }, 'BAD_INPUT', 'cron'],
    [{ timezone: 'Mars/Phobos' }, 'BAD_INPUT', 'timezone'],
    [{ name: 'Ä' }, 'BAD_INPUT', 'name'],
    [{ catchupMax: 0 }, 'BAD_INPUT', 'catchupMax'],
    [{ parameters: ['x'] }, 'BAD_INPUT', 'parameters'],
    [{ parameters: { nothing: 1 } }, 'PARAMETER_INVALID', 'nothing'],
    [{ pipeline: 'no/such/one' }, 'NOT_FOUND', 'pipeline'],
    [{ pipeline: 'system/tenant/dismantle' }, 'NOT_FOUND', 'pipeline'],
    [{ environment: 'prod' }, 'NOT_FOUND', 'environment'],
    [{ expectedVersion: 4 }, 'CONFLICT', 'expectedVersion'],
  ] as const)('is refused with %o as %s at %s', async ([input, code, place]) => {
    const a = await plane.tenant()
    const { errors } = await mutate(a, 'upsertSchedule', { pipeline: 'demo/places/daily', cron: '0 2 * * *', ...input })
    expect(errors).toEqual([expect.objectContaining({ code, path: [place] })])
    expect(await schedulesOf(a)).toEqual([])
  })

  test('of another tenant and a missing one are the same', async () => {
    const [a, b] = [await plane.tenant(), await plane.tenant()]
    await save(a, 'schedule: { cron: "0 2 * * *" }')
    const { id } = await onlySchedule(a)
    const ask = async (which: string): Promise<string> =>
      (await plane.query(`{ schedule(id: "${which}") { id } }`, b)).text.replaceAll(/req_[0-9a-f]+/g, 'req')
    expect(await ask(id)).toBe(await ask('sch_0'))
    expect(await schedulesOf(b)).toEqual([])
    for (const name of ['pauseSchedule', 'resumeSchedule', 'deleteSchedule', 'triggerSchedule'])
      expect((await mutate(b, name, { id })).errors).toEqual((await mutate(b, name, { id: 'sch_0' })).errors)
  })

  test.for([
    [['schedules:read'], 'pauseSchedule'],
    [['schedules:read'], 'triggerSchedule'],
    [['runs:write'], 'deleteSchedule'],
  ] as [Scope[], string][])('needs more than %s for %s', async ([scopes, name]) => {
    const a = await plane.tenant()
    const token = await plane.key(a.id, { scopes })
    const type = `${name[0]?.toUpperCase()}${name.slice(1)}Input`
    const answer = await plane.query(`mutation ($input: ${type}!) { ${name}(input: $input) { __typename } }`, {
      token,
      variables: { input: { id: 'sch_0' } },
    })
    expect(answer.errors[0]?.extensions.code).toBe('FORBIDDEN')
  })
})
