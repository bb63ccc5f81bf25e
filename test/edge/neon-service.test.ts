import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { tenant } from '../../schema/tables/index.ts'
import { systemClock } from '../../shared/clock.ts'
import { type Db, readOnce } from '../../shared/db/db.ts'
import { neonDatabase } from '../../shared/db/neon.ts'
import { migrationsFolder } from '../../standalone/ports.ts'
import { migratePg } from '../../workers/db/pg.ts'
import { exchangeCases } from '../schema/exchange-cases.ts'
import { readOnceCases } from '../schema/read-once-cases.ts'
import { makeTenant } from '../support/database.ts'

/** A database at Neon that tests may fill; direct, not through its pooler, since it is migrated first. */
const url = process.env['TEST_NEON_DATABASE_URL'] ?? ''

describe.skipIf(url === '')('Neon itself, at TEST_NEON_DATABASE_URL', () => {
  let opened: { db: Db; close(): Promise<void> }
  beforeAll(async () => {
    await migratePg(url, migrationsFolder)
    opened = neonDatabase(url, { clock: systemClock })(4)
  })
  afterAll(() => opened?.close())

  exchangeCases('Neon itself', () => opened.db)
  readOnceCases('Neon itself', () => opened.db)

  test('its pooler keeps tenants apart', async () => {
    const [endpoint = '', ...rest] = new URL(url).hostname.split('.')
    const pooled = Object.assign(new URL(url), {
      hostname: [`${endpoint.replace(/-pooler$/, '')}-pooler`, ...rest].join('.'),
    })
    const { db, close } = neonDatabase(pooled.href, { clock: systemClock })(4)
    try {
      const two = [await makeTenant(db), await makeTenant(db)]
      const reads = Array.from({ length: 20 }, async (_, i) => {
        const tenantId = two[i % 2]?.tenantId ?? ''
        const rows = await readOnce(db, { tenantId, side: 'api' }, (one) => one.select({ id: tenant.id }).from(tenant))
        expect(rows).toEqual([{ id: tenantId }])
      })
      await Promise.all(reads)
    } finally {
      await close()
    }
  })
})
