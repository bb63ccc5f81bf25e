import { sql } from 'drizzle-orm'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type QueueType, queueTypes } from '../../../schema/states.ts'
import { withLedger, withTenant } from '../../../shared/db/db.ts'
import { inTurn, keepHomes, takeHome } from '../../../shared/runs/homes.ts'
import { claimSteps, releaseStep, startRun } from '../../../shared/runs/ledger.ts'
import { makeTenant, memoryDatabase } from '../../support/database.ts'
import { plannedRun, plannedStep } from '../../support/runs.ts'

let database: Awaited<ReturnType<typeof memoryDatabase>>
let tenants: string[]
beforeAll(async () => {
  database = await memoryDatabase()
  tenants = (await Promise.all([1, 2, 3].map(() => ready()))).sort()
})
afterAll(() => database.close())

async function ready(): Promise<string> {
  const { tenantId, pipelineId } = await makeTenant(database.db)
  await withTenant(database.db, { tenantId, side: 'api' }, (tx) =>
    startRun(tx, plannedRun(pipelineId, [plannedStep('only', { queue: 'transform' })])),
  )
  return tenantId
}

// Claims what there is and gives it back, so that there is as much for the next one: whose steps it was given.
async function take(
  worker: string,
  tenants: string[] | null = null,
  more: { queues?: QueueType[]; folder?: string } = {},
): Promise<string[]> {
  const wanted = { worker, folder: 'one', queues: queueTypes, tenants, limit: 100, leaseMs: 60_000, ...more }
  const claims = await claimSteps(database.db, wanted)
  for (const claim of claims) expect(await releaseStep(database.db, claim, 'stop')).toBe('released')
  return claims.map(({ tenantId }) => tenantId)
}
const keep = (worker: string, kept: string[], leaseMs = 60_000) =>
  withLedger(database.db, 'worker', (tx) => keepHomes(tx, worker, kept, leaseMs))

test('a tenant is one worker’s until it gives it up or says nothing more', async () => {
  const [first = '', second = '', third = ''] = tenants
  expect((await take('a')).sort()).toEqual(tenants)
  expect(await take('b')).toEqual([])
  await keep('a', [first])
  expect((await take('b')).sort()).toEqual([second, third])
  // A lease that is over is as good as none, and nobody can keep what another has meanwhile.
  await keep('b', [second], 0)
  expect((await take('a')).sort()).toEqual(tenants)
  await keep('b', [second])
  expect(await take('b')).toEqual([])
  await keep('a', [])
})

test('a tenant stays where its lake is; before its first step it may go elsewhere', async () => {
  const fresh = await ready()
  expect(await takeHome(database.db, { worker: 'a', folder: 'one', tenantId: fresh, leaseMs: 60_000 })).toBe(true)
  expect(await take('b', [fresh], { folder: 'two' })).toEqual([])
  await keep('a', [])
  expect(await take('b', [fresh], { folder: 'two' })).toEqual([fresh])
  await keep('b', [fresh])
  await keep('b', [])
  expect(await take('a', [fresh])).toEqual([])
  expect(await take('c', [fresh], { folder: 'two' })).toEqual([fresh])
  await keep('c', [])
})

test('a worker takes no tenant that it does not serve, and none for whom it claims nothing', async () => {
  const [first = ''] = tenants
  const { tenantId: idle } = await makeTenant(database.db)
  expect(await take('c', [first, idle])).toEqual([first])
  await keep('c', [])
  expect(await take('c', null, { queues: ['export'] })).toEqual([])
  const stranger = { worker: 'd', folder: 'two', leaseMs: 60_000 }
  expect(await takeHome(database.db, { ...stranger, tenantId: idle })).toBe(true)
})

test('of all who offer to keep house one does, until it is due again; a failure gives the turn back', async () => {
  const done: string[] = []
  const offer = (name: string, everyMs: number, fails = false) =>
    inTurn(database.db, 'tick', everyMs, async () => {
      done.push(name)
      if (fails) throw new Error('the house fell in')
    })
  await expect(offer('a', 60_000, true)).rejects.toThrow('the house fell in')
  await offer('b', 60_000)
  await offer('c', 60_000)
  expect(done).toEqual(['a', 'b'])
})

test('no side of the product reads who has which tenant', async () => {
  for (const side of ['api', 'worker'] as const)
    await expect(
      withLedger(database.db, side, (tx) => tx.execute(sql`select * from app.tenant_home`)),
    ).rejects.toMatchObject({ cause: { code: '42501' } })
})
