import { afterAll, beforeAll, expect, test } from 'vitest'
import { openQStash } from '../../shared/qstash/client.ts'
import { ensureSchedules, tickScheduleId } from '../../shared/qstash/ensure-schedules.ts'
import { type Diagnosis, diagnose } from '../../standalone/doctor/diagnose.ts'
import { openHouse, type Variables } from '../../standalone/doctor/house.ts'
import { qstash } from '../../standalone/doctor/qstash.ts'
import { type HttpServer, serveHttp } from '../../standalone/http-server.ts'
import { serveWakes, type WakeServer } from '../../workers/waking/serve-wakes.ts'
import { type ControlPlane, controlPlane } from '../support/control-plane.ts'
import { freePort } from '../support/postgres.ts'
import { type QStashSim, startQStashSim } from '../support/qstash-sim.ts'

let plane: ControlPlane
let sim: QStashSim
let server: HttpServer
let wakes: WakeServer
let TICK_URL: string
let WAKE_URL: string
const woken: string[] = []
beforeAll(async () => {
  plane = await controlPlane()
  sim = await startQStashSim()
  const [ticksAt, wakesAt] = [await freePort(), await freePort()]
  TICK_URL = `http://127.0.0.1:${ticksAt}/tick`
  WAKE_URL = `http://127.0.0.1:${wakesAt}/wake`
  const keys = [sim.keys.current, sim.keys.next] as const
  const app = plane.appWith({ ticks: { keys, url: TICK_URL } })
  server = await serveHttp(app, { host: '127.0.0.1', port: ticksAt, log: plane.ports.log })
  wakes = await serveWakes(
    { isTaking: () => true, wake: async ({ tenantId }) => void woken.push(tenantId), again: async () => undefined },
    { host: '127.0.0.1', port: wakesAt, sender: { keys, url: WAKE_URL }, ports: plane.ports },
  )
  await ensureSchedules(openQStash({ QSTASH_URL: sim.url, QSTASH_TOKEN: sim.token }), TICK_URL)
})
afterAll(async () => {
  await wakes.stop()
  await server.stop()
  await sim[Symbol.asyncDispose]()
  await plane[Symbol.asyncDispose]()
})

const found = (more: Variables = {}): Promise<Diagnosis[]> =>
  diagnose(
    openHouse('control-plane', {
      QSTASH_URL: sim.url,
      QSTASH_TOKEN: sim.token,
      QSTASH_CURRENT_SIGNING_KEY: sim.keys.current,
      QSTASH_NEXT_SIGNING_KEY: sim.keys.next,
      TICK_URL,
      WAKE_URL,
      ...more,
    }),
    [qstash],
  )
const fault = (says: RegExp, todo: RegExp, state = 'fail'): unknown => ({
  check: 'qstash',
  state,
  says: expect.stringMatching(says),
  todo: expect.stringMatching(todo),
})

test('QStash as it should be: what is signed with its key is taken by control plane and workers', async () => {
  expect(await found()).toMatchObject([{ state: 'ok' }])
  expect(await found({ QSTASH_TOKEN: '' })).toMatchObject([{ state: 'ok' }])
  expect(woken).toEqual(['doctor_of_nobody', 'doctor_of_nobody'])
})

test('a token that is refused and a service that is away are found, and the token is not shown', async () => {
  const wrong = 'not-the-token-of-this-account'
  const findings = await found({ QSTASH_TOKEN: wrong })
  expect(findings).toEqual([fault(/invalid token/, /Correct QSTASH_TOKEN/)])
  expect(JSON.stringify(findings)).not.toContain(wrong)
  expect(await found({ QSTASH_URL: `http://127.0.0.1:${await freePort()}` })).toEqual([
    fault(/does not answer/, /Check QSTASH_URL/),
  ])
})

test('a schedule that is missing, paused or for another address is found', async () => {
  const account = openQStash({ QSTASH_URL: sim.url, QSTASH_TOKEN: sim.token })
  const asOperator = (method: string, path = ''): Promise<Response> =>
    fetch(`${sim.url}/v2/schedules/${tickScheduleId}${path}`, {
      method,
      headers: { authorization: `Bearer ${sim.token}` },
    })
  await asOperator('PATCH', '/pause')
  expect(await found()).toEqual([fault(/is paused/, /qstash-schedules/)])
  await ensureSchedules(account, 'https://elsewhere.example/tick')
  expect(await found()).toEqual([fault(/another address than TICK_URL/, /qstash-schedules/)])
  await asOperator('DELETE')
  expect(await found()).toEqual([fault(/has no schedule/, /qstash-schedules/)])
  await ensureSchedules(account, TICK_URL)
  expect(await found()).toMatchObject([{ state: 'ok' }])
})

test('whoever takes nothing that is signed with the current key, or for another address, is found', async () => {
  const other = 'sig_of_another_account_entirely'
  const findings = await found({ QSTASH_CURRENT_SIGNING_KEY: other })
  expect(findings).toEqual([
    fault(/signs with a key that is not known here/, /Set QSTASH_CURRENT_SIGNING_KEY/),
    fault(/TICK_URL refuses/, /same signing keys/),
    fault(/WAKE_URL refuses/, /same signing keys/),
  ])
  expect(JSON.stringify(findings)).not.toContain(other)
  const beside = WAKE_URL.replace('127.0.0.1', 'localhost')
  expect(await found({ WAKE_URL: beside })).toEqual([fault(/WAKE_URL refuses/, /letter by letter/)])
  expect(await found({ WAKE_URL: `${WAKE_URL}s` })).toEqual([fault(/answers 404/, /\/wake of the workers/)])
  expect(await found({ WAKE_URL: `http://127.0.0.1:${await freePort()}/wake` })).toEqual([
    fault(/cannot be reached from here/, /Let QStash reach it/, 'warn'),
  ])
})

test('keys that were rotated at the account are found before the next rotation stops everything', async () => {
  const before = sim.keys
  const known = { QSTASH_CURRENT_SIGNING_KEY: before.current, QSTASH_NEXT_SIGNING_KEY: before.next }
  sim.keys = { current: before.next, next: 'sig_the_one_after_that' }
  expect(await found(known)).toEqual([fault(/were rotated/, /those of the account/, 'warn')])
  sim.keys = { current: 'sig_the_one_after_that', next: 'sig_and_the_one_after' }
  expect(await found(known)).toEqual([fault(/every delivery is refused/, /those of the account/)])
  sim.keys = before
})
