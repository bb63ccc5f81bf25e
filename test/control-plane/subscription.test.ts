import { afterAll, beforeAll, expect, test } from 'vitest'
import { reportStep } from '../../shared/runs/ledger.ts'
import {
  type ControlPlane,
  controlPlane,
  type Frame,
  hintsAlone,
  smallWorker,
  until,
} from '../support/control-plane.ts'

let plane: ControlPlane
let a: { id: string; token: string }
beforeAll(async () => {
  plane = await controlPlane()
  a = await plane.tenant()
  await plane.query('mutation ($input: SavePipelineInput!) { savePipeline(input: $input) { created } }', {
    token: a.token,
    variables: {
      input: {
        path: 'demo/files/clean',
        yaml: 'pipeline_id: clean\nsteps:\n  - step_id: only\n    ps_type: file.delete\n    paths: ["a"]\n    retry: { attempts: 1 }\n',
      },
    },
  })
})
afterAll(() => plane[Symbol.asyncDispose]())

const watch =
  'subscription ($id: ID!, $after: Int) { runEvents(runId: $id, after: $after) { type stepKey message data } }'
const start = async (): Promise<string> =>
  (
    await plane.query('mutation { runPipeline(input: { pipeline: "demo/files/clean" }) { run { id } } }', {
      token: a.token,
    })
  ).data.runPipeline.run.id
const types = (frames: Frame[]): string[] =>
  frames.filter(({ event }) => event === 'next').map(({ data }) => data.data.runEvents.type)

test('a stream shows every event once and in order, with its number as id, and ends with the run', async () => {
  const id = await start()
  await using _worker = smallWorker(plane.ports, async (claim) => {
    const logs = [{ level: 'info', message: 'hello "seq":99' }]
    await reportStep(plane.ports.db, claim, { progress: { done: 1, total: 2, unit: 'files' }, logs })
    return undefined
  })
  const frames: Frame[] = []
  for await (const frame of plane.subscribe(watch, { token: a.token, variables: { id } })) frames.push(frame)
  expect(types(frames)).toEqual([
    'run.queued',
    'step.started',
    'step.progress',
    'step.log',
    'step.succeeded',
    'run.succeeded',
  ])
  expect(frames.map(({ id }) => id)).toEqual(['1', '2', '3', '4', '5', '6', undefined])
  expect(frames.at(-1)?.event).toBe('complete')
  expect(frames[2]?.data.data.runEvents.message).toBe('Step only: 1 of 2 files')
})

test('a broken stream goes on after the last event, by Last-Event-ID and by argument', async () => {
  const id = await start()
  await using _worker = smallWorker(plane.ports)
  const first: Frame[] = []
  for await (const frame of plane.subscribe(watch, { token: a.token, variables: { id } })) {
    first.push(frame)
    if (first.length === 2) break
  }
  const lastEventId = first.at(-1)?.id ?? ''
  expect(lastEventId).toBe('2')
  for (const how of [{ lastEventId }, { variables: { id, after: 2 } }]) {
    const rest: Frame[] = []
    for await (const frame of plane.subscribe(watch, { token: a.token, variables: { id }, ...how })) rest.push(frame)
    expect([...types(first), ...types(rest)]).toEqual(['run.queued', 'step.started', 'step.succeeded', 'run.succeeded'])
  }
})

test('events that come while the stream waits arrive at the hint, not at the next look', async () => {
  const id = await start()
  const seen: string[] = []
  const app = plane.appWith({}, { hub: hintsAlone(plane.ports.hub) })
  const reading = (async () => {
    for await (const frame of plane.subscribe(watch, { token: a.token, app, variables: { id } }))
      seen.push(...types([frame]))
  })()
  await until('the first event is there', () => seen.length === 1)
  await using _worker = smallWorker(plane.ports)
  await reading
  expect(seen.at(-1)).toBe('run.succeeded')
})

test('a stream of a run that was retried goes past the first end to the last', async () => {
  const id = await start()
  let isBroken = true
  await using _worker = smallWorker(plane.ports, () =>
    isBroken ? { code: 'FILE_MISSING', message: 'It is not there.', hint: 'Put it there.', retry: 'never' } : undefined,
  )
  for await (const _ of plane.subscribe(watch, { token: a.token, variables: { id } }));
  isBroken = false
  await plane.query(`mutation { retryRun(input: { id: "${id}" }) { errors { code } } }`, a)
  const frames: Frame[] = []
  for await (const frame of plane.subscribe(watch, { token: a.token, variables: { id } })) frames.push(frame)
  expect(types(frames).filter((type) => type.startsWith('run.'))).toEqual([
    'run.queued',
    'run.failed',
    'run.retrying',
    'run.succeeded',
  ])
})

test('a client that leaves ends its stream and nothing waits for it any more', async () => {
  const id = await start()
  let waiting = 0
  const { hub } = plane.ports
  const counted = {
    notify: hub.notify,
    wait: async (...args: Parameters<typeof hub.wait>) => {
      waiting++
      await hub.wait(...args)
      waiting--
    },
  }
  const app = plane.appWith({}, { hub: counted })
  const leave = new AbortController()
  const response = await app.fetch(
    new Request('http://edge.example/graphql', {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        accept: 'text/event-stream',
        authorization: `Bearer ${a.token}`,
      },
      body: JSON.stringify({ query: watch, variables: { id } }),
      signal: leave.signal,
    }),
  )
  const reader = response.body?.getReader()
  await until('the stream waits', () => waiting > 0)
  await reader?.cancel()
  leave.abort()
  await until('nothing waits', () => waiting === 0)
  expect(waiting).toBe(0)
})

test('a stream past its time ends without the run having ended', async () => {
  const id = await start()
  const app = plane.appWith({ waits: { streamMs: 0 } })
  const response = await app.fetch(
    new Request('http://edge.example/graphql', {
      method: 'POST',
      headers: { 'content-type': 'application/json', accept: 'text/event-stream', authorization: `Bearer ${a.token}` },
      body: JSON.stringify({ query: watch, variables: { id } }),
    }),
  )
  const text = await response.text()
  expect(text).toContain('run.queued')
  expect(text).toContain('event: complete')
  expect(text).not.toContain('run.succeeded')
})

test('the events of another tenant’s run and of none give the same answer', async () => {
  const id = await start()
  const b = await plane.tenant()
  const answers: string[] = []
  for (const other of [id, `run_${'0'.repeat(32)}`]) {
    const frames: Frame[] = []
    for await (const frame of plane.subscribe(watch, { token: b.token, variables: { id: other } })) frames.push(frame)
    answers.push(JSON.stringify(frames).replaceAll(/req_[0-9a-f]+/g, 'req'))
  }
  expect(answers[0]).toBe(answers[1])
  expect(answers[0]).toContain('NOT_FOUND')
})

test('a key without runs:read watches nothing', async () => {
  const token = await plane.key(a.id, { scopes: ['audit:read'] })
  const frames: Frame[] = []
  for await (const frame of plane.subscribe(watch, { token, variables: { id: await start() } })) frames.push(frame)
  expect(JSON.stringify(frames)).toContain('FORBIDDEN')
  expect(types(frames.filter(({ data }) => data?.data))).toEqual([])
})

test('nothing more is shown to a stream whose key is revoked meanwhile', async () => {
  const id = await start()
  const token = await plane.key(a.id, { scopes: ['runs:read'] })
  const frames: Frame[] = []
  for await (const frame of plane.subscribe(watch, { token, variables: { id } })) {
    frames.push(frame)
    if (frames.length > 1) continue
    await plane.query(`mutation { revokeApiKey(input: { id: "${token.split('.')[0]}" }) { errors { code } } }`, a)
    await plane.query(`mutation { cancelRun(input: { id: "${id}" }) { errors { code } } }`, a)
  }
  expect(frames[0]?.data.data.runEvents.type).toBe('run.queued')
  expect(frames[1]?.data).toMatchObject({ errors: [{ extensions: { code: 'UNAUTHENTICATED' } }] })
  expect(JSON.stringify(frames)).not.toContain('run.cancelled')
})
