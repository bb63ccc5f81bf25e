import { drizzle } from 'drizzle-orm/node-postgres'
import { migrate } from 'drizzle-orm/node-postgres/migrator'
import pg from 'pg'
import * as tables from '../../schema/tables/index.ts'
import type { Db } from '../../shared/db/db.ts'

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
  return { db: drizzle(pool, { schema: tables }), close: () => pool.end() }
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
 * Lets a login become a side's role, which is all that its processes need. Throws when there is no such login or this one
 * may not grant.
 */
export async function grantSide(url: string, login: string, side: 'api' | 'worker'): Promise<void> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 10_000 })
  await client.connect()
  try {
    await client.query(`grant tributary_${side} to ${client.escapeIdentifier(login)}`)
  } finally {
    await client.end()
  }
}
