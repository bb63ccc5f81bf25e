import pg from 'pg'
import { afterAll, beforeAll, describe } from 'vitest'
import { migrationsFolder } from '../../standalone/ports.ts'
import { migratePg, openPg, type OpenDb } from '../../workers/db/pg.ts'
import { ledgerCases } from '../schema/ledger-cases.ts'
import { startPostgres } from '../support/postgres.ts'

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
})

/** A database of a login that is no superuser, as hosted PostgreSQL gives it: it owns the tables, and obeys their policies. */
async function ownedDatabase(url: string): Promise<string> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  await client.query("create role house login createrole nosuperuser nobypassrls password 'house-password'")
  await client.query('create database house owner house')
  await client.end()
  return Object.assign(new URL(url), { username: 'house', password: 'house-password', pathname: '/house' }).href
}
