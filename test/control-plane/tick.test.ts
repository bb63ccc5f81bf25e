import { afterAll, beforeAll, expect, test } from 'vitest'
import { systemClock } from '../../shared/clock.ts'
import { openQStash } from '../../shared/qstash/client.ts'
import { ensureSchedules, tickScheduleId } from '../../shared/qstash/ensure-schedules.ts'
import { qstashWaker } from '../../shared/waking/qstash-waker.ts'
import type { App } from '../../control-plane/app.ts'
import { serveHttp, type HttpServer } from '../../standalone/http-server.ts'
import { type ControlPlane, controlPlane, until } from '../support/control-plane.ts'
import { type QStashSim, startQStashSim } from '../support/qstash-sim.ts'

const url = 'https://api.example/tick'
const wakeUrl = 'https://workers.example/wake'
const failedUrl = 'https://api.example/wake-failed'
const logged: [string, object | undefined][] = []
let plane: ControlPlane
let sim: QStashSim
let app: App
let server: HttpServer
beforeAll(async () => {
  plane = await controlPlane()
  sim = await startQStashSim()
  const qstash = openQStash({ QSTASH_URL: sim.url, QSTASH_TOKEN: sim.token })
  const waker = qstashWaker(qstash, { url: wakeUrl, failedUrl, clock: systemClock, log: plane.ports.log })
  const keys = [sim.keys.current, sim.keys.next] as const
  const warn = (event: string, fields?: object): void => void logged.push([event, fields])
  app = plane.appWith(
    { ticks: { keys, url }, failedWakes: { keys, url: failedUrl } },
    { waker, log: { ...plane.ports.log, warn } },
  )
  server = await serveHttp(app, { host: '127.0.0.1', port: 0, log: plane.ports.log })
  // Where a proxy would bring them. Nobody is at the workers' address.
  sim.route = (to) =>
    to === wakeUrl ? 'http://127.0.0.1:1/wake' : to.replace(new URL(url).origin, new URL(server.url).origin)
})
afterAll(async () => {
  await server.stop()
  await sim[Symbol.asyncDispose]()
  await plane[Symbol.asyncDispose]()
})
const tick = async (signature: string | undefined, at = app, body = '{"v":1}'): Promise<Response> =>
  at.fetch(
    new Request(url, {
      method: 'POST',
      body,
      headers: signature === undefined ? {} : { 'upstash-signature': signature },
    }),
  )
const graphql = async (document: string, token: string, variables: object = {}): Promise<unknown> =>
  (await plane.query(document, { token, variables, app })).data

/** A tenant with a step that waits in its queue `export`, of which nobody was told. */
async function waiting(): Promise<{ id: string; token: string }> {
  const made = await plane.tenant()
  const yaml = 'pipeline_id: p\nsteps:\n  - step_id: only\n    ps_type: file.delete\n    paths: ["a"]\n'
  for (const [document, input] of [
    ['mutation ($input: SavePipelineInput!) { savePipeline(input: $input) { created } }', { path: 'x/y/z', yaml }],
    ['mutation ($input: RunPipelineInput!) { runPipeline(input: $input) { run { id } } }', { pipeline: 'x/y/z' }],
  ] as const)
    await plane.query(document, { token: made.token, variables: { input } })
  return made
}
const flow = async (id: string, queue = 'export'): Promise<Record<string, unknown>> => {
  const headers = { authorization: `Bearer ${sim.token}` }
  return (await fetch(`${sim.url}/v2/flowControl/q.${queue}.t.${id}`, { headers })).json()
}

test('the schedule at QStash has the housekeeping done, which wakes whoever was missed', async () => {
  const { id } = await waiting()
  await ensureSchedules(openQStash({ QSTASH_URL: sim.url, QSTASH_TOKEN: sim.token }), url)
  await sim.fire(tickScheduleId)
  await sim.settled()
  expect(sim.delivered.filter(({ url: to }) => to === url)).toEqual([expect.objectContaining({ status: 200 })])
  expect(sim.delivered.filter(({ url: to }) => to === wakeUrl).map(({ body }) => body)).toContain(
    `{"v":1,"tenantId":"${id}","queue":"export"}`,
  )
})

test('a wake-up that nobody took is reported and logged by its queue, once, with nothing the other side said', async () => {
  const { id } = await waiting()
  expect((await tick(await sim.sign(url, '{"v":1}'))).status).toBe(200)
  await sim.settled()
  const told = logged.filter(([event, fields]) => event === 'wake.undelivered' && JSON.stringify(fields).includes(id))
  expect(told).toEqual([
    [
      'wake.undelivered',
      { tenantId: id, queue: 'export', status: 0, retried: 2, dlqId: expect.stringMatching(/^dlq_/) },
    ],
  ])
})

test('a report is taken from QStash alone, and only of a wake-up', async () => {
  const report = (body: string, signature: string): Promise<Response> =>
    app.fetch(new Request(failedUrl, { method: 'POST', body, headers: { 'upstash-signature': signature } }))
  const body = JSON.stringify({ status: 503, sourceBody: btoa('{"v":1,"tenantId":"acme","queue":"export"}') })
  const good = await sim.sign(failedUrl, body)
  const before = logged.length
  expect((await report(body, await sim.sign(url, body))).status).toBe(401)
  expect((await report(`${body} `, good)).status).toBe(401)
  expect((await report(body, good)).status).toBe(204)
  expect((await report(body, good)).status).toBe(401)
  const other = JSON.stringify({ status: 503, sourceBody: btoa('{"v":1}') })
  expect((await report(other, await sim.sign(failedUrl, other))).status).toBe(400)
  expect(logged.slice(before).filter(([event]) => event === 'wake.undelivered')).toEqual([
    ['wake.undelivered', { tenantId: 'acme', queue: 'export', status: 503, retried: undefined, dlqId: undefined }],
  ])
})

test('nobody else has it done: unsigned, replayed, made for another address or by another key', async () => {
  const good = await sim.sign(url, '{"v":1}')
  expect((await tick(good)).status).toBe(200)
  const answers = [
    await tick(good),
    await tick(undefined),
    await tick(await sim.sign(wakeUrl, '{"v":1}')),
    await tick(await sim.sign(url, '{"v":1}', {}, 'sig_of_somebody_else')),
    await tick(await sim.sign(url, '{"v":1}'), app, '{"v":2}'),
  ]
  expect(answers.map(({ status }) => status)).toEqual([401, 401, 401, 401, 401])
  expect((await tick(await sim.sign(url, 'x'.repeat(5_000)), app, 'x'.repeat(5_000))).status).toBe(413)
})

test('without keys of QStash there is no such path, and never by GET', async () => {
  expect((await tick(await sim.sign(url, '{"v":1}'), plane.app)).status).toBe(404)
  expect((await app.fetch(new Request(url))).status).toBe(404)
})

test('a stop pauses the wake-ups of the queue at QStash, a start lets them go, and a limit is pinned', async () => {
  const { id, token } = await plane.tenant()
  const control = (input: object): Promise<unknown> =>
    graphql('mutation ($input: ControlWorkersInput!) { controlWorkers(input: $input) { errors { code } } }', token, {
      input,
    })
  await control({ action: 'STOP', queues: ['EXPORT'] })
  await until('it is paused', async () => (await flow(id))['isPaused'] === true)
  expect(await flow(id, 'ingest')).toMatchObject({ isPaused: false })
  await control({ action: 'START', queues: ['EXPORT'] })
  await until('it goes on', async () => (await flow(id))['isPaused'] === false)
  await graphql(
    'mutation ($input: QueueLimitsInput!) { setQueueLimits(input: $input) { errors { code } } }',
    plane.platformToken,
    { input: { tenantId: id, queue: 'EXPORT', maxRunning: 9 } },
  )
  await until('it is pinned', async () => (await flow(id))['parallelismMax'] === 9)
})
