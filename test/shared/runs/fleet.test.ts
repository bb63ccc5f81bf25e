import { sql } from 'drizzle-orm'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { platformTenantId } from '../../../schema/roles.ts'
import { type Db, rowsOf, withTenant } from '../../../shared/db/db.ts'
import { queueFailures, queueStandings } from '../../../shared/runs/fleet.ts'
import { makeTenant, memoryDatabase } from '../../support/database.ts'

let db: Db
let close: () => Promise<void>
const tenants = 1000
beforeAll(async () => {
  ;({ db, close } = await memoryDatabase())
  const { tenantId } = await makeTenant(db)
  await db.transaction(async (tx) => {
    // A fleet as onboarding and a month of work would leave it, written by the database itself.
    for (const statement of [
      sql`insert into app.tenant select format('many_%s', n), x.name, x.company_name, x.admin_email, x.plan, 'active', x.configuration
          from app.tenant x, generate_series(1, ${tenants}) n where x.id = ${tenantId}`,
      sql`insert into app.tenant_queue (tenant_id, queue) select format('many_%s', n), q
          from generate_series(1, ${tenants}) n, unnest(array['ingest', 'transform', 'export', 'delivery']) q`,
      sql`insert into app.pipeline (tenant_id, id, path, origin, current_version) select format('many_%s', n), 'pip', 'a/b/c', 'tenant', 1
          from generate_series(1, ${tenants}) n`,
      sql`insert into app.pipeline_version select format('many_%s', n), 'pip', 1, '', '', '' from generate_series(1, ${tenants}) n`,
      sql`insert into app.pipeline_run (tenant_id, run_id, pipeline_id, pipeline_version, requested_by, pending)
          select format('many_%s', n), format('run_%s', n), 'pip', 1, '', 20 from generate_series(1, ${tenants}) n`,
      sql`insert into app.run_step (tenant_id, run_id, step_key, position, ps_type, queue, state, trigger_rule, needs, dependents, unmet,
            max_attempts, backoff_ms, backoff_cap_ms, timeout_ms, allow_failure, ready_at, finished_at, settings, error)
          select format('many_%s', n), format('run_%s', n), format('s%s', i), i, 'x', 'export', case when i <= 2 then 'ready' when i <= 4 then 'failed' else 'succeeded' end,
            'always', '{}', '{}', 0, 1, 0, 0, 1000, false, now() - i * interval '1 minute', now() - i * interval '1 minute', '{}',
            case when i between 3 and 4 then '{"code": "TIMED_OUT", "message": "It took long."}'::jsonb end
          from generate_series(1, ${tenants}) n, generate_series(1, 20) i`,
    ])
      await tx.execute(statement)
  })
  await db.execute(sql`analyze`)
})
afterAll(() => close())

/** How often whole tables of steps and queues were read from end to end, and how many rows of steps by index. */
async function scans(): Promise<{ whole: number; rows: number }> {
  await db.execute(sql`select pg_stat_force_next_flush()`)
  const [found] = await rowsOf<{ whole: number; rows: number }>(
    db,
    sql`select sum(seq_scan)::int as whole, sum(idx_tup_fetch)::int as rows from pg_stat_user_tables where relname in ('run_step', 'tenant_queue')`,
  )
  return found ?? { whole: Number.NaN, rows: Number.NaN }
}
const asPlatform = <T>(work: Parameters<typeof withTenant<T>>[2]): Promise<T> =>
  withTenant(db, { tenantId: platformTenantId, side: 'api' }, work)

test('a page of the queues of 1,000 tenants reads its own rows and no whole table', async () => {
  const before = await scans()
  const page = await asPlatform((tx) =>
    queueStandings(tx, { tenantId: null, limit: 40, after: { tenantId: 'many_500', queue: 'transform' } }),
  )
  const after = await scans()
  expect(page).toHaveLength(40)
  expect(page[0]).toMatchObject({ tenantId: 'many_501', queue: 'delivery', ready: 0, oldestAt: null })
  expect(page[1]).toMatchObject({ tenantId: 'many_501', queue: 'export', ready: 2, waitingSeconds: expect.any(Number) })
  expect(page[1]?.waitingSeconds).toBeGreaterThanOrEqual(120)
  expect(after.whole - before.whole).toBe(0)
  expect(after.rows - before.rows).toBeGreaterThan(40)
  expect(after.rows - before.rows).toBeLessThan(500)
})

test('the queues of one tenant among 1,000, and their failures, cost their own rows alone', async () => {
  const before = await scans()
  const { standings, failures } = await asPlatform(async (tx) => {
    const queues = await queueStandings(tx, { tenantId: 'many_77', limit: 100 })
    const of = { queues, limit: 10, note: [], actor: 'key:test', requestId: 'req_test' }
    return { standings: queues, failures: await queueFailures(tx, of) }
  })
  const after = await scans()
  expect(standings.map(({ queue, ready }) => `${queue} ${ready}`)).toEqual([
    'delivery 0',
    'export 2',
    'ingest 0',
    'transform 0',
  ])
  expect(failures.map(({ stepKey, willRetry }) => `${stepKey} ${willRetry}`)).toEqual(['s3 false', 's4 false'])
  expect(after.whole - before.whole).toBe(0)
  expect(after.rows - before.rows).toBeGreaterThan(4)
  expect(after.rows - before.rows).toBeLessThan(50)
})
