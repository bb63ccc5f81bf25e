import { sql } from 'drizzle-orm'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { queueTypes } from '../../schema/states.ts'
import { type Db, rowsOf, withLedger, withTenant } from '../../shared/db/db.ts'
import { keepHomes } from '../../shared/runs/homes.ts'
import {
  type Claim,
  claimSteps,
  completeAndClaim,
  completeStep,
  type Ended,
  releaseStep,
  startRun,
} from '../../shared/runs/ledger.ts'
import { migrationsFolder } from '../../standalone/ports.ts'
import { brokenAtRest, brokenNow } from '../chaos/simulator/invariants.ts'
import { makeTenant } from '../support/database.ts'
import { startPostgres } from '../support/postgres.ts'
import { migratePg, openPg, type OpenDb } from '../../workers/db/pg.ts'
import { plannedRun, plannedStep } from '../support/runs.ts'

const postgres = await startPostgres()

const left = 'skipped' in postgres ? postgres.skipped : undefined

describe.skipIf(left !== undefined)(
  `claims beside each other${left === undefined ? '' : `, left out: ${left}`}`,
  () => {
    let opened: OpenDb
    let db: Db
    beforeAll(async () => {
      const url = 'url' in postgres ? postgres.url : ''
      await migratePg(url, migrationsFolder)
      opened = openPg(url, 20)
      db = opened.db
    })
    afterAll(async () => {
      await opened.close()
      if ('stop' in postgres) await postgres.stop()
    })

    type Tenant = Awaited<ReturnType<typeof makeTenant>>
    const start = async ({ tenantId, pipelineId }: Tenant, steps: number): Promise<void> => {
      const planned = Array.from({ length: steps }, (_, position) =>
        plannedStep(`s${position}`, { position, queue: 'transform' }),
      )
      await withTenant(db, { tenantId, side: 'api' }, (tx) => startRun(tx, plannedRun(pipelineId, planned)))
    }
    const claim = (tenants: Tenant[], worker = 'w1', limit = 1): Promise<Claim[]> =>
      claimSteps(db, {
        worker,
        queues: queueTypes,
        limit,
        leaseMs: 30_000,
        tenants: idsOf(tenants),
      })

    // By turns alone and with the next step, as workers do.
    let ends = 0
    const end = async (one: Claim, tenants: Tenant[], worker: string): Promise<Ended> => {
      const wanted = { worker, queues: queueTypes, leaseMs: 30_000, tenants: idsOf(tenants) }
      if (ends++ % 3 > 0) return completeAndClaim(db, one, {}, [], wanted)
      return { isDone: await completeStep(db, one, {}, []), next: undefined }
    }

    test('a worker does not leave empty-handed because another commits at that moment', async () => {
      const tenant = await makeTenant(db)
      await start(tenant, 3)
      const held = Promise.withResolvers<void>()
      const locked = Promise.withResolvers<void>()
      const holding = db.transaction(async (tx) => {
        await tx.execute(sql`select 1 from app.tenant_queue where tenant_id = ${tenant.tenantId} for update`)
        locked.resolve()
        await held.promise
      })
      await locked.promise
      const waiting = claim([tenant])
      await untilSomebodyWaits(db)
      held.resolve()
      await holding
      expect(await waiting).toHaveLength(1)
    })

    test('a tenant whose turn it is by far is not passed over because its row is in other hands', async () => {
      const [first, last] = [await makeTenant(db), await makeTenant(db)]
      for (let i = 0; i < 4; i++) await start(last, 1)
      for (let i = 0; i < 3; i++) {
        const [one] = await claim([last])
        if (!one) throw new Error('nothing to claim')
        await db.execute(
          sql`update app.run_step set attempt_started_at = clock_timestamp() - interval '1 hour' where run_id = ${one.runId}`,
        )
        await completeStep(db, one, {}, [])
      }
      await start(first, 1)
      const held = Promise.withResolvers<void>()
      const locked = Promise.withResolvers<void>()
      const holding = db.transaction(async (tx) => {
        await tx.execute(sql`select 1 from app.tenant_queue where tenant_id = ${first.tenantId} for update`)
        locked.resolve()
        await held.promise
      })
      await locked.promise
      const waiting = claim([first, last])
      await untilSomebodyWaits(db)
      held.resolve()
      await holding
      expect((await waiting).map(({ tenantId }) => tenantId)).toEqual([first.tenantId])
    })

    test('claims and ends of steps that change queues lock each other out of nothing', async () => {
      const tenants = [await makeTenant(db, { maxQueuedRuns: 1000 }), await makeTenant(db, { maxQueuedRuns: 1000 })]
      const steps = ['ingest', 'transform', 'ingest', 'transform'].map((queue, position) =>
        plannedStep(`s${position}`, {
          position,
          queue: queue === 'ingest' ? 'ingest' : 'transform',
          needs: position === 0 ? [] : [`s${position - 1}`],
        }),
      )
      for (const { tenantId, pipelineId } of tenants)
        for (let i = 0; i < 40; i++)
          await withTenant(db, { tenantId, side: 'api' }, (tx) => startRun(tx, plannedRun(pipelineId, steps)))
      let left = 2 * 40 * steps.length
      const before = await deadlocks(db)
      const lane = async (worker: string): Promise<void> => {
        for (let empty = 0; left > 0 && empty < 1000;) {
          const claims = await claim(tenants, worker, 2)
          empty = claims.length === 0 ? empty + 1 : 0
          for (let one = claims.shift(); one; one = claims.shift()) {
            const { isDone, next } = await end(one, tenants, worker)
            if (isDone) left--
            if (next) claims.push(next)
          }
        }
      }
      await Promise.all(Array.from({ length: 16 }, (_, at) => lane(`w${at}`)))
      expect(left).toBe(0)
      expect((await deadlocks(db)) - before).toBe(0)
    })

    test('sixteen claimers over few tenants do every step once, and the counters stay true', async () => {
      const tenants: Tenant[] = []
      for (let i = 0; i < 3; i++) tenants.push(await makeTenant(db, { maxRunningTotal: 3 }))
      for (const tenant of tenants) for (let i = 0; i < 20; i++) await start(tenant, 2)
      const done = new Set<string>()
      const lane = async (worker: string): Promise<void> => {
        for (let empty = 0; done.size < 120 && empty < 200;) {
          const claims = await claim(tenants, worker, 2)
          empty = claims.length === 0 ? empty + 1 : 0
          for (let one = claims.shift(); one; one = claims.shift()) {
            const name = `${one.runId}/${one.stepKey}`
            expect(done.has(name)).toBe(false)
            done.add(name)
            const { isDone, next } = await end(one, tenants, worker)
            expect(isDone).toBe(true)
            if (next) claims.push(next)
          }
        }
      }
      await Promise.all(Array.from({ length: 16 }, (_, at) => lane(`w${at}`)))
      expect(done.size).toBe(120)
      expect(await brokenNow(db)).toEqual([])
      // The other tests of this file leave steps that run.
      const ended = (await brokenAtRest(db)).filter((line) => !line.includes('is still'))
      expect(ended).toEqual([])
    })

    test('of eight workers that claim at once, one at a time has a tenant', async () => {
      const tenants: Tenant[] = []
      for (let i = 0; i < 4; i++) tenants.push(await makeTenant(db, { maxQueuedRuns: 1000 }))
      for (const tenant of tenants) for (let i = 0; i < 15; i++) await start(tenant, 2)
      const owners = new Map<string, string>()
      let done = 0
      const lane = async (worker: string): Promise<void> => {
        const wanted = { worker, queues: queueTypes, leaseMs: 30_000, folder: 'one', tenants: idsOf(tenants) }
        for (let empty = 0; done < 120 && empty < 400;) {
          const claims = await claimSteps(db, { ...wanted, limit: 2 })
          empty = claims.length === 0 ? empty + 1 : 0
          const mine = (one: Claim): void => {
            expect([undefined, worker]).toContain(owners.get(one.tenantId))
            owners.set(one.tenantId, worker)
          }
          for (const one of claims) mine(one)
          for (let one = claims.shift(); one; one = claims.shift()) {
            const { isDone, next } = await completeAndClaim(db, one, {}, [], wanted)
            expect(isDone).toBe(true)
            done++
            if (!next) continue
            mine(next)
            claims.push(next)
            if (claims.length > 3) break
          }
          for (const one of claims) {
            expect(await releaseStep(db, one, 'stop')).toBe('released')
          }
          for (const [tenantId, owner] of owners) if (owner === worker) owners.delete(tenantId)
          await withLedger(db, 'worker', (tx) => keepHomes(tx, worker, [], 30_000))
        }
      }
      const before = await deadlocks(db)
      await Promise.all(Array.from({ length: 8 }, (_, at) => lane(`home${at}`)))
      expect(done).toBe(120)
      expect((await deadlocks(db)) - before).toBe(0)
    })
  },
)

const idsOf = (tenants: { tenantId: string }[]): string[] => tenants.map(({ tenantId }) => tenantId)

async function untilSomebodyWaits(db: Db): Promise<void> {
  for (;;) {
    const [row] = await rowsOf<{ n: number }>(
      db,
      sql`select count(*)::int as n from pg_stat_activity where wait_event_type = 'Lock' and query like '%claim_steps%'`,
    )
    if (row && row.n > 0) return
  }
}

async function deadlocks(db: Db): Promise<number> {
  await db.execute(sql`select pg_stat_force_next_flush()`)
  const [row] = await rowsOf<{ n: number }>(
    db,
    sql`select deadlocks::int as n from pg_stat_database where datname = current_database()`,
  )
  return row?.n ?? 0
}
