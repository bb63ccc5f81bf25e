import { connect } from 'node:net'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { systemClock } from '../../../shared/clock.ts'
import { openQStash } from '../../../shared/qstash/client.ts'
import { qstashWaker } from '../../../shared/waking/qstash-waker.ts'
import type { WakeMessage } from '../../../shared/waking/wake-message.ts'
import { serveWakes, type WakeServer, type Woken } from '../../../workers/waking/serve-wakes.ts'
import { type ControlPlane, controlPlane, until } from '../../support/control-plane.ts'
import { type QStashSim, startQStashSim } from '../../support/qstash-sim.ts'

const url = 'https://workers.example/wake'
const body = '{"v":1,"tenantId":"acme","queue":"ingest"}'

let plane: ControlPlane
let sim: QStashSim
const servers: WakeServer[] = []
beforeAll(async () => {
  plane = await controlPlane()
  sim = await startQStashSim()
})
afterEach(async () => {
  for (const one of servers.splice(0)) await one.stop()
})
afterAll(async () => {
  await sim[Symbol.asyncDispose]()
  await plane[Symbol.asyncDispose]()
})

async function serve(woken: Partial<Woken> = {}, holdMs?: number): Promise<WakeServer> {
  const made = await serveWakes(
    { isTaking: () => true, wake: async () => undefined, again: async () => undefined, ...woken },
    {
      host: '127.0.0.1',
      port: 0,
      holdMs,
      sender: { keys: [sim.keys.current, sim.keys.next], url },
      ports: plane.ports,
    },
  )
  servers.push(made)
  return made
}
const post = async (to: WakeServer, signature: string | undefined, given = body): Promise<Response> =>
  fetch(to.url, {
    method: 'POST',
    body: given,
    headers: signature === undefined ? {} : { 'upstash-signature': signature },
    signal: AbortSignal.timeout(10_000),
  })
const signed = async (to: WakeServer, given = body): Promise<Response> => post(to, await sim.sign(url, given), given)

test('a wake-up from QStash reaches the worker and is answered at once, however long the work takes', async () => {
  const heard: WakeMessage[] = []
  const server = await serve({
    wake: async (message, signal) => {
      heard.push(message)
      await systemClock.sleep(60_000, signal)
    },
  })
  sim.route = () => server.url
  const qstash = openQStash({ QSTASH_URL: sim.url, QSTASH_TOKEN: sim.token })
  await qstashWaker(qstash, { url, clock: systemClock, log: plane.ports.log }).wake({
    tenantId: 'acme',
    queue: 'ingest',
  })
  await sim.settled()
  expect(sim.delivered.at(-1)).toMatchObject({ status: 202, retried: 0 })
  expect(heard).toEqual([{ v: 1, tenantId: 'acme', queue: 'ingest' }])
  expect(server.figures()).toEqual({ taken: 1, refused: 0 })
})

test('whoever is not QStash wakes nobody and learns nothing', async () => {
  const heard: WakeMessage[] = []
  const server = await serve({ wake: async (message) => void heard.push(message) })
  const good = await sim.sign(url, body)
  const answers = [
    await post(server, undefined),
    await post(server, await sim.sign('https://workers.example/other', body)),
    await post(server, good, body.replace('acme', 'other')),
    await post(server, await sim.sign(url, body, {}, 'sig_of_somebody_else')),
  ]
  expect(await Promise.all(answers.map(async (answer) => [answer.status, await answer.text()]))).toEqual(
    answers.map(() => [401, '401\n']),
  )
  expect(heard).toEqual([])
  expect((await post(server, good)).status).toBe(202)
  expect((await post(server, good)).status).toBe(401)
  expect(heard).toHaveLength(1)
  expect(server.figures()).toEqual({ taken: 1, refused: 5 })
})

test.for([
  ['is no JSON', 'wake up'],
  ['has more in it', '{"v":1,"tenantId":"acme","queue":"ingest","secret":"s"}'],
  ['is of another version', '{"v":2,"tenantId":"acme","queue":"ingest"}'],
  ['names no queue of ours', '{"v":1,"tenantId":"acme","queue":"all"}'],
  ['names no tenant', `{"v":1,"tenantId":"acme' or 1=1","queue":"ingest"}`],
])('a signed body that %s is dead at once: it is not tried again', async ([, given = '']) => {
  const server = await serve()
  const answer = await signed(server, given)
  expect([answer.status, answer.headers.get('upstash-nonretryable-error')]).toEqual([489, 'true'])
})

test('only POST /wake is there, and of a body no more is read than a wake-up has', async () => {
  const server = await serve()
  const base = server.url.replace('/wake', '')
  expect((await fetch(`${base}/metrics`)).status).toBe(404)
  expect((await fetch(server.url)).status).toBe(405)
  expect((await post(server, 'x', 'x'.repeat(10_000))).status).toBe(413)
})

test('a connection that sends nothing is ended', async () => {
  const server = await serve()
  const socket = connect(Number(new URL(server.url).port), '127.0.0.1')
  socket.write('POST /wake HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n')
  await new Promise((resolve) => socket.on('close', resolve).resume())
  expect(socket.destroyed).toBe(true)
}, 60_000)

test('a worker that takes nothing new is tried again later, and the same wake-up is then taken', async () => {
  let isTaking = false
  const server = await serve({ isTaking: () => isTaking })
  const signature = await sim.sign(url, body)
  const answer = await post(server, signature)
  expect([answer.status, answer.headers.get('retry-after')]).toEqual([503, '5'])
  isTaking = true
  expect((await post(server, signature)).status).toBe(202)
})

test('in the hold mode the answer comes when the work is done', async () => {
  const work = Promise.withResolvers<void>()
  let isAnswered = false
  const server = await serve({ wake: () => work.promise }, 60_000)
  const answering = signed(server).finally(() => (isAnswered = true))
  await until('it was taken', () => server.figures().taken === 1)
  expect(isAnswered).toBe(false)
  work.resolve()
  expect((await answering).status).toBe(200)
})

test('work that takes longer than an answer may wait has somebody woken again', async () => {
  const again: WakeMessage[] = []
  const server = await serve(
    { wake: (_, signal) => systemClock.sleep(60_000, signal), again: async (message) => void again.push(message) },
    50,
  )
  expect((await signed(server)).status).toBe(202)
  expect(again).toEqual([{ v: 1, tenantId: 'acme', queue: 'ingest' }])
})

test('an end of the process ends what is held, and somebody else is woken', async () => {
  const again: WakeMessage[] = []
  const server = await serve(
    { wake: (_, signal) => systemClock.sleep(60_000, signal), again: async (message) => void again.push(message) },
    60_000,
  )
  const answering = signed(server)
  await until('it was taken', () => server.figures().taken === 1)
  await server.stop()
  expect([(await answering).status, again.length]).toEqual([202, 1])
})
