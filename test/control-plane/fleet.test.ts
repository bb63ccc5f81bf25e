import { sql } from 'drizzle-orm'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { queueTypes } from '../../schema/states.ts'
import { rowsOf, withTenant } from '../../shared/db/db.ts'
import { leaveWorker, seeWorker } from '../../shared/runs/fleet.ts'
import { type Claim, claimSteps, completeStep, failStep, heartbeat, releaseStep } from '../../shared/runs/ledger.ts'
import {
  type ControlPlane,
  controlPlane,
  type Frame,
  type Loose,
  hintsAlone,
  smallWorker,
  until,
} from '../support/control-plane.ts'

type Tenant = { id: string; token: string }
let plane: ControlPlane
beforeAll(async () => {
  plane = await controlPlane()
})
afterAll(() => plane[Symbol.asyncDispose]())
// Whatever a test left of the one switch that all share.
afterEach(() => control({ action: 'START', all: true }, plane.platformToken))

const fields =
  'name type state queued running limit stepsPerTurn pausedBy pausedAt oldestWaitingSeconds workers { count }'
const control = async (input: object, token: string): Promise<Loose> => {
  const { data, errors } = await plane.query(
    `mutation ($input: ControlWorkersInput!) { controlWorkers(input: $input) { queues { ${fields} } fleet { isRunning } errors { code message hint path } } }`,
    { token, variables: { input } },
  )
  return data?.controlWorkers ?? { errors: errors.map(({ extensions }) => ({ code: extensions.code })) }
}
const queuesOf = async (token: string, tenantId?: string): Promise<Loose[]> =>
  (
    await plane.query(`query ($tenantId: ID) { queues(tenantId: $tenantId, first: 100) { nodes { ${fields} } } }`, {
      token,
      variables: { tenantId },
    })
  ).data.queues.nodes
const state = async (t: Tenant, type = 'EXPORT'): Promise<string> =>
  (await queuesOf(t.token)).find((queue) => queue.type === type).state

/** An active tenant with a pipeline of one step in its queue `export`. */
async function tenant(): Promise<Tenant> {
  const made = await plane.tenant()
  await plane.query('mutation ($input: SavePipelineInput!) { savePipeline(input: $input) { created } }', {
    token: made.token,
    variables: {
      input: {
        path: 'x/y/z',
        yaml: 'pipeline_id: p\nsteps:\n  - step_id: only\n    ps_type: file.delete\n    paths: ["a"]\n    retry: { attempts: 1 }\n',
      },
    },
  })
  return made
}
const start = async ({ token }: Tenant): Promise<string> =>
  (await plane.query('mutation { runPipeline(input: { pipeline: "x/y/z" }) { run { id } } }', { token })).data
    .runPipeline.run.id
const claim = async (t: Tenant): Promise<Claim[]> =>
  claimSteps(plane.ports.db, { worker: 'wrk_1', queues: queueTypes, limit: 10, leaseMs: 30_000, tenants: [t.id] })
const only = async (t: Tenant): Promise<Claim> => {
  const [one] = await claim(t)
  if (!one) throw new Error('nothing could be claimed')
  return one
}
const beat = (one: Claim): Promise<string> => heartbeat(plane.ports.db, one, 30_000)
const audited = (tenantId: string): Promise<{ action: string; actor: string; details: Loose }[]> =>
  rowsOf(
    plane.ports.db,
    sql`select action, actor, details from app.audit_event where tenant_id = ${tenantId} and action like 'workers.%' order by seq`,
  )

describe('a stop', () => {
  test('lets running steps end, takes no new ones, and is a stop when nothing runs any more', async () => {
    const t = await tenant()
    await start(t)
    const running = await only(t)
    await start(t)
    const { queues } = await control({ action: 'STOP' }, t.token)
    expect(queues.find(({ type }: Loose) => type === 'EXPORT')).toMatchObject({
      state: 'DRAINING',
      running: 1,
      queued: 1,
    })
    expect(queues.find(({ type }: Loose) => type === 'INGEST')).toMatchObject({ state: 'STOPPED', running: 0 })
    expect(await beat(running)).toBe('ok')
    expect(await claim(t)).toEqual([])
    await completeStep(plane.ports.db, running, {}, [])
    expect(await state(t)).toBe('STOPPED')
    await control({ action: 'START' }, t.token)
    expect(await state(t)).toBe('RUNNING')
    expect(await claim(t)).toHaveLength(1)
  })

  test('of a tenant refuses no run: it waits until the queue is started', async () => {
    const t = await tenant()
    await control({ action: 'STOP', force: true }, t.token)
    const id = await start(t)
    await using worker = smallWorker(plane.ports)
    const seen = async (): Promise<string> => (await plane.query(`{ run(id: "${id}") { state } }`, t)).data.run.state
    await smallWorkerHasLooked(t)
    expect(await seen()).toBe('QUEUED')
    expect(worker.done).not.toContain(`${t.id} only`)
    await control({ action: 'START' }, t.token)
    await until('the run has ended', async () => (await seen()) === 'SUCCEEDED')
  })

  test('by force has running steps given back, their attempt not counted', async () => {
    const t = await tenant()
    await start(t)
    const running = await only(t)
    await control({ action: 'STOP' }, t.token)
    expect(await beat(running)).toBe('ok')
    await control({ action: 'STOP', force: true }, t.token)
    expect(await beat(running)).toBe('release')
    expect(await state(t)).toBe('DRAINING')
    expect(await releaseStep(plane.ports.db, running, 'stop')).toBe('released')
    expect(await state(t)).toBe('STOPPED')
    await control({ action: 'START' }, t.token)
    expect((await only(t)).attempt).toBe(1)
  })

  test('by force holds for its steps even when the queue is started before they hear of it', async () => {
    const t = await tenant()
    await start(t)
    const running = await only(t)
    await control({ action: 'STOP', force: true }, t.token)
    await control({ action: 'START' }, t.token)
    expect(await beat(running)).toBe('release')
  })

  test('of one queue leaves the others running', async () => {
    const t = await tenant()
    await control({ action: 'STOP', queues: ['INGEST', 'DELIVERY'] }, t.token)
    const states = (await queuesOf(t.token)).map(({ type, state }) => `${type} ${state}`)
    expect(states).toEqual(['DELIVERY STOPPED', 'EXPORT RUNNING', 'INGEST STOPPED', 'TRANSFORM RUNNING'])
  })
})

describe('a restart', () => {
  test('has running steps given back once, and those that came after it left alone', async () => {
    const t = await tenant()
    await start(t)
    const before = await only(t)
    await control({ action: 'RESTART' }, t.token)
    await control({ action: 'RESTART' }, t.token)
    expect(await beat(before)).toBe('release')
    await releaseStep(plane.ports.db, before, 'stop')
    const after = await only(t)
    expect(after.fence > before.fence).toBe(true)
    expect(await beat(after)).toBe('ok')
    expect((await audited(t.id)).map(({ action }) => action)).toEqual(['workers.restarted'])
  })

  test('starts a queue that was stopped', async () => {
    const t = await tenant()
    await control({ action: 'STOP' }, t.token)
    await control({ action: 'RESTART' }, t.token)
    expect(await state(t)).toBe('RUNNING')
  })
})

describe('what is done to queues', () => {
  test('leaves one audit row for each change and none for a repeat, by whom and to which queues', async () => {
    const t = await tenant()
    const stop = { action: 'STOP', queues: ['EXPORT'] }
    for (const input of [stop, stop, { ...stop, force: true }, stop, { action: 'START' }, { action: 'START' }])
      expect((await control(input, t.token)).errors).toEqual([])
    const actor = `key:${t.token.split('.')[0]}`
    expect(await audited(t.id)).toEqual([
      { action: 'workers.stopped', actor, details: { queues: ['export'], force: false } },
      { action: 'workers.stopped', actor, details: { queues: ['export'], force: true } },
      { action: 'workers.started', actor, details: { queues: ['export'] } },
    ])
  })

  test('shows who stopped a queue and when, until it is started', async () => {
    const t = await tenant()
    const { queues } = await control({ action: 'STOP', queues: ['EXPORT'] }, t.token)
    expect(queues).toMatchObject([{ pausedBy: `key:${t.token.split('.')[0]}`, pausedAt: expect.any(String) }])
    const after = await control({ action: 'START', queues: ['EXPORT'] }, t.token)
    expect(after.queues).toMatchObject([{ pausedBy: null, pausedAt: null }])
  })

  test('wakes the workers after the commit, once per queue that was started', async () => {
    const t = await tenant()
    await start(t)
    await control({ action: 'STOP' }, t.token)
    const woken: string[] = []
    const found: Promise<Claim[]>[] = []
    using _listening = plane.ports.waker.listen(({ tenantId, queue }) => {
      woken.push(`${tenantId} ${queue}`)
      found.push(claim(t))
    })
    await control({ action: 'START' }, t.token)
    await until('all are woken', () => woken.length === 4)
    expect(woken.toSorted()).toEqual(queueTypes.map((queue) => `${t.id} ${queue}`).toSorted())
    expect((await Promise.all(found)).flat()).toHaveLength(1)
  })

  test('is refused for a queue list that is empty, and for a platform key that names no tenant', async () => {
    const t = await tenant()
    expect((await control({ action: 'STOP', queues: [] }, t.token)).errors).toMatchObject([{ code: 'BAD_INPUT' }])
    expect((await control({ action: 'STOP' }, plane.platformToken)).errors).toMatchObject([{ code: 'BAD_INPUT' }])
    const both = await control({ action: 'STOP', all: true, tenantId: t.id }, plane.platformToken)
    expect(both.errors).toMatchObject([{ code: 'BAD_INPUT' }])
    const missing = await control({ action: 'STOP', tenantId: 'no_such_tenant' }, plane.platformToken)
    expect(missing.errors).toMatchObject([{ code: 'NOT_FOUND' }])
  })
})

describe('between tenants', () => {
  const same = (text: string): string => text.replaceAll(/req_[0-9a-f]+/g, 'req')

  test('another tenant’s queues and those of nobody answer alike, byte for byte', async () => {
    const [a, b] = [await tenant(), await tenant()]
    const documents = [
      (id: string) => `mutation { controlWorkers(input: { action: STOP, tenantId: "${id}" }) { errors { code } } }`,
      (id: string) => `{ queues(tenantId: "${id}") { nodes { name } } }`,
      (id: string) => `{ workers(tenantId: "${id}") { count } }`,
    ]
    for (const document of documents) {
      const [foreign, missing] = [await plane.query(document(b.id), a), await plane.query(document('nobody'), a)]
      expect(same(foreign.text)).toBe(same(missing.text))
      expect(foreign.errors[0]?.extensions.code).toMatch(/FORBIDDEN|NOT_FOUND/)
    }
    expect(await state(b)).toBe('RUNNING')
    const watched = await Promise.all(
      [b.id, 'nobody'].map(async (id) => {
        const frames: Frame[] = []
        const watch = `subscription { queueStatus(tenantId: "${id}") { name } }`
        for await (const frame of plane.subscribe(watch, { token: a.token })) frames.push(frame)
        return same(JSON.stringify(frames))
      }),
    )
    expect(watched[0]).toBe(watched[1])
    expect(watched[0]).toContain('NOT_FOUND')
  })

  test('a tenant turns no switch over all, and sees neither the fleet nor a host', async () => {
    const { token } = await tenant()
    expect((await control({ action: 'STOP', all: true }, token)).errors).toEqual([{ code: 'FORBIDDEN' }])
    for (const document of ['{ fleet { workers } }', '{ workers { processes { nodes { host } } } }'])
      expect((await plane.query(document, { token })).errors[0]?.extensions.code).toBe('FORBIDDEN')
    const limits = 'mutation ($i: QueueLimitsInput!) { setQueueLimits(input: $i) { errors { code } } }'
    const variables = { i: { tenantId: 'nobody', queue: 'EXPORT', maxRunning: 2 } }
    expect((await plane.query(limits, { token, variables })).errors[0]?.extensions.code).toBe('FORBIDDEN')
  })

  test('the database itself shows a transaction no queue, error or figure of another tenant', async () => {
    const [a, b] = [await tenant(), await tenant()]
    const refused = [
      sql`select * from app.queue_status(${b.id}, '', '', 10)`,
      sql`select * from app.queue_status(null, '', '', 10)`,
      sql`select * from app.queue_errors(array[${b.id}]::text[], array['export']::text[], 10, array[]::text[], 'x', 'x')`,
      sql`select app.fleet_status()`,
      sql`select app.control_fleet('stop', true, 'x', 'x')`,
    ]
    for (const statement of refused) {
      const asked = withTenant(plane.ports.db, { tenantId: a.id, side: 'api' }, (tx) => rowsOf(tx, statement))
      await expect(asked).rejects.toMatchObject({ cause: { message: 'this transaction does not see that tenant' } })
    }
  })

  test('a key without the scope neither reads nor changes, and one that reads does not change', async () => {
    const t = await tenant()
    const blind = await plane.key(t.id, { scopes: ['runs:read'] })
    const reader = await plane.key(t.id, { scopes: ['workers:read'] })
    expect((await plane.query('{ queues { nodes { name } } }', { token: blind })).errors).toHaveLength(1)
    expect(await queuesOf(reader)).toHaveLength(4)
    expect((await control({ action: 'STOP' }, reader)).errors).toEqual([{ code: 'FORBIDDEN' }])
    expect(await state(t)).toBe('RUNNING')
  })
})

describe('the platform', () => {
  test('stops a tenant’s queues, which that tenant cannot start, and starts them again', async () => {
    const t = await tenant()
    const { platformToken } = plane
    await control({ action: 'STOP', tenantId: t.id, queues: ['EXPORT'] }, platformToken)
    expect((await queuesOf(t.token)).find(({ type }) => type === 'EXPORT')).toMatchObject({ pausedBy: 'platform' })
    for (const action of ['START', 'RESTART'])
      expect((await control({ action }, t.token)).errors).toMatchObject([{ code: 'CONFLICT' }])
    expect((await control({ action: 'START', queues: ['INGEST'] }, t.token)).errors).toEqual([])
    expect((await control({ action: 'STOP', force: true }, t.token)).errors).toEqual([])
    expect((await control({ action: 'START', queues: ['EXPORT'] }, t.token)).errors).toHaveLength(1)
    expect((await control({ action: 'START', tenantId: t.id }, platformToken)).errors).toEqual([])
    expect(await state(t)).toBe('RUNNING')
  })

  test('stops everything with one switch, which no tenant lifts, and brings back what was', async () => {
    const [a, b, held] = [await tenant(), await tenant(), await tenant()]
    await control({ action: 'STOP', queues: ['EXPORT'] }, a.token)
    await control({ action: 'STOP', tenantId: held.id }, plane.platformToken)
    await start(b)
    const running = await only(b)
    await start(b)
    expect(await control({ action: 'STOP', all: true }, plane.platformToken)).toMatchObject({
      queues: [],
      fleet: { isRunning: false },
      errors: [],
    })
    expect([await state(b), await state(b, 'INGEST')]).toEqual(['DRAINING', 'STOPPED'])
    expect((await queuesOf(b.token))[0]).toMatchObject({ pausedBy: 'platform', pausedAt: expect.any(String) })
    expect(await beat(running)).toBe('ok')
    await control({ action: 'START' }, b.token)
    expect(await claim(b)).toEqual([])
    await control({ action: 'START', all: true }, plane.platformToken)
    expect([await state(a), await state(b), await state(held)]).toEqual(['STOPPED', 'RUNNING', 'RUNNING'])
    expect(await claim(b)).toHaveLength(1)
    expect((await audited('platform')).slice(-2)).toMatchObject([
      { action: 'workers.stopped', details: { force: false } },
      { action: 'workers.started' },
    ])
  })

  test('by force has every step given back, those whose claim was on its way among them', async () => {
    const t = await tenant()
    await start(t)
    const running = await only(t)
    await control({ action: 'STOP', all: true, force: true }, plane.platformToken)
    expect(await beat(running)).toBe('release')
    await control({ action: 'START', all: true }, plane.platformToken)
    expect(await beat(running)).toBe('release')
    await releaseStep(plane.ports.db, running, 'stop')
    expect(await beat(await only(t))).toBe('ok')
  })

  test('restarts everything once: a repeat leaves alone what is on its way back', async () => {
    const t = await tenant()
    await start(t)
    const running = await only(t)
    const before = (await audited('platform')).length
    for (const _ of [1, 2]) await control({ action: 'RESTART', all: true }, plane.platformToken)
    expect(await beat(running)).toBe('release')
    expect(await audited('platform')).toHaveLength(before + 1)
    await releaseStep(plane.ports.db, running, 'stop')
    expect(await beat(await only(t))).toBe('ok')
  })

  test('sets limits and stepsPerTurn of a queue, which its claims obey, with an audit row that says from what', async () => {
    const t = await tenant()
    for (let i = 0; i < 5; i++) await start(t)
    const set = async (input: object): Promise<Loose> =>
      (
        await plane.query(
          `mutation ($input: QueueLimitsInput!) { setQueueLimits(input: $input) { queue { limit stepsPerTurn } errors { code path } } }`,
          { token: plane.platformToken, variables: { input: { tenantId: t.id, queue: 'EXPORT', ...input } } },
        )
      ).data.setQueueLimits
    expect(await set({ maxRunning: 3, stepsPerTurn: 3 })).toEqual({ queue: { limit: 3, stepsPerTurn: 3 }, errors: [] })
    expect(await claim(t)).toHaveLength(3)
    expect(await claim(t)).toEqual([])
    expect(await set({ stepsPerTurn: 3 })).toMatchObject({ queue: { limit: 3, stepsPerTurn: 3 } })
    const rows = await rowsOf(
      plane.ports.db,
      sql`select target, details from app.audit_event where tenant_id = ${t.id} and action = 'queue.limited'`,
    )
    expect(rows).toEqual([
      {
        target: 'export',
        details: { from: { maxRunning: 2, stepsPerTurn: 1 }, to: { maxRunning: 3, stepsPerTurn: 3 } },
      },
    ])
    for (const bad of [{ maxRunning: 0 }, { maxRunning: 1001 }, { stepsPerTurn: 101 }, {}])
      expect((await set(bad)).errors).toMatchObject([{ code: 'BAD_INPUT' }])
    expect((await set({ tenantId: 'nobody', stepsPerTurn: 1 })).errors).toMatchObject([{ code: 'NOT_FOUND' }])
  })

  test('pages through the queues of all tenants, each once and by tenant and name', async () => {
    for (let i = 0; i < 3; i++) await tenant()
    const names: string[] = []
    let after: string | null = null
    do {
      const { data }: Loose = await plane.query(
        'query ($after: String) { queues(first: 5, after: $after) { nodes { name } pageInfo { hasNextPage endCursor } } }',
        { token: plane.platformToken, variables: { after } },
      )
      names.push(...data.queues.nodes.map(({ name }: Loose) => name))
      after = data.queues.pageInfo.hasNextPage ? data.queues.pageInfo.endCursor : null
    } while (after !== null)
    const found = await rowsOf<{ name: string }>(
      plane.ports.db,
      sql`select queue || '_queue_tenant_' || tenant_id as name from app.tenant_queue order by tenant_id, queue`,
    )
    expect(names).toEqual(found.map(({ name }) => name))
  })
})

describe('status', () => {
  test('names a queue by type and tenant, and counts what waits and since when', async () => {
    const t = await tenant()
    await start(t)
    await start(t)
    expect((await queuesOf(t.token)).find(({ type }) => type === 'EXPORT')).toEqual({
      name: `export_queue_tenant_${t.id}`,
      type: 'EXPORT',
      state: 'RUNNING',
      queued: 2,
      running: 0,
      limit: 2,
      stepsPerTurn: 1,
      pausedBy: null,
      pausedAt: null,
      oldestWaitingSeconds: 0,
      workers: { count: 0 },
    })
  })

  test('shows the last ten failures of a queue, newest first, and tells the tenant when the platform looks', async () => {
    const t = await tenant()
    const runs: string[] = []
    for (let i = 0; i < 12; i++) {
      runs.unshift(await start(t))
      const error = { code: 'FILE_MISSING' as const, message: `No file ${i}.`, hint: '', retry: 'never' as const }
      await failStep(plane.ports.db, await only(t), error)
    }
    const document = `{ queues(tenantId: "${t.id}") { nodes { type lastErrors { runId step code message willRetry at } } } }`
    const read = async (token: string): Promise<Loose[]> =>
      (await plane.query(document, { token })).data.queues.nodes.find(({ type }: Loose) => type === 'EXPORT').lastErrors
    const errors = await read(t.token)
    expect(errors.map(({ runId }) => runId)).toEqual(runs.slice(0, 10))
    expect(errors[0]).toEqual({
      runId: runs[0],
      step: 'only',
      code: 'FILE_MISSING',
      message: 'No file 11.',
      willRetry: false,
      at: expect.any(String),
    })
    expect(await read(plane.platformToken)).toEqual(errors)
    const looks = await rowsOf(
      plane.ports.db,
      sql`select details ->> 'what' as what from app.audit_event where tenant_id = ${t.id} and action = 'tenant.read' order by seq`,
    )
    expect(looks).toEqual([{ what: 'queues' }, { what: 'errors' }])
  })

  test('counts the live workers that serve a queue, and shows hosts to the platform alone', async () => {
    const [a, b] = [await tenant(), await tenant()]
    const { db } = plane.ports
    const worker = { host: 'machine-7', pid: 7, version: '1.2.3', capacity: 4, running: 1, draining: false }
    await seeWorker(db, { ...worker, id: 'wrk_any', queues: queueTypes, tenants: null })
    await seeWorker(db, { ...worker, id: 'wrk_a', queues: ['export'], tenants: [a.id] })
    await seeWorker(db, { ...worker, id: 'wrk_ending', queues: queueTypes, tenants: null, draining: true })
    await seeWorker(db, { ...worker, id: 'wrk_silent', queues: queueTypes, tenants: null })
    await db.execute(sql`update app.worker set last_seen = now() - interval '31 seconds' where id = 'wrk_silent'`)
    const counts = async ({ token }: Tenant): Promise<string[]> =>
      (await queuesOf(token)).map(({ type, workers }) => `${type} ${workers.count}`)
    expect(await counts(a)).toEqual(['DELIVERY 1', 'EXPORT 2', 'INGEST 1', 'TRANSFORM 1'])
    expect(await counts(b)).toEqual(['DELIVERY 1', 'EXPORT 1', 'INGEST 1', 'TRANSFORM 1'])
    const asked = await plane.query('{ workers { count lastSeenAt } }', a)
    expect(asked.data.workers).toEqual({ count: 2, lastSeenAt: expect.any(String) })
    const all = await plane.query(
      '{ workers { count processes { nodes { id host version queues tenants isLive isDraining } } } fleet { workers capacity } }',
      { token: plane.platformToken },
    )
    expect(all.data.fleet).toEqual({ workers: 2, capacity: 8 })
    expect(all.data.workers.processes.nodes).toContainEqual({
      id: 'wrk_a',
      host: 'machine-7',
      version: '1.2.3',
      queues: ['EXPORT'],
      tenants: [a.id],
      isLive: true,
      isDraining: false,
    })
    await leaveWorker(db, 'wrk_a')
    await db.execute(sql`update app.worker set last_seen = now() - interval '25 hours' where id = 'wrk_silent'`)
    await seeWorker(db, { ...worker, id: 'wrk_any', queues: queueTypes, tenants: null })
    const left = await rowsOf(db, sql`select id from app.worker order by id`)
    expect(left).toEqual([{ id: 'wrk_any' }, { id: 'wrk_ending' }])
  })
})

describe('a watcher of queues', () => {
  const watch = 'subscription { queueStatus { type state queued running } }'

  test('sees all queues first, then each that changes, at the hint and not at the next look', async () => {
    const t = await tenant()
    const acts = [
      () => control({ action: 'STOP', queues: ['INGEST'] }, t.token),
      () => start(t),
      () => control({ action: 'START' }, t.token),
    ]
    const app = plane.appWith({}, { hub: hintsAlone(plane.ports.hub) })
    const seen: Loose[][] = []
    for await (const frame of plane.subscribe(watch, { token: t.token, app })) {
      seen.push(frame.data.data.queueStatus)
      const act = acts.shift()
      if (!act) break
      await act()
    }
    expect(seen[0]).toHaveLength(4)
    expect(seen.slice(1)).toEqual([
      [{ type: 'INGEST', state: 'STOPPED', queued: 0, running: 0 }],
      [{ type: 'EXPORT', state: 'RUNNING', queued: 1, running: 0 }],
      [{ type: 'INGEST', state: 'RUNNING', queued: 0, running: 0 }],
    ])
  })

  test('gets at most two events a second, however much happens', async () => {
    const t = await tenant()
    const times: number[] = []
    const reading = (async () => {
      for await (const _ of plane.subscribe(watch, { token: t.token })) if (times.push(Date.now()) === 4) break
    })()
    await until('three changes after the first look', async () => {
      await start(t)
      return times.length === 4
    })
    await reading
    // Three gaps of half a second; a frame that arrives late makes the one behind it seem early.
    expect((times.at(-1) ?? 0) - (times[0] ?? 0)).toBeGreaterThan(1_000)
  })

  test('hears no more once its key is revoked', async () => {
    const t = await tenant()
    const token = await plane.key(t.id, { scopes: ['workers:read'] })
    const frames: Frame[] = []
    for await (const frame of plane.subscribe(watch, { token })) {
      frames.push(frame)
      if (frames.length > 1) continue
      await plane.query(`mutation { revokeApiKey(input: { id: "${token.split('.')[0]}" }) { errors { code } } }`, t)
      await control({ action: 'STOP' }, t.token)
    }
    expect(frames[1]?.data).toMatchObject({ errors: [{ extensions: { code: 'UNAUTHENTICATED' } }] })
    expect(JSON.stringify(frames)).not.toContain('STOPPED')
  })
})

// A step of another tenant that goes through says that the small worker has been round.
async function smallWorkerHasLooked(not: Tenant): Promise<void> {
  const other = await tenant()
  expect(other.id).not.toBe(not.id)
  const id = await start(other)
  await until('another tenant’s run has ended', async () => {
    const { data } = await plane.query(`{ run(id: "${id}") { state } }`, other)
    return data.run.state === 'SUCCEEDED'
  })
}
