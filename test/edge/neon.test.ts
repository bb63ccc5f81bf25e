import { sql } from 'drizzle-orm'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { databaseFault } from '../../control-plane/graphql/errors.ts'
import { tenant } from '../../schema/tables/index.ts'
import { systemClock } from '../../shared/clock.ts'
import { isDatabaseAway } from '../../shared/db/away.ts'
import { callOnce, type Db, readOnce, rowsOf, withTenant } from '../../shared/db/db.ts'
import { neonDatabase } from '../../shared/db/neon.ts'
import { migrationsFolder } from '../../standalone/ports.ts'
import { migratePg } from '../../workers/db/pg.ts'
import { readOnceCases } from '../schema/read-once-cases.ts'
import { exchangeCases } from '../schema/exchange-cases.ts'
import { makeTenant } from '../support/database.ts'
import { type NeonProxy, startNeonProxy } from '../support/neon-proxy.ts'
import { startPgbouncer } from '../support/pgbouncer.ts'
import { startPostgres } from '../support/postgres.ts'

const instant = { sleep: async () => undefined }

const postgres = await startPostgres()
const started = 'skipped' in postgres ? undefined : postgres
let proxy: NeonProxy
beforeAll(async () => {
  if (!started) return
  await migratePg(started.url, migrationsFolder)
  proxy = await startNeonProxy(started.port, import.meta.filename)
})
afterAll(async () => {
  proxy?.stop()
  await started?.stop()
})

describe.skipIf(!started)('the driver of Neon before a stand-in', () => {
  let opened: { db: Db; close(): Promise<void> }
  beforeEach(() => {
    proxy.asked = { requests: [], sockets: 0 }
    opened = neonDatabase(started?.url ?? '', { proxy: proxy.hostPort, clock: instant })(4)
  })
  afterEach(async () => {
    proxy.troubles = []
    await opened.close()
  })

  exchangeCases('Neon', () => opened.db)
  readOnceCases('Neon', () => opened.db)

  const scope = (tenantId: string) => ({ tenantId, side: 'api' }) as const
  const ids = (tenantId: string) =>
    readOnce(opened.db, scope(tenantId), (db) => db.select({ id: tenant.id }).from(tenant))

  test('a read is one request and no connection', async () => {
    expect(await ids('nobody')).toEqual([])
    expect(proxy.asked.requests).toHaveLength(1)
    expect(proxy.asked.requests[0]?.[0]).toContain("set_config('role'")
    expect(proxy.asked.sockets).toBe(0)
  })

  test.for(['drop', 'fail'] as const)('a read is made again when the answer to it was %s', async (trouble) => {
    const { tenantId } = await makeTenant(opened.db)
    proxy.asked.requests = []
    proxy.troubles = [trouble, trouble]
    expect(await ids(tenantId)).toEqual([{ id: tenantId }])
    expect(proxy.asked.requests).toHaveLength(3)
  })

  test.for(['drop', 'fail'] as const)(
    'a call that may write is made once, whatever the answer: %s',
    async (trouble) => {
      const { tenantId } = await makeTenant(opened.db)
      proxy.asked.requests = []
      proxy.troubles = [trouble]
      const error: unknown = await callOnce(opened.db, scope(tenantId), sql`update app.tenant set name = 'x'`).catch(
        (thrown: unknown) => thrown,
      )
      expect(proxy.asked.requests).toHaveLength(1)
      expect(databaseFault(error)).toMatchObject({
        code: 'UNAVAILABLE',
        retry: 'later',
        figures: { retryAfterSeconds: 1 },
      })
    },
  )

  test.for(['drop', 'fail'] as const)('a transaction that finds no connection begins again: %s', async (trouble) => {
    proxy.troubles = [trouble, trouble]
    const runs: number[] = []
    const rows = await withTenant(opened.db, scope('nobody'), async (tx) => {
      runs.push(1)
      return rowsOf(tx, sql`select 1 as one`)
    })
    expect(rows).toEqual([{ one: 1 }])
    expect(runs).toHaveLength(1)
    expect(proxy.asked.sockets).toBe(3)
  })

  test('a transaction whose connection breaks is not begun again, changes nothing, and the next one has another', async () => {
    const { tenantId } = await makeTenant(opened.db)
    let runs = 0
    const broken: unknown = await withTenant(opened.db, scope(tenantId), async (tx) => {
      runs++
      await tx.update(tenant).set({ name: 'lost' })
      proxy.dropSockets()
      await tx.select().from(tenant)
    }).catch((thrown: unknown) => thrown)
    expect(runs).toBe(1)
    expect(isDatabaseAway(broken)).toBe(true)
    expect(databaseFault(broken)).toMatchObject({ code: 'UNAVAILABLE' })
    const [row] = await withTenant(opened.db, scope(tenantId), (tx) => tx.select().from(tenant))
    expect(row?.name).toBe(tenantId)
  })

  test('connections that broke while nobody used them are not met again', async () => {
    const work = () => withTenant(opened.db, scope('nobody'), (tx) => rowsOf(tx, sql`select 1 as one`))
    await Promise.all([work(), work(), work()])
    proxy.dropSockets()
    expect(await Promise.all([work(), work(), work()])).toEqual([[{ one: 1 }], [{ one: 1 }], [{ one: 1 }]])
  })

  test('whoever cannot be reached at all is away, over both ways', async () => {
    const nobody = neonDatabase(started?.url ?? '', { proxy: '127.0.0.1:1', clock: instant })(1)
    for (const attempt of [
      readOnce(nobody.db, scope('x'), (db) => db.select().from(tenant)),
      withTenant(nobody.db, scope('x'), (tx) => tx.select().from(tenant)),
    ]) {
      const error: unknown = await attempt.catch((thrown: unknown) => thrown)
      expect(isDatabaseAway(error)).toBe(true)
    }
    await nobody.close()
    // The stand-in's address is one for all of the process.
    neonDatabase('postgres://x@y/z', { proxy: proxy.hostPort, clock: systemClock })
  })

  test('a proxy that is silent is given up', { timeout: 30_000 }, async () => {
    proxy.troubles = ['silent']
    const begun = performance.now()
    const error: unknown = await ids('x').catch((thrown: unknown) => thrown)
    expect(performance.now() - begun).toBeLessThan(20_000)
    expect(isDatabaseAway(error)).toBe(true)
    expect(proxy.asked.requests).toHaveLength(1)
    proxy.troubles = ['silent']
    expect(await withTenant(opened.db, scope('x'), (tx) => rowsOf(tx, sql`select 1 as one`))).toEqual([{ one: 1 }])
  })

  test('a statement of the API is stopped after 5 s over both ways, and that is no reason to try again', async () => {
    const slow = sql`select pg_sleep(20)`
    proxy.asked.requests = []
    const errors: unknown[] = await Promise.all([
      readOnce(opened.db, scope('x'), (db) => db.execute(slow)).catch((thrown: unknown) => thrown),
      withTenant(opened.db, scope('x'), (tx) => tx.execute(slow)).catch((thrown: unknown) => thrown),
    ])
    expect(proxy.asked.requests.length).toBe(1)
    for (const error of errors) expect(databaseFault(error)).toMatchObject({ code: 'TIMED_OUT' })
  })
})

describe.skipIf(!started)('through a pooler that lends connections per transaction', () => {
  test('no role, tenant or time limit is met by the next transaction on the same connection', async (context) => {
    const pooler = await startPgbouncer(started?.url ?? '')
    if ('skipped' in pooler) return context.skip(`left out: ${pooler.skipped}`)
    const pooled = await startNeonProxy(Number(new URL(pooler.url).port), import.meta.filename)
    const neon = neonDatabase(pooler.url, { proxy: pooled.hostPort, clock: systemClock })
    const { db, close } = neon(4)
    try {
      const two = [await makeTenant(db), await makeTenant(db)]
      const state = sql`select current_user::text as role, coalesce(current_setting('app.tenant_id', true), '') as tenant, current_setting('statement_timeout') as "limit"`
      const seen = await Promise.all(
        Array.from({ length: 60 }, (_, i) => {
          const tenantId = two[i % 2]?.tenantId ?? ''
          const own = { tenantId, side: 'api' } as const
          if (i % 3 === 0) return rowsOf(db, state)
          const read = (tx: Db) => tx.select({ id: tenant.id }).from(tenant)
          return (i % 3 === 1 ? readOnce(db, own, read) : withTenant(db, own, (tx) => read(tx))).then((rows) => {
            expect(rows).toEqual([{ id: tenantId }])
            return []
          })
        }),
      )
      for (const [bare] of seen.filter((rows) => rows.length > 0))
        expect(bare).toMatchObject({ role: 'tester', tenant: '', limit: '0' })
    } finally {
      await close()
      pooled.stop()
      await pooler.stop()
      neonDatabase('postgres://x@y/z', { proxy: proxy.hostPort, clock: systemClock })
    }
  })
})
