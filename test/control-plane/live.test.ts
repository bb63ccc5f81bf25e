import { setImmediate as nextTurn, setTimeout as wait } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { reportStep } from '../../shared/runs/ledger.ts'
import { inProcessHub } from '../../shared/waking/hub.ts'
import { percentOf } from '../../control-plane/runs/percent-of.ts'
import {
  type ControlPlane,
  controlPlane,
  type Frame,
  type Loose,
  smallWorker,
  until,
} from '../support/control-plane.ts'

type Tenant = { id: string; token: string }

let plane: ControlPlane
let a: Tenant
beforeAll(async () => {
  plane = await controlPlane()
  a = await newTenant()
})
afterAll(() => plane[Symbol.asyncDispose]())

async function newTenant(): Promise<Tenant> {
  const tenant = await plane.tenant()
  await plane.query('mutation ($input: SavePipelineInput!) { savePipeline(input: $input) { created } }', {
    token: tenant.token,
    variables: {
      input: {
        path: 'demo/files/clean',
        yaml: 'pipeline_id: clean\nsteps:\n  - step_id: only\n    ps_type: file.delete\n    paths: ["a"]\n    retry: { attempts: 1 }\n',
      },
    },
  })
  return tenant
}
const start = async (t: Tenant): Promise<string> => {
  const { data } = await plane.query(
    'mutation { runPipeline(input: { pipeline: "demo/files/clean" }) { run { id } } }',
    t,
  )
  return data.runPipeline.run.id
}
const ofRun = 'subscription ($id: ID!, $after: Int) { runEvents(runId: $id, after: $after) { seq type } }'
const ofTenant =
  'subscription ($after: String!, $kinds: [String!]) { tenantEvents(after: $after, kinds: $kinds) { cursor runId event { seq type } } }'

/** What a stream has said so far; it is read until it ends or is left. */
function listen(
  document: string,
  t: Tenant,
  variables: object,
  more: { lastEventId?: string } = {},
): { seen: Loose[]; errors: Loose[]; ids: (string | undefined)[]; leave: () => Promise<void>; ended: Promise<void> } {
  const leaving = new AbortController()
  const seen: Loose[] = []
  const errors: Loose[] = []
  const ids: (string | undefined)[] = []
  const ended = (async () => {
    try {
      for await (const { event, data, id } of plane.subscribe(document, {
        token: t.token,
        variables,
        signal: leaving.signal,
        ...more,
      }) as AsyncGenerator<Frame>) {
        if (event !== 'next') continue
        if (data.errors) errors.push(...data.errors)
        if (data.data) {
          seen.push(data.data.runEvents ?? data.data.tenantEvents)
          ids.push(id)
        }
      }
    } catch (error) {
      if (!leaving.signal.aborted) throw error
    }
  })()
  return { seen, errors, ids, ended, leave: () => (leaving.abort(), ended) }
}

test('however many watch a run, one reader looks for all of them, and each gets every event', async () => {
  const id = await start(a)
  const watchers = Array.from({ length: 40 }, () => listen(ofRun, a, { id }))
  await until('all saw the start', () => watchers.every(({ seen }) => seen.length > 0))
  const hub = plane.ports.hub
  let [waiting, most] = [0, 0]
  const wait = hub.wait.bind(hub)
  hub.wait = async (...args) => {
    most = Math.max(most, ++waiting)
    await wait(...args)
    waiting--
  }
  await using _worker = smallWorker(plane.ports, async (claim) => {
    for (let done = 1; done <= 5; done++) {
      await reportStep(plane.ports.db, claim, { progress: { done, total: 5, unit: 'files' }, logs: [] })
      plane.ports.hub.notify(claim)
    }
    return undefined
  })
  await Promise.all(watchers.map(({ ended }) => ended))
  hub.wait = wait
  const all = ['run.queued', 'step.started', ...Array(5).fill('step.progress'), 'step.succeeded', 'run.succeeded']
  for (const { seen } of watchers) {
    expect(seen.map(({ type }) => type)).toEqual(all)
    expect(seen.map(({ seq }) => seq)).toEqual(all.map((_, index) => index + 1))
  }
  expect(most).toBe(1)
})

test('a watcher that falls behind what is remembered reads for itself and misses nothing', async () => {
  const id = await start(a)
  const quick = listen(ofRun, a, { id })
  const slow = plane.subscribe(ofRun, { token: a.token, variables: { id } })
  const first: IteratorResult<Frame, undefined> = await slow.next()
  expect(first.value?.id).toBe('1')
  const logs = Array.from({ length: 100 }, (_, n) => ({ level: 'info', message: `line ${n}` }))
  await using _worker = smallWorker(plane.ports, async (claim) => {
    for (let round = 0; round < 8; round++) {
      await reportStep(plane.ports.db, claim, { progress: null, logs })
      plane.ports.hub.notify(claim)
    }
    return undefined
  })
  await quick.ended
  const seqs = [1]
  for await (const { id: seq, event } of slow) if (event === 'next') seqs.push(Number(seq))
  const wanted = Array.from({ length: 804 }, (_, index) => index + 1)
  expect(quick.seen.map(({ seq }) => seq)).toEqual(wanted)
  expect(seqs).toEqual(wanted)
}, 60_000)

test('a reader that fails is tried again, and its watchers miss nothing', async () => {
  const id = await start(a)
  const hub = inProcessHub()
  const { db } = plane.ports
  let isBroken = false
  // A handle of its own, so that it has readers of its own.
  const broken = new Proxy(db, {
    get(target, name) {
      if (name === 'transaction' && isBroken)
        return () => Promise.reject(Object.assign(new Error('gone'), { code: 'ECONNREFUSED' }))
      const value: unknown = Reflect.get(target, name)
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
  const app = plane.appWith({}, { db: broken, hub })
  const response = await app.fetch(
    new Request('http://edge.example/graphql', {
      method: 'POST',
      headers: { 'content-type': 'application/json', accept: 'text/event-stream', authorization: `Bearer ${a.token}` },
      body: JSON.stringify({ query: ofRun, variables: { id } }),
    }),
  )
  let text = ''
  const reading = (async () => {
    for await (const chunk of (response.body ?? new ReadableStream()).pipeThrough(new TextDecoderStream()))
      text += chunk
  })()
  await until('the first event is there', () => text.includes('run.queued'))
  isBroken = true
  hub.notify({ tenantId: a.id, runId: id })
  await using _worker = smallWorker(plane.ports)
  await until('the reader failed', () => plane.logged.some((line) => line.includes('tail.failed')))
  isBroken = false
  await reading
  expect([...text.matchAll(/"seq":(\d+)/g)].map(([, seq]) => Number(seq))).toEqual([1, 2, 3, 4])
  expect(text).toContain('run.succeeded')
})

test('a request whose database is away is told to come again, before and in the middle of its answer', async () => {
  const { db } = plane.ports
  const away = Object.assign(new Error('gone'), { code: '57P01' })
  for (const worksFor of [0, 1, 2, 3]) {
    let left = worksFor
    const broken = new Proxy(db, {
      get(target, name) {
        if (name === 'transaction' && --left < 0) return () => Promise.reject(new Error('wrapped', { cause: away }))
        const value: unknown = Reflect.get(target, name)
        return typeof value === 'function' ? value.bind(target) : value
      },
    })
    const { errors } = await plane.query('{ runs { nodes { id steps { key } } } }', {
      token: a.token,
      app: plane.appWith({}, { db: broken }),
    })
    expect(errors.slice(0, 1).map(({ extensions }) => extensions.code)).toEqual(left >= 0 ? [] : ['UNAVAILABLE'])
  }
})

test('a tenant’s stream shows its runs in one order, goes on after any event, and nothing of another tenant', async () => {
  const [mine, other] = [await newTenant(), await newTenant()]
  const live = listen(ofTenant, mine, { after: 'now' })
  await using _worker = smallWorker(plane.ports)
  await Promise.all([start(mine), start(other), start(mine), start(other), start(mine)])
  const ends = (seen: Loose[]): number => seen.filter(({ event }) => event.type === 'run.succeeded').length
  await until('three runs ended', () => ends(live.seen) === 3)
  expect(live.seen).toHaveLength(12)
  expect(live.ids).toEqual(live.seen.map(({ cursor }) => cursor))
  for (const [, events] of Map.groupBy(live.seen, ({ runId }: Loose) => runId))
    expect(events.map(({ event }) => event.seq)).toEqual([1, 2, 3, 4])

  const again = listen(ofTenant, mine, { after: '0' })
  await until('all came again', () => again.seen.length === 12)
  expect(again.seen).toEqual(live.seen)
  for (const place of [0, 5, 10]) {
    const cursor = live.seen[place].cursor
    for (const [after, more] of [
      [cursor, {}],
      ['now', { lastEventId: cursor }],
    ]) {
      const rest = listen(ofTenant, mine, { after }, more)
      await until('the rest came', () => rest.seen.length === 11 - place)
      expect(rest.seen).toEqual(live.seen.slice(place + 1))
      await rest.leave()
    }
  }
  await Promise.all([live.leave(), again.leave()])
})

test('a tenant’s stream shows what was asked for alone, and refuses what is no kind or place', async () => {
  const mine = await newTenant()
  await using _worker = smallWorker(plane.ports)
  const runs = listen(ofTenant, mine, { after: 'now', kinds: ['run'] })
  const ends = listen(ofTenant, mine, { after: 'now', kinds: ['run.failed', 'step.succeeded'] })
  await start(mine)
  await until('the run ended', () => runs.seen.length === 2)
  expect(runs.seen.map(({ event }) => event.type)).toEqual(['run.queued', 'run.succeeded'])
  await until('the step ended', () => ends.seen.length === 1)
  expect(ends.seen[0].event.type).toBe('step.succeeded')
  await Promise.all([runs.leave(), ends.leave()])
  for (const [variables, code] of [
    [{ after: 'now', kinds: ['nothing'] }, 'BAD_INPUT'],
    [{ after: '1.run_x.2' }, 'BAD_CURSOR'],
    [{ after: '' }, 'BAD_CURSOR'],
    [{ after: 'now', kinds: Array(51).fill('run') }, 'TOO_LARGE'],
  ] as const) {
    const refused = listen(ofTenant, mine, variables)
    await refused.ended
    expect(refused.errors.map(({ extensions }) => extensions.code)).toEqual([code])
  }
})

test('nothing more is shown to a tenant’s stream whose key is revoked meanwhile', async () => {
  const mine = await newTenant()
  const token = await plane.key(mine.id, { scopes: ['runs:read'] })
  const watching = listen(ofTenant, { id: mine.id, token }, { after: 'now' })
  const beside = listen(ofTenant, mine, { after: 'now' })
  await start(mine)
  await until('both saw it', () => watching.seen.length > 0 && beside.seen.length > 0)
  await plane.query(`mutation { revokeApiKey(input: { id: "${token.split('.')[0]}" }) { errors { code } } }`, mine)
  const before = watching.seen.length
  await using _worker = smallWorker(plane.ports)
  await until('the other saw the end', () => beside.seen.some(({ event }) => event.type === 'run.succeeded'))
  await watching.ended
  expect(watching.seen).toHaveLength(before)
  expect(watching.errors.map(({ extensions }) => extensions.code)).toEqual(['UNAUTHENTICATED'])
  await beside.leave()
})

test('a stream ends when its client leaves, though nothing else remembers the request', async () => {
  const mine = await newTenant()
  const watching = listen(ofTenant, mine, { after: '0' })
  await start(mine)
  await until('it saw something', () => watching.seen.length > 0)
  setFlagsFromString('--expose-gc')
  const collect: unknown = runInNewContext('gc')
  if (typeof collect !== 'function') throw new Error('there is no collector to call')
  collect()
  await nextTurn()
  collect()
  const left = watching.leave().then(() => 'left')
  expect(await Promise.race([left, wait(5_000, 'the stream goes on')])).toBe('left')
})

test('the lines of a step come by page and by level, and another tenant’s as those of no run', async () => {
  const id = await start(a)
  await using _worker = smallWorker(plane.ports, async (claim) => {
    const logs = ['info', 'warn', 'info', 'error'].map((level, n) => ({ level, message: `line ${n}` }))
    await reportStep(plane.ports.db, claim, { progress: null, logs })
    return undefined
  })
  await listen(ofRun, a, { id }).ended
  const ask = async (t: Tenant, args: string): Promise<Loose> =>
    plane.query(`{ stepLogs(runId: "${id}", ${args}) { nodes { level message stepKey } pageInfo { endCursor } } }`, t)
  const messages = async (args: string): Promise<string[]> =>
    (await ask(a, args)).data.stepLogs.nodes.map(({ message }: Loose) => message)
  expect(await messages('first: 9')).toEqual(['line 0', 'line 1', 'line 2', 'line 3'])
  expect(await messages('level: WARN, stepKey: "only"')).toEqual(['line 1', 'line 3'])
  expect(await messages('level: ERROR')).toEqual(['line 3'])
  expect(await messages('stepKey: "another"')).toEqual([])
  const page = await ask(a, 'level: WARN, first: 1')
  expect(page.data.stepLogs.nodes).toEqual([{ level: 'WARN', message: 'line 1', stepKey: 'only' }])
  expect(await messages(`level: WARN, first: 1, after: "${page.data.stepLogs.pageInfo.endCursor}"`)).toEqual(['line 3'])
  const foreign = await ask(await newTenant(), 'first: 9')
  expect(foreign.errors[0].extensions.code).toBe('NOT_FOUND')
})

test('percent is said when the whole is known, and never 100 before all is done', () => {
  const cases: [number, number | null, number | null][] = [
    [0, 10, 0],
    [5, 10, 50],
    [999_999, 1_000_000, 99],
    [10, 10, 100],
    [11, 10, null],
    [5, null, null],
    [0, 0, null],
  ]
  for (const [done, total, percent] of cases) expect(percentOf({ done, total })).toBe(percent)
})
