import { randomBytes } from 'node:crypto'
import { createPlatform } from '../../control-plane/tenants/bootstrap.ts'
import { tenantScopes } from '../../schema/roles.ts'
import { apiKey, pipeline, tenantLimit } from '../../schema/tables/index.ts'
import { systemClock } from '../../shared/clock.ts'
import { withTenant } from '../../shared/db/db.ts'
import { newId } from '../../shared/ids.ts'
import { makeApiKey } from '../../shared/secrets/api-key.ts'
import { secretBox } from '../../shared/secrets/secret-box.ts'
import { migrationsFolder } from '../../standalone/ports.ts'
import { makeTenant } from '../../test/support/database.ts'
import { startPostgres } from '../../test/support/postgres.ts'
import { hostedDatabase } from '../../test/support/self-host.ts'
import { grantSide, migratePg, openPg } from '../../workers/db/pg.ts'
import { listed } from './question.ts'

/** A PostgreSQL with one tenant that has more pipelines than a page, and no limit that a bench would reach. */
export type House = AsyncDisposable & {
  port: number
  /** As the login of the control plane. */
  web: string
  /** As a superuser, whom row-level security does not hold. */
  strong: string
  platformKeys: string
  tenantId: string
  token: string
}

/** Starts it; says why where the machine has no PostgreSQL. */
export async function houseOfList(): Promise<House | { skipped: string }> {
  const postgres = await startPostgres()
  if ('skipped' in postgres) return postgres
  const { owner, web, strong } = await hostedDatabase(postgres.url)
  await migratePg(owner, migrationsFolder)
  await grantSide(owner, 'web', 'api')
  const keys = { current: 'k1', keys: { k1: randomBytes(32).toString('base64') } }
  const { db, close } = openPg(strong)
  await createPlatform({ db, clock: systemClock, secrets: secretBox(keys) }, (await makeApiKey()).token)
  const { tenantId } = await makeTenant(db)
  const { id, token, secretHash } = await makeApiKey()
  await withTenant(db, { tenantId, side: 'api' }, async (tx) => {
    await tx
      .insert(apiKey)
      .values({ tenantId, id, name: 'bench', secretHash, scopes: [...tenantScopes], createdBy: 'x' })
    const paths = Array.from({ length: listed + 20 }, (_, i) => `bench/list/p${String(i).padStart(4, '0')}`)
    await tx
      .insert(pipeline)
      .values(
        paths.map((path) => ({ tenantId, id: newId('pipeline'), path, origin: 'tenant' as const, currentVersion: 1 })),
      )
  })
  // A bench asks more in a minute than any plan has points for.
  await db.update(tenantLimit).set({ apiPointsPerMinute: 1e9 })
  await close()
  return {
    port: postgres.port,
    web,
    strong,
    platformKeys: JSON.stringify(keys),
    tenantId,
    token,
    [Symbol.asyncDispose]: () => postgres.stop(),
  }
}
