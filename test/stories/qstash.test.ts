import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { openQStash } from '../../shared/qstash/client.ts'
import { qstashWaker } from '../../shared/waking/qstash-waker.ts'
import { serveWakes, type WakeServer } from '../../workers/waking/serve-wakes.ts'
import { startWorker, type Worker } from '../../workers/worker.ts'
import type { App } from '../../control-plane/app.ts'
import { type ControlPlane, controlPlane, until } from '../support/control-plane.ts'
import { type QStashSim, startQStashSim } from '../support/qstash-sim.ts'

const url = 'https://workers.example/wake'
const yaml = `
pipeline_id: woken
steps:
  - step_id: only
    ps_type: sql.transform
    query: "SELECT 1 AS n"
    destination: { table: woken, mode: append }
`

// A worker that looks by itself once in an hour: what it does within seconds it was woken for.
let plane: ControlPlane
let sim: QStashSim
let dataDir: string
let worker: Worker
let server: WakeServer
let app: App
beforeAll(async () => {
  plane = await controlPlane()
  sim = await startQStashSim()
  dataDir = await mkdtemp(join(tmpdir(), 'woken-'))
  worker = startWorker(plane.ports, { dataDir, allowPrivateNetwork: true, pollMs: 3_600_000 })
  server = await serveWakes(
    {
      isTaking: () => true,
      wake: (_, signal) => worker.drained(signal),
      again: async () => undefined,
    },
    {
      host: '127.0.0.1',
      port: 0,
      holdMs: 60_000,
      sender: { keys: [sim.keys.current, sim.keys.next], url },
      ports: plane.ports,
    },
  )
  sim.route = () => server.url
  const qstash = openQStash({ QSTASH_URL: sim.url, QSTASH_TOKEN: sim.token })
  app = plane.appWith({}, { waker: qstashWaker(qstash, { url, clock: plane.ports.clock, log: plane.ports.log }) })
})
afterAll(async () => {
  await server.stop()
  await worker.stop(0)
  await sim[Symbol.asyncDispose]()
  await plane[Symbol.asyncDispose]()
  await rm(dataDir, { recursive: true, force: true })
})

test('a run starts because QStash woke its worker, and the wake-up is held until nothing is left to do', async () => {
  const { token } = await plane.tenant('woken')
  const ask = async (document: string, variables: object): Promise<Record<string, never>> =>
    (await plane.query(document, { token, variables, app })).data
  await ask('mutation ($input: SavePipelineInput!) { savePipeline(input: $input) { created } }', {
    input: { path: 'x/y/z', yaml },
  })
  const started: { runPipeline?: { run: { id: string } } } = await ask(
    'mutation { runPipeline(input: { pipeline: "x/y/z" }) { run { id } } }',
    {},
  )
  const id = started.runPipeline?.run.id
  const state = async (): Promise<string> => {
    const seen: { run?: { state: string } } = await ask('query ($id: ID!) { run(id: $id) { state } }', { id })
    return seen.run?.state ?? ''
  }
  await until('it is at work', async () => (await state()) !== 'QUEUED')
  await sim.settled()
  expect(await state()).toBe('SUCCEEDED')
  expect(sim.delivered.map(({ status }) => status)).toEqual([200])
})
