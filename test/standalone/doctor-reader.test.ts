import { afterAll, beforeAll, expect, test } from 'vitest'
import { sql } from 'drizzle-orm'
import { withLedger } from '../../shared/db/db.ts'
import { newId } from '../../shared/ids.ts'
import { seeWorker } from '../../shared/runs/fleet.ts'
import { openHouse } from '../../standalone/doctor/house.ts'
import { reader } from '../../standalone/doctor/reader.ts'
import { type ReadServer, serveReads } from '../../workers/reader/serve-reads.ts'
import { type ControlPlane, controlPlane } from '../support/control-plane.ts'

const keys = { current: 'k1', keys: { k1: btoa('0123456789abcdef0123456789abcdef') } }
const worker = newId('worker')
let plane: ControlPlane
let door: ReadServer
beforeAll(async () => {
  plane = await controlPlane()
  door = await serveReads(() => ({ id: worker, read: async () => [] }), {
    host: '127.0.0.1',
    port: 0,
    ports: plane.ports,
  })
})
afterAll(async () => {
  await door.stop()
  await plane[Symbol.asyncDispose]()
})

async function found(url: string | undefined, platformKeys = keys) {
  await withLedger(plane.ports.db, 'worker', (tx) => tx.execute(sql`select app.leave_worker(${worker})`))
  const seen = { id: worker, host: 'h', pid: 1, version: '', queues: [], tenants: null, capacity: 1, running: 0 }
  await seeWorker(plane.ports.db, {
    ...seen,
    draining: false,
    reader: url === undefined ? undefined : { url, folder: undefined },
  })
  const house = { ...openHouse('self-host', {}), platformKeys, database: async () => plane.ports.db }
  return [await reader.look(house, AbortSignal.timeout(10_000))].flat()
}

test('the doctor tries the door for reads of every worker, and says what to do', async () => {
  expect(await found(door.url)).toEqual([{ state: 'ok', says: `${door.url} answers.` }])
  expect(await found('http://127.0.0.1:1')).toMatchObject([
    { state: 'warn', todo: expect.stringMatching('READER_URL') },
  ])
  expect(await found(undefined)).toMatchObject([
    { state: 'warn', says: expect.stringMatching('No worker takes reads') },
  ])
  const others = { current: 'k1', keys: { k1: btoa('f'.repeat(32)) } }
  expect(await found(door.url, others)).toMatchObject([{ state: 'fail', todo: expect.stringMatching('PLATFORM_KEYS') }])
})
