import { sql } from 'drizzle-orm'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { type QueueType, queueTypes } from '../../../schema/states.ts'
import { rowsOf, withLedger, withTenant } from '../../../shared/db/db.ts'
import { leaveWorker, seeWorker } from '../../../shared/runs/fleet.ts'
import { keepHomes, takeHome } from '../../../shared/runs/homes.ts'
import { makeTenant, memoryDatabase, tamper } from '../../support/database.ts'

let database: Awaited<ReturnType<typeof memoryDatabase>>
let tenantId: string
beforeAll(async () => {
  database = await memoryDatabase()
})
beforeEach(async () => {
  tenantId = (await makeTenant(database.db)).tenantId
  for (const id of ['a', 'b', 'c']) await leaveWorker(database.db, id)
})
afterAll(() => database.close())

type More = { folder?: string; tenants?: string[]; draining?: boolean; queues?: readonly QueueType[]; isShut?: boolean }
const see = (id: string, { folder, tenants, draining = false, queues = queueTypes, isShut = false }: More = {}) =>
  seeWorker(database.db, {
    id,
    host: id,
    pid: 1,
    version: '1',
    queues,
    tenants: tenants ?? null,
    capacity: 4,
    running: 0,
    draining,
    reader: isShut ? undefined : { url: `http://${id}`, folder },
  })
const reader = (of = tenantId): Promise<string | undefined> =>
  withTenant(database.db, { tenantId: of, side: 'api' }, async (tx) => {
    const [row] = await rowsOf<{ o_url: string }>(tx, sql`select * from app.reader_of()`)
    return row?.o_url
  })
const take = (worker: string, folder = 'one', leaseMs = 60_000) =>
  takeHome(database.db, { worker, folder, tenantId, leaseMs })
const keep = (worker: string, kept: string[]) =>
  withLedger(database.db, 'worker', (tx) => keepHomes(tx, worker, kept, 60_000))

test('a read goes to the worker that has the lake open, and to no other while it has', async () => {
  await see('a', { folder: 'one' })
  await see('b', { folder: 'one' })
  expect(await take('a')).toBe(true)
  expect(await reader()).toBe('http://a')
  expect(await take('b')).toBe(false)
  await see('a', { folder: 'one', draining: true })
  expect(await reader()).toBe('http://a')
  await keep('a', [])
  expect(await reader()).toBe('http://b')
  expect(await take('b')).toBe(true)
  expect(await take('a')).toBe(false)
})

test('a worker that has the lake and no door leaves nobody to ask', async () => {
  await see('a', { isShut: true })
  await see('b', { folder: 'one' })
  await take('a')
  expect(await reader()).toBe(undefined)
})

test('a lake is read where it is, and by a worker that lives and serves the tenant', async () => {
  await see('a', { folder: 'one' })
  await take('a')
  await keep('a', [tenantId])
  await keep('a', [])
  await leaveWorker(database.db, 'a')
  await see('b', { folder: 'two' })
  expect(await reader()).toBe(undefined)
  expect(await take('b', 'two')).toBe(false)
  await see('c', { folder: 'one', tenants: ['somebody_else'] })
  expect(await reader()).toBe(undefined)
  await see('b', { folder: 'one' })
  expect(await reader()).toBe('http://b')
  await tamper(database.db, sql`update app.worker set last_seen = now() - interval '31 seconds' where id = 'b'`)
  expect(await reader()).toBe(undefined)
})

test('a worker that takes all queues comes before one that takes some: a read makes the tenant its own for a while', async () => {
  await see('a', { folder: 'one' })
  await see('b', { folder: 'one', queues: ['export'] })
  expect(await reader()).toBe('http://a')
})
