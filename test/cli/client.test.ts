import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Client, connect } from '../../cli/client.ts'
import { RunEvents, RunPipeline, SavePipeline, Viewer } from '../../schema/operations/index.ts'
import type { App } from '../../control-plane/app.ts'
import { type ControlPlane, controlPlane, smallWorker } from '../support/control-plane.ts'

let plane: ControlPlane
let token: string
beforeAll(async () => {
  plane = await controlPlane()
  token = (await plane.tenant()).token
  await client().ask(SavePipeline, { input: { path: 'test/cli/one', yaml } })
})
afterAll(() => plane[Symbol.asyncDispose]())

const yaml = `
pipeline_id: one
steps:
  - step_id: one
    ps_type: sql.transform
    query: SELECT 1 AS n
    destination: { table: one, mode: replace }
`
type Sent = { lastEventId: string | null }
const sent: Sent[] = []

// The wire between client and app, which a test may cut.
function client(app: App = plane.app, wire: (response: Response) => Response = (response) => response): Client {
  const send: typeof fetch = async (input, init) => {
    const request = new Request(input, init)
    sent.push({ lastEventId: request.headers.get('last-event-id') })
    return wire(await app.fetch(request))
  }
  return connect({ url: 'http://edge.example', key: token, fetch: send })
}

const start = async (): Promise<string> => {
  const { runPipeline } = await client().ask(RunPipeline, { input: { pipeline: 'test/cli/one' } })
  if (!runPipeline.run) throw new Error(JSON.stringify(runPipeline.errors))
  return runPipeline.run.id
}
const isEnd = ({ runEvents: { type } }: { runEvents: { type: string } }): boolean => type === 'run.succeeded'

test('a query is answered with its types, a mutation once for its key', async () => {
  const { viewer } = await client().ask(Viewer, {})
  expect(viewer.scopes).toContain('RUNS_WRITE')
  const ask = () =>
    client().ask(RunPipeline, { input: { pipeline: 'test/cli/one' } }, { idempotencyKey: 'once-and-for-all' })
  const [first, second] = [await ask(), await ask()]
  expect(first.runPipeline.run?.id).toMatch(/^run_/)
  expect(second.runPipeline).toMatchObject({ created: false, run: { id: first.runPipeline.run?.id } })
})

test('an error has its code, hint and request', async () => {
  const wrong = connect({
    url: 'http://edge.example',
    key: 'key_0.0',
    fetch: (input, init) => plane.app.fetch(new Request(input, init)),
  })
  await expect(wrong.ask(Viewer, {})).rejects.toMatchObject({
    code: 'UNAUTHENTICATED',
    hint: expect.stringContaining('API key'),
    context: { requestId: expect.stringMatching(/^req_/) },
  })
  await expect(wrong.watch(RunEvents, { runId: 'x' }).next()).rejects.toMatchObject({ code: 'UNAUTHENTICATED' })
  await expect(
    client()
      .watch(RunEvents, { runId: `run_${'0'.repeat(32)}` })
      .next(),
  ).rejects.toMatchObject({ code: 'NOT_FOUND' })
})

test('where nothing answers, or no GraphQL, is told as that', async () => {
  const nowhere = connect({ url: 'http://127.0.0.1:1', key: 'k' })
  await expect(nowhere.ask(Viewer, {})).rejects.toMatchObject({
    code: 'UNAVAILABLE',
    message: 'Nothing answers at http://127.0.0.1:1.',
  })
  const page = connect({
    url: 'http://x.example',
    key: 'k',
    fetch: async () => new Response('<html>', { status: 502 }),
  })
  await expect(page.ask(Viewer, {})).rejects.toMatchObject({
    code: 'UNAVAILABLE',
    message: expect.stringContaining('502'),
  })
})

test('a stream that breaks in the middle goes on after its last event, each once', async () => {
  const runId = await start()
  await using _worker = smallWorker(plane.ports)
  let streams = 0
  // Every stream is cut in the middle of its second frame.
  const cutting = client(plane.app, (response) => {
    if (!response.headers.get('content-type')?.startsWith('text/event-stream') || !response.body) return response
    streams++
    let frames = 0
    const cut = new TransformStream<Uint8Array, Uint8Array>({
      transform(chunk, controller) {
        const text = new TextDecoder().decode(chunk)
        const whole: string[] = []
        for (const frame of text.split(/(?<=\n\n)/)) {
          if (/^event: next/m.test(frame) && ++frames === 2) {
            controller.enqueue(new TextEncoder().encode(`${whole.join('')}${frame.slice(0, 20)}`))
            return controller.error(new TypeError('the wire is cut'))
          }
          whole.push(frame)
        }
        controller.enqueue(new TextEncoder().encode(whole.join('')))
      },
    })
    return new Response(response.body.pipeThrough(cut), { headers: response.headers })
  })
  sent.length = 0
  const seen: number[] = []
  for await (const { runEvents } of cutting.watch(RunEvents, { runId, after: 0 }, { isLast: isEnd }))
    seen.push(runEvents.seq)
  expect(seen).toEqual(seen.map((_, index) => index + 1))
  expect(seen.length).toBeGreaterThan(3)
  expect(streams).toBeGreaterThanOrEqual(seen.length)
  expect(sent.slice(0, 3).map(({ lastEventId }) => lastEventId)).toEqual([null, '1', '2'])
})

test('a stream that the server ends for its age goes on until the run has ended', async () => {
  const runId = await start()
  const short = plane.appWith({ waits: { streamMs: 1_100 } })
  const seen: string[] = []
  const watching = (async () => {
    for await (const { runEvents } of client(short).watch(RunEvents, { runId, after: 0 }, { isLast: isEnd }))
      seen.push(runEvents.type)
  })()
  sent.length = 0
  await expect.poll(() => sent.length, { timeout: 10_000 }).toBeGreaterThan(1)
  await using _worker = smallWorker(plane.ports)
  await watching
  expect(seen.at(-1)).toBe('run.succeeded')
  expect(seen.filter((type) => type === 'run.queued')).toHaveLength(1)
})

test('whoever leaves, or aborts, closes the stream', async () => {
  const runId = await start()
  const stop = new AbortController()
  const events = client().watch(RunEvents, { runId, after: 0 }, { signal: stop.signal, isLast: isEnd })
  expect((await events.next()).done).toBe(false)
  stop.abort(new Error('enough'))
  await expect(async () => {
    for await (const _ of events);
  }).rejects.toThrow('enough')
})
