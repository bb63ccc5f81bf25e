import { sql } from 'drizzle-orm'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { scopes } from '../../schema/roles.ts'
import { apiKey } from '../../schema/tables/index.ts'
import { rowsOf, withTenant } from '../../shared/db/db.ts'
import { makeApiKey } from '../../shared/secrets/api-key.ts'
import { migrationsFolder } from '../../standalone/ports.ts'
import { migratePg, openPg, type OpenDb } from '../../workers/db/pg.ts'
import { type Answer, type ControlPlane, controlPlane } from '../support/control-plane.ts'
import { makeTenant } from '../support/database.ts'
import { ownedDatabase, startPostgres } from '../support/postgres.ts'

const postgres = await startPostgres()
const left = 'skipped' in postgres ? postgres.skipped : undefined

// The embedded database does one transaction after the other; here they truly meet.
describe.skipIf(left !== undefined)(`on a server${left === undefined ? '' : `, left out: ${left}`}`, () => {
  let opened: OpenDb
  let plane: ControlPlane
  beforeAll(async () => {
    const url = await ownedDatabase('url' in postgres ? postgres.url : '')
    await migratePg(url, migrationsFolder)
    opened = openPg(url, 20)
    plane = await controlPlane()
  })
  afterAll(async () => {
    await plane[Symbol.asyncDispose]()
    await opened.close()
    if ('stop' in postgres) await postgres.stop()
  })

  const newTenant = async () => {
    const { tenantId } = await makeTenant(opened.db)
    const { id, token, secretHash } = await makeApiKey()
    await withTenant(opened.db, { tenantId, side: 'api' }, async (tx) => {
      await plane.ports.secrets.createTenantKey(tx, tenantId)
      await tx.insert(apiKey).values({ tenantId, id, name: 'test', secretHash, scopes: [...scopes], createdBy: 'test' })
    })
    const app = plane.appWith({}, { db: opened.db })
    const ask = (document: string, variables: object): Promise<Answer> =>
      plane.query(document, { token, app, variables })
    return { tenantId, ask }
  }
  const create = 'mutation ($i: CreateApiKeyInput!) { createApiKey(input: $i) { apiKey { id } token errors { code } } }'
  const update =
    'mutation ($i: UpdateTenantSettingsInput!) { updateTenantSettings(input: $i) { tenant { version } errors { code } } }'

  test('requests with one key that meet have one effect, and all of them its answer', async () => {
    const { tenantId, ask } = await newTenant()
    for (let round = 0; round < 5; round++) {
      const i = { name: `key ${round}`, idempotencyKey: `round ${round}`.replace(' ', '-') }
      const answers = await Promise.all(Array.from({ length: 12 }, () => ask(create, { i })))
      expect(answers.flatMap(({ data }) => data.createApiKey.errors)).toEqual([])
      expect(new Set(answers.map(({ data }) => data.createApiKey.token)).size).toBe(1)
    }
    const [row] = await withTenant(opened.db, { tenantId, side: 'api' }, (tx) =>
      rowsOf<{ n: number }>(tx, sql`select count(*)::int as n from app.api_key where name like 'key %'`),
    )
    expect(row?.n).toBe(5)
  })

  test('requests with different keys that change the same wait for each other, and none for ever', async () => {
    const { ask } = await newTenant()
    for (let version = 1; version <= 5; version++) {
      const answers = await Promise.all(
        Array.from({ length: 8 }, (_, n) =>
          ask(update, {
            i: { expectedVersion: version, companyName: `c${version}-${n}`, idempotencyKey: `v${version}-${n}` },
          }),
        ),
      )
      expect(answers.flatMap(({ errors }) => errors)).toEqual([])
      expect(answers.filter(({ data }) => data.updateTenantSettings.errors.length === 0)).toHaveLength(1)
    }
  })

  test('who waits for a request that does not end hears that it is still running', async () => {
    const { tenantId, ask } = await newTenant()
    const i = { name: 'slow', idempotencyKey: 'slow' }
    await withTenant(opened.db, { tenantId, side: 'api' }, async (tx) => {
      await tx.execute(
        sql`insert into app.idempotent_request (tenant_id, mutation, key, actor, input_hash, claimed_by, claimed_until, expires_at)
            values (${tenantId}, 'createApiKey', 'slow', 'key:x', 'x', 'req', now(), now() + interval '1 day')`,
      )
      const answer = await ask(create, { i })
      expect(answer.data.createApiKey).toEqual({ apiKey: null, token: null, errors: [{ code: 'CONFLICT' }] })
    })
  })
})
