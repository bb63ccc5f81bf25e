import { execFileSync } from 'node:child_process'
import { sql } from 'drizzle-orm'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Db, readRows, rowsOf, withTenant } from '../../shared/db/db.ts'
import { isDatabaseAway } from '../../shared/db/away.ts'
import { migrationsFolder } from '../../standalone/ports.ts'
import { migratePg, openPg, type OpenDb } from '../../workers/db/pg.ts'
import { ownedDatabase, startPostgres } from '../support/postgres.ts'

const postgres = await startPostgres()
const left = 'skipped' in postgres ? postgres.skipped : undefined
const scope = { tenantId: 'nobody', side: 'worker' } as const

describe.skipIf(left !== undefined)(`connections of a server${left === undefined ? '' : `, left out: ${left}`}`, () => {
  let url: string
  let opened: OpenDb
  beforeAll(async () => {
    url = await ownedDatabase('url' in postgres ? postgres.url : '')
    await migratePg(url, migrationsFolder)
    opened = openPg(url, 1)
  })
  afterAll(async () => {
    await opened.close()
    if ('stop' in postgres) await postgres.stop()
  })

  // By another process while this one stands still: the connection looks whole to whoever asks first afterwards.
  async function cutUnseen(db: Db): Promise<void> {
    const [row] = await withTenant(db, scope, (tx) => rowsOf<{ pid: number }>(tx, sql`select pg_backend_pid() as pid`))
    const text = `import pg from 'pg'
      const client = new pg.Client(process.argv[1])
      await client.connect()
      await client.query('select pg_terminate_backend($1, 10000)', [process.argv[2]])
      await client.end()`
    const owner =
      'url' in postgres ? Object.assign(new URL(postgres.url), { pathname: new URL(url).pathname }).href : ''
    execFileSync(process.execPath, ['--input-type=module', '-e', text, owner, String(row?.pid)], { timeout: 30_000 })
  }

  test.each([
    ['a transaction', () => withTenant(opened.db, scope, (tx) => tx.execute(sql`select 1`))],
    ['a single query', () => readRows(opened.db, scope, sql`select 1`)],
  ])('one that breaks under the beginning of %s is not lost to those that follow', async (_, ask) => {
    // More often than there are connections.
    for (let time = 0; time < 3; time++) {
      await cutUnseen(opened.db)
      const error: unknown = await ask().then(
        () => undefined,
        (thrown: unknown) => thrown,
      )
      expect(isDatabaseAway(error)).toBe(true)
      await expect(ask()).resolves.toBeDefined()
    }
  })
})
