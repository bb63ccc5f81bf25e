import { afterAll, beforeAll, describe } from 'vitest'
import { migrationsFolder } from '../../standalone/ports.ts'
import { migratePg, openPg, type OpenDb } from '../../workers/db/pg.ts'
import { exchangeCases } from '../schema/exchange-cases.ts'
import { readOnceCases } from '../schema/read-once-cases.ts'
import { startPgbouncer } from '../support/pgbouncer.ts'
import { ownedDatabase, startPostgres } from '../support/postgres.ts'

const postgres = await startPostgres()
const url = 'url' in postgres ? await ownedDatabase(postgres.url) : ''
const pooler = 'url' in postgres ? await startPgbouncer(url) : postgres

const left = 'skipped' in pooler ? pooler.skipped : undefined

// Its one connection to the server serves all clients, each transaction whoever comes: what a client left on it, another
// would meet.
describe.skipIf(left !== undefined)(`behind a pooler${left === undefined ? '' : `, left out: ${left}`}`, () => {
  let opened: OpenDb
  beforeAll(async () => {
    await migratePg(url, migrationsFolder)
    opened = openPg('url' in pooler ? pooler.url : '', 4)
  })
  afterAll(async () => {
    await opened.close()
    if ('stop' in pooler) await pooler.stop()
    if ('stop' in postgres) await postgres.stop()
  })
  exchangeCases('PgBouncer', () => opened.db)
  readOnceCases('PgBouncer', () => opened.db)
})
