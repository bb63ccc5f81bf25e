import { and, asc, eq, sql } from 'drizzle-orm'
import { expect, test } from 'vitest'
import { pipeline, pipelineVersion, tenant, tenantQueue } from '../../schema/tables/index.ts'
import { type Db, readOnce, readRows, rowsOf, withTenant } from '../../shared/db/db.ts'
import { newId } from '../../shared/ids.ts'
import { makeTenant } from '../support/database.ts'

/** What a read in one exchange must keep of what a transaction under `withTenant` would. */
export function readOnceCases(engine: string, open: () => Db): void {
  test(`${engine}: a read has role, tenant and time limit, and leaves none behind`, async () => {
    const { tenantId } = await makeTenant(open())
    const whoAmI = sql`select current_user::text as role, current_setting('app.tenant_id', true) as tenant,
      current_setting('statement_timeout') as "limit", current_setting('transaction_read_only') as "only"`
    const [before] = await rowsOf(open(), whoAmI)
    expect(await readRows(open(), { tenantId, side: 'api' }, whoAmI)).toEqual([
      { role: 'tributary_api', tenant: tenantId, limit: '5s', only: 'on' },
    ])
    const [after] = await rowsOf(open(), whoAmI)
    expect({ ...after, tenant: after?.['tenant'] ?? '' }).toEqual({ ...before, tenant: '' })
  })

  test(`${engine}: a read sees one tenant, in the types of any other query`, async () => {
    const [{ tenantId }] = [await makeTenant(open()), await makeTenant(open())]
    const scope = { tenantId, side: 'api' } as const
    const build = (db: Db) => db.select().from(tenantQueue).orderBy(asc(tenantQueue.queue))
    const once = await readOnce(open(), scope, build)
    expect(once).toHaveLength(4)
    expect(once).toEqual(await withTenant(open(), scope, (tx) => build(tx)))
    const [own] = await readOnce(open(), scope, (db) => db.select().from(tenant))
    expect(own).toEqual((await withTenant(open(), scope, (tx) => tx.select().from(tenant)))[0])
    expect(own?.createdAt).toBeInstanceOf(Date)
    expect(own?.configuration).toBeTypeOf('object')
  })

  test(`${engine}: a read has the values of any other query, of joins that find nothing as well`, async () => {
    const { tenantId } = await makeTenant(open())
    const scope = { tenantId, side: 'api' } as const
    const moments = [
      '2026-11-20T08:30:00Z',
      '2026-11-20T08:30:00.1Z',
      '2026-11-20T08:30:00.12Z',
      '2026-11-20T08:30:00.1234Z',
      '2026-02-28T23:59:59.999999Z',
      '1999-12-31T00:00:00.5Z',
      '0042-01-01T00:00:00.123456Z',
      '12026-01-01 00:00:00.123456+00',
    ]
    await withTenant(open(), scope, (tx) =>
      tx.insert(pipeline).values(
        moments.map((at, n) => ({
          tenantId,
          id: newId('pipeline'),
          path: `test/moments/m${n}`,
          origin: 'tenant' as const,
          currentVersion: n + 1,
          createdAt: sql`${at}::timestamptz`,
        })),
      ),
    )
    const versions = and(
      eq(pipelineVersion.tenantId, pipeline.tenantId),
      eq(pipelineVersion.pipelineId, pipeline.id),
      eq(pipelineVersion.version, pipeline.currentVersion),
    )
    const builds: ((db: Db) => PromiseLike<unknown[]>)[] = [
      (db) => db.select().from(pipeline).orderBy(asc(pipeline.path)),
      (db) => db.select().from(pipeline).leftJoin(pipelineVersion, versions).orderBy(asc(pipeline.path)),
      (db) =>
        db
          .select({ path: pipeline.path, of: { yaml: pipelineVersion.yaml, at: pipelineVersion.createdAt } })
          .from(pipeline)
          .leftJoin(pipelineVersion, versions)
          .orderBy(asc(pipeline.path)),
      (db) =>
        db
          .select({ n: sql<number>`count(*)`.mapWith(Number), last: sql`max(${pipeline.path})`.as('last') })
          .from(pipeline),
    ]
    for (const build of builds)
      expect(await readOnce(open(), scope, build)).toEqual(await withTenant(open(), scope, async (tx) => build(tx)))
  })

  test(`${engine}: a read cannot write`, async () => {
    const { tenantId } = await makeTenant(open())
    const write = readOnce(open(), { tenantId, side: 'api' }, (db) =>
      db.update(tenant).set({ name: 'written' }).where(eq(tenant.id, tenantId)).returning({ name: tenant.name }),
    )
    await expect(write).rejects.toMatchObject(
      expect.objectContaining({ message: expect.stringMatching(/read-only|Failed query/) }),
    )
    const [row] = await readOnce(open(), { tenantId, side: 'api' }, (db) => db.select().from(tenant))
    expect(row?.name).toBe(tenantId)
  })

  test(`${engine}: reads of two tenants at once each see their own`, async () => {
    const two = [await makeTenant(open()), await makeTenant(open())]
    const reads = Array.from({ length: 40 }, async (_, i) => {
      const tenantId = two[i % 2]?.tenantId ?? ''
      const rows = await readOnce(open(), { tenantId, side: 'api' }, (db) => db.select({ id: tenant.id }).from(tenant))
      return [tenantId, rows]
    })
    for (const [tenantId, rows] of await Promise.all(reads)) expect(rows).toEqual([{ id: tenantId }])
  })
}
