import { sql } from 'drizzle-orm'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { scopes } from '../../schema/roles.ts'
import { apiKey } from '../../schema/tables/index.ts'
import { rowsOf, withTenant } from '../../shared/db/db.ts'
import { makeApiKey } from '../../shared/secrets/api-key.ts'
import { migrationsFolder } from '../../standalone/ports.ts'
import { migratePg, openPg, type OpenDb } from '../../workers/db/pg.ts'
import { type ControlPlane, controlPlane } from '../support/control-plane.ts'
import { makeTenant } from '../support/database.ts'
import { ownedDatabase, startPostgres } from '../support/postgres.ts'

const postgres = await startPostgres()
const left = 'skipped' in postgres ? postgres.skipped : undefined

// The embedded database knows no time limit of statements.
describe.skipIf(left !== undefined)(`on a server${left === undefined ? '' : `, left out: ${left}`}`, () => {
  let opened: OpenDb
  let plane: ControlPlane
  beforeAll(async () => {
    const url = await ownedDatabase('url' in postgres ? postgres.url : '')
    await migratePg(url, migrationsFolder)
    opened = openPg(url)
    plane = await controlPlane()
  })
  afterAll(async () => {
    await plane[Symbol.asyncDispose]()
    await opened.close()
    if ('stop' in postgres) await postgres.stop()
  })

  const atWork = async (): Promise<number> => {
    const [row] = await rowsOf<{ n: number }>(
      opened.db,
      sql`select count(*)::int as n from pg_stat_activity
          where datname = current_database() and pid <> pg_backend_pid() and state = 'active' and query like '%"tenant_user"%'`,
    )
    return row?.n ?? 0
  }

  test('a query that waits for a lock is stopped in the database, and its request has been told before', async () => {
    const { tenantId } = await makeTenant(opened.db)
    const { id, token, secretHash } = await makeApiKey()
    await withTenant(opened.db, { tenantId, side: 'api' }, (tx) =>
      tx.insert(apiKey).values({ tenantId, id, name: 'test', secretHash, scopes: [...scopes], createdBy: 'test' }),
    )
    const ask = (executionMs: number) =>
      plane.query('{ users { nodes { id } } }', {
        token,
        app: plane.appWith({ waits: { executionMs } }, { db: opened.db }),
      })
    await opened.db.transaction(async (tx) => {
      await tx.execute(sql`lock table app.tenant_user in access exclusive mode`)
      const started = performance.now()
      const [early, late] = await Promise.all([ask(300), ask(60_000)])
      expect([early.status, early.errors[0]?.extensions.code]).toEqual([504, 'TIMED_OUT'])
      // The other was patient: it is the database that ended it.
      expect([late.errors[0]?.extensions.code, late.errors[0]?.message]).toEqual([
        'TIMED_OUT',
        'The database took too long for this.',
      ])
      expect(performance.now() - started).toBeLessThan(30_000)
      expect(await atWork()).toBe(0)
    })
    const { errors } = await ask(5_000)
    expect(errors).toEqual([])
  }, 60_000)
})
