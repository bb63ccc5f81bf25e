import { drizzle } from 'drizzle-orm/node-postgres'
import { migrate } from 'drizzle-orm/node-postgres/migrator'
import pg from 'pg'
import { isDatabaseAway } from '../../shared/db/away.ts'
import { type Db, offerExchange, type Side } from '../../shared/db/db.ts'
import { AppError } from '../../shared/errors.ts'
import { exchangeOver } from './exchange.ts'

/** A connected database and how to leave it. */
export type OpenDb = { db: Db; close(): Promise<void> }

/** PostgreSQL 15 or newer by URL; at most `max` connections, each statement bounded to 60 s. */
export function openPg(url: string, max = 10): OpenDb {
  const pool = new pg.Pool({
    connectionString: url,
    max,
    connectionTimeoutMillis: 10_000,
    statement_timeout: 60_000,
    keepAlive: true,
    keepAliveInitialDelayMillis: 10_000,
  })
  // A connection that breaks must not end the process, idle or between two statements of a transaction: the next query
  // gets a new one, or an error of its own.
  pool.on('error', () => undefined)
  pool.on('connect', (client) => client.on('error', () => undefined))
  // What knows the tables is only what nobody here uses: relational queries.
  const db = drizzle(pool) as unknown as Db
  db.transaction = async (work, config) => {
    // Drizzle would keep a connection for good on which no transaction can begin, so connections are lent here.
    const client = await pool.connect()
    let isBroken = false
    try {
      return await (drizzle(client) as unknown as Db).transaction(work, config)
    } catch (error) {
      // The server's farewell comes before the end of the connection, which would be given to the next one in between.
      isBroken = isDatabaseAway(error)
      throw error
    } finally {
      client.release(isBroken)
    }
  }
  offerExchange(db, exchangeOver(pool))
  return { db, close: () => pool.end() }
}

/** Brings the database to this version of the product; safe to repeat and from several processes at once. */
export async function migratePg(url: string, folder: string): Promise<void> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 10_000 })
  await client.connect()
  try {
    await client.query('select pg_advisory_lock(8417026)')
    await migrate(drizzle(client), { migrationsFolder: folder })
  } finally {
    await client.end()
  }
}

/**
 * Lets a login become a side's role, which is all that its processes need. Throws NOT_FOUND when there is no such login,
 * and FORBIDDEN for one that row-level security does not hold.
 */
export async function grantSide(url: string, login: string, side: Side): Promise<void> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 10_000 })
  await client.connect()
  try {
    const { rows } = await client.query<{ strong: boolean }>(
      'select rolsuper or rolbypassrls as strong from pg_roles where rolname = $1 and rolcanlogin',
      [login],
    )
    if (!rows[0])
      throw new AppError('NOT_FOUND', `There is no login ${login}.`, {
        hint: `Make it: create role ${client.escapeIdentifier(login)} login noinherit password '...'`,
      })
    if (rows[0].strong)
      throw new AppError('FORBIDDEN', `The login ${login} is a superuser or passes by row-level security.`, {
        hint: 'Make another one, with neither.',
      })
    await client.query(`grant tributary_${side} to ${client.escapeIdentifier(login)}`)
  } finally {
    await client.end()
  }
}
