import { afterAll, beforeAll, describe } from 'vitest'
import { migrationsFolder } from '../../standalone/ports.ts'
import { migratePg, openPg, type OpenDb } from '../../workers/db/pg.ts'
import { ledgerCases } from '../schema/ledger-cases.ts'
import { oneTripCases } from '../schema/one-trip-cases.ts'
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
  oneTripCases('PostgreSQL', () => opened.db)
  readOnceCases('PostgreSQL', () => opened.db)
})
