import { PGlite } from '@electric-sql/pglite'
import { drizzle } from 'drizzle-orm/pglite'
import { migrate } from 'drizzle-orm/pglite/migrator'
import * as tables from '../schema/tables/index.ts'
import type { Db } from '../shared/db/db.ts'

/** Embedded PostgreSQL in `folder`, or in memory without one, migrated. The caller holds the folder's lock. */
export async function openPglite(
  folder: string | undefined,
  migrations: string,
): Promise<{ db: Db; close(): Promise<void> }> {
  const client = await PGlite.create(folder)
  await migrate(drizzle(client), { migrationsFolder: migrations })
  return { db: drizzle(client, { schema: tables }), close: () => client.close() }
}
