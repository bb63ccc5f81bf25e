import { sql } from 'drizzle-orm'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { roleScopes } from '../../schema/roles.ts'
import { apiKey } from '../../schema/tables/index.ts'
import { rowsOf, withTenant } from '../../shared/db/db.ts'
import { fireDue } from '../../shared/schedules/fire-due.ts'
import { makeApiKey } from '../../shared/secrets/api-key.ts'
import { migrationsFolder } from '../../standalone/ports.ts'
import { migratePg, openPg, type OpenDb } from '../../workers/db/pg.ts'
import { type ControlPlane, controlPlane, type Loose } from '../support/control-plane.ts'
import { makeTenant } from '../support/database.ts'
import { ownedDatabase, startPostgres } from '../support/postgres.ts'

const postgres = await startPostgres()
const left = 'skipped' in postgres ? postgres.skipped : undefined

const steps = 'steps:\n  - step_id: only\n    ps_type: file.delete\n    paths: ["a"]\n'

// The embedded database does one transaction after the other; here tickers truly meet.
describe.skipIf(left !== undefined)(`on a server${left === undefined ? '' : `, left out: ${left}`}`, () => {
  const tickers: OpenDb[] = []
  let plane: ControlPlane
  beforeAll(async () => {
    const url = await ownedDatabase('url' in postgres ? postgres.url : '')
    await migratePg(url, migrationsFolder)
    for (let n = 0; n < 4; n++) tickers.push(openPg(url, 4))
    plane = await controlPlane()
  })
  afterAll(async () => {
    await plane[Symbol.asyncDispose]()
    await Promise.all(tickers.map(({ close }) => close()))
    if ('stop' in postgres) await postgres.stop()
  })
  const db = () => {
    const [first] = tickers
    if (!first) throw new Error('no database')
    return first.db
  }

  type Tenant = { id: string; ask(document: string, variables?: object): Promise<Loose> }
  async function newTenant(): Promise<Tenant> {
    const { tenantId } = await makeTenant(db())
    const { id, token, secretHash } = await makeApiKey()
    const scopes = [...roleScopes.TENANT_ADMIN]
    await withTenant(db(), { tenantId, side: 'api' }, (tx) =>
      tx.insert(apiKey).values({ tenantId, id, name: 'test', secretHash, scopes, createdBy: 'test' }),
    )
    const app = plane.appWith({}, { db: db() })
    return {
      id: tenantId,
      async ask(document, variables = {}) {
        const { data, errors } = await plane.query(document, { token, app, variables })
        expect(errors).toEqual([])
        return data
      },
    }
  }
  const save = async (tenant: Tenant, path: string, head: string): Promise<Loose[]> =>
    (
      await tenant.ask(
        'mutation ($input: SavePipelineInput!) { savePipeline(input: $input) { errors { message ... on ValidationError { problem } } } }',
        { input: { path, yaml: `pipeline_id: p\n${head}\n${steps}` } },
      )
    ).savePipeline.errors
  const asOwner = (tenantId: string, statement: ReturnType<typeof sql>) =>
    withTenant(db(), { tenantId, side: 'api' }, (tx) => tx.execute(statement))
  const runsOf = (tenantId: string): Promise<{ key: string }[]> =>
    withTenant(db(), { tenantId, side: 'api' }, (tx) =>
      rowsOf<{ key: string }>(
        tx,
        sql`select idempotency_key as key from app.pipeline_run where tenant_id = ${tenantId} order by 1`,
      ),
    )
  /** Four processes tick at the same time until nothing of anybody is due. */
  const tickAll = (): Promise<unknown> =>
    Promise.all(
      tickers.map(async (ticker) => {
        for (let quiet = 0; quiet < 2;)
          quiet = (await fireDue({ ...plane.ports, db: ticker.db }, 'worker', { limit: 5 })) > 0 ? 0 : quiet + 1
      }),
    )

  test('each slot of many tenants fires once with four tickers at the same time', async () => {
    const tenants = await Promise.all(Array.from({ length: 6 }, newTenant))
    for (const tenant of tenants) {
      expect(await save(tenant, 'x/y/z', 'schedule: { cron: "*/10 * * * *", catchup: all }')).toEqual([])
      await asOwner(
        tenant.id,
        sql`update app.schedule set next_fire_at = date_trunc('hour', now()) - interval '3 hours'`,
      )
    }
    await tickAll()
    for (const { id } of tenants) {
      const keys = (await runsOf(id)).map(({ key }) => key)
      expect(keys.length).toBeGreaterThanOrEqual(19)
      expect(new Set(keys).size).toBe(keys.length)
      const [row] = await withTenant(db(), { tenantId: id, side: 'api' }, (tx) =>
        rowsOf<{ fires: number; slots: number }>(
          tx,
          sql`select count(*)::int as fires, (extract(epoch from max(fire_at) - min(fire_at)) / 600 + 1)::int as slots from app.schedule_fire where state = 'started'`,
        ),
      )
      expect(row).toEqual({ fires: keys.length, slots: keys.length })
    }
  })

  test('each slot of a backfill has one run, never more than allowed at once', async () => {
    const tenant = await newTenant()
    await save(tenant, 'x/y/z', '')
    await tenant.ask('mutation ($input: StartBackfillInput!) { startBackfill(input: $input) { errors { message } } }', {
      input: { pipeline: 'x/y/z', from: '2026-01-01', to: '2026-02-09', maxActive: 7 },
    })
    await tickAll()
    const keys = (await runsOf(tenant.id)).map(({ key }) => key)
    expect(keys).toHaveLength(7)
    expect(new Set(keys).size).toBe(7)
  })

  test('two files that are saved at once cannot close a circle', async () => {
    const follow = (path: string): string => `triggers:\n  - { on: pipeline, pipeline: ${path} }`
    for (let round = 0; round < 5; round++) {
      const tenant = await newTenant()
      await save(tenant, 'a/a/one', '')
      await save(tenant, 'a/a/two', '')
      const saved = await Promise.all([
        save(tenant, 'a/a/one', follow('a/a/two')),
        save(tenant, 'a/a/two', follow('a/a/one')),
      ])
      expect(saved.flat()).toEqual([expect.objectContaining({ problem: 'PIPELINE_CYCLE' })])
    }
  })
})
