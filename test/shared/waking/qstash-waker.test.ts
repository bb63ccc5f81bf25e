import { afterEach, beforeEach, expect, test } from 'vitest'
import { systemClock } from '../../../shared/clock.ts'
import { openQStash } from '../../../shared/qstash/client.ts'
import { flowKey, qstashWaker } from '../../../shared/waking/qstash-waker.ts'
import type { WakeTarget, Waker } from '../../../shared/waking/waker.ts'
import { until } from '../../support/control-plane.ts'
import { type QStashSim, startQStashSim } from '../../support/qstash-sim.ts'

const url = 'http://127.0.0.1:1/wake'
const acme: WakeTarget = { tenantId: 'acme', queue: 'ingest' }

let sim: QStashSim
let logged: [string, object | undefined][]
let giveUp: AbortController
beforeEach(async () => {
  sim = await startQStashSim()
  // Nobody is there: what is looked at is what arrives.
  sim.route = () => `${sim.url}/v2/keys`
  logged = []
  giveUp = new AbortController()
})
afterEach(() => sim[Symbol.asyncDispose]())

const open = (): Waker => {
  const warn = (event: string, fields?: object): void => void logged.push([event, fields])
  const log = { info: warn, warn, error: warn }
  const qstash = openQStash({ QSTASH_URL: sim.url, QSTASH_TOKEN: sim.token })
  return qstashWaker(qstash, { url, clock: systemClock, log, signal: giveUp.signal })
}
const flow = async (target: WakeTarget): Promise<Record<string, unknown>> => {
  const headers = { authorization: `Bearer ${sim.token}` }
  return (await fetch(`${sim.url}/v2/flowControl/${flowKey(target)}`, { headers })).json()
}

test('what is asked for together goes in one call, each queue once, with nothing in it but names', async () => {
  const waker = open()
  const targets: WakeTarget[] = [acme, { ...acme, queue: 'export' }, { tenantId: 'other_2', queue: 'ingest' }, acme]
  await Promise.all(targets.map((target) => waker.wake(target)))
  await sim.settled()
  expect(sim.asked.filter((call) => call.includes('batch'))).toEqual(['POST /v2/batch'])
  const first = sim.delivered.filter(({ retried }) => retried === 0)
  expect(first.map(({ body }) => body).toSorted()).toEqual([
    '{"v":1,"tenantId":"acme","queue":"export"}',
    '{"v":1,"tenantId":"acme","queue":"ingest"}',
    '{"v":1,"tenantId":"other_2","queue":"ingest"}',
  ])
  expect(Object.keys(first[0]?.headers ?? {}).filter((name) => !name.startsWith('upstash-'))).toEqual([
    'content-type',
    'user-agent',
  ])
})

test('a later wake-up of the same queue is a message of its own, never taken for a repeat', async () => {
  const waker = open()
  for (let n = 0; n < 3; n++) await waker.wake(acme)
  await sim.settled()
  expect(sim.counts.published).toBe(3)
})

test('the keys of flow control are of letters that QStash takes, one for each queue of a tenant', async () => {
  expect(flowKey({ tenantId: 'guru_232342', queue: 'transform' })).toBe('q.transform.t.guru_232342')
  await open().wake(acme)
  expect(await flow(acme)).toMatchObject({ parallelismMax: 4, rateMax: 20, ratePeriod: 1, isPaused: false })
})

test('a QStash that refuses is logged and survived, and later wake-ups go out', async () => {
  const waker = open()
  sim.trouble = 500
  await expect(waker.wake(acme)).resolves.toBeUndefined()
  expect(logged).toEqual([['wake.lost', { times: 1, error: expect.stringContaining('QStash did not do it') }]])
  expect(JSON.stringify(logged)).not.toContain(sim.token)
  sim.trouble = undefined
  await waker.wake(acme)
  expect(sim.counts.published).toBe(1)
})

test('a QStash that does not answer is given up on when nobody waits any more', async () => {
  sim.trouble = 'silent'
  const waking = open().wake(acme)
  await until('it was asked', () => sim.asked.length === 1)
  giveUp.abort()
  await expect(waking).resolves.toBeUndefined()
  expect(logged).toEqual([['wake.lost', expect.objectContaining({ times: 1 })]])
})

test('a QStash that does not answer is waited for no longer than five seconds', async () => {
  sim.trouble = 'silent'
  const begun = performance.now()
  await open().wake(acme)
  expect(performance.now() - begun).toBeGreaterThan(4_900)
  expect(performance.now() - begun).toBeLessThan(20_000)
})

test('QSTASH_DEV in the environment changes neither the server nor the token', async () => {
  process.env['QSTASH_DEV'] = 'true'
  try {
    await open().wake(acme)
    expect(sim.counts.published).toBe(1)
  } finally {
    delete process.env['QSTASH_DEV']
  }
})

test('a stopped queue is paused at QStash, a started one goes on, and its limit is pinned', async () => {
  const waker = open()
  await waker.steer?.([{ ...acme, paused: true, maxRunning: 7 }])
  expect(await flow(acme)).toMatchObject({ isPaused: true, parallelismMax: 7, isPinnedParallelism: true })
  await waker.wake(acme)
  await until('it is parked', async () => (await flow(acme))['waitListSize'] === 1)
  expect(sim.delivered).toEqual([])
  await waker.steer?.([{ ...acme, paused: false, maxRunning: 7 }])
  await sim.settled()
  expect(sim.delivered.some(({ retried }) => retried === 0)).toBe(true)
})

test('what has been waiting already is carried past a pause that nobody lifted', async () => {
  const waker = open()
  await waker.steer?.([{ ...acme, paused: true, maxRunning: 2 }])
  await waker.wake(acme, { unheld: true })
  await sim.settled()
  expect(sim.delivered.length).toBeGreaterThan(0)
})

test('listeners hear the wake-ups of this process, QStash or not', async () => {
  sim.trouble = 500
  const waker = open()
  const heard: WakeTarget[] = []
  using listening = waker.listen((target) => heard.push(target))
  await waker.wake(acme)
  expect([heard, typeof listening]).toEqual([[acme], 'object'])
})
