import { sql } from 'drizzle-orm'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { readRows } from '../../shared/db/db.ts'
import { migrationsFolder } from '../../standalone/ports.ts'
import { migratePg, openPg, type OpenDb } from '../../workers/db/pg.ts'
import { ledgerCases } from '../schema/ledger-cases.ts'
import { exchangeCases } from '../schema/exchange-cases.ts'
import { readOnceCases } from '../schema/read-once-cases.ts'
import { ownedDatabase, startPostgres } from '../support/postgres.ts'

const postgres = await startPostgres()

const left = 'skipped' in postgres ? postgres.skipped : undefined

describe.skipIf(left !== undefined)(`on a server${left === undefined ? '' : `, left out: ${left}`}`, () => {
  let opened: OpenDb
  beforeAll(async () => {
    const url = await ownedDatabase('url' in postgres ? postgres.url : '')
    await migratePg(url, migrationsFolder)
    // A second time at once, as two processes that start together: one migrates, the other finds it done.
    await Promise.all([migratePg(url, migrationsFolder), migratePg(url, migrationsFolder)])
    opened = openPg(url)
  })
  afterAll(async () => {
    await opened.close()
    if ('stop' in postgres) await postgres.stop()
  })
  ledgerCases('PostgreSQL', () => opened.db)
  exchangeCases('PostgreSQL', () => opened.db)
  readOnceCases('PostgreSQL', () => opened.db)

  test('a read that takes too long is stopped after 5 s, though its limit came with it', async () => {
    const begun = performance.now()
    const slow = readRows(opened.db, { tenantId: 'nobody', side: 'api' }, sql`select pg_sleep(30)`)
    await expect(slow).rejects.toMatchObject({ cause: { code: '57014' } })
    expect(performance.now() - begun).toBeLessThan(15_000)
  })
})
