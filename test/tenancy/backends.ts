import { PGlite } from '@electric-sql/pglite'
import { sql } from 'drizzle-orm'
import { drizzle as drizzlePglite } from 'drizzle-orm/pglite'
import { migrate } from 'drizzle-orm/pglite/migrator'
import pg from 'pg'
import * as tables from '../../schema/tables/index.ts'
import { type Db, rowsOf } from '../../shared/db/db.ts'
import { migrationsFolder } from '../../standalone/ports.ts'
import { migratePg, openPg } from '../../workers/db/pg.ts'
import { tamper } from '../support/database.ts'
import { startPgbouncer } from '../support/pgbouncer.ts'
import { ownedDatabase, startPostgres } from '../support/postgres.ts'
import { tenantTables } from './changes.ts'
import type { Estate, House } from './estate.ts'

/** A database with the rows of the estate and at least one row of each house in every table with a tenant. */
export type Backend = {
  name: string
  /** As the product connects. */
  db: Db
  /** As a superuser, by the side. */
  superuser: Db
  /** The login that owns the tables and is no superuser. */
  owner: string
  /** Where it is reached; empty for the embedded one. */
  url: string
  /** How many clients ask at once. */
  clients: number
}

/** The databases of this machine, the embedded one first; `left` says in words which are not there. */
export async function openBackends(estate: Estate): Promise<AsyncDisposable & { backends: Backend[]; left: string[] }> {
  const closing: (() => Promise<void>)[] = []
  const embedded = await PGlite.create()
  closing.unshift(() => embedded.close())
  const client = drizzlePglite(embedded, { schema: tables })
  await migrate(client, { migrationsFolder })
  // Embedded, the superuser owns the tables; elsewhere a login without power does, and must obey their policies as well.
  await client.execute(sql`create role house nosuperuser nobypassrls in role tributary_api`)
  for (const { name } of await tenantTables(client))
    await client.execute(sql.raw(`alter table app.${name} owner to house`))
  const backends: Backend[] = [{ name: 'embedded', db: client, superuser: client, owner: 'house', url: '', clients: 1 }]
  const left: string[] = []

  const postgres = await startPostgres()
  if ('skipped' in postgres) left.push(`postgresql: ${postgres.skipped}`, `pgbouncer: ${postgres.skipped}`)
  else {
    closing.unshift(() => postgres.stop())
    const url = await ownedDatabase(postgres.url)
    await migratePg(url, migrationsFolder)
    const opened = openPg(url, 4)
    const superuser = openPg(Object.assign(new URL(postgres.url), { pathname: '/house' }).href, 1)
    closing.unshift(
      () => opened.close(),
      () => superuser.close(),
    )
    const direct = { name: 'postgresql', db: opened.db, superuser: superuser.db, owner: 'house', url, clients: 4 }
    backends.push(direct)
    const pooler = await startPgbouncer(url)
    if ('skipped' in pooler) left.push(`pgbouncer: ${pooler.skipped}`)
    else {
      closing.unshift(() => pooler.stop())
      const pooled = openPg(pooler.url, 4)
      closing.unshift(() => pooled.close())
      backends.push({ ...direct, name: 'pgbouncer', db: pooled.db, url: pooler.url })
    }
  }
  for (const { superuser, name } of backends) {
    if (name === 'pgbouncer') continue
    const restore = await withoutChecks(superuser)
    for (const house of [estate.a, estate.b]) await settle(estate.plane.ports.db, superuser, house)
    await restore()
  }
  return {
    backends,
    left,
    async [Symbol.asyncDispose]() {
      for (const close of closing) await close()
    },
  }
}

/** A connection that has never named a tenant, to the same database; the embedded one has only the one it has. */
export async function freshConnection(backend: Backend): Promise<pg.Client | undefined> {
  if (backend.name === 'embedded') return undefined
  const [row] = await rowsOf<{ port: string }>(backend.superuser, sql`select current_setting('port') as port`)
  const made = new pg.Client(`postgres://house:house-password@127.0.0.1:${row?.port ?? ''}/house`)
  await made.connect()
  return made
}

// What a made-up row holds means nothing to the checks of its table; new rows are held to them again.
async function withoutChecks(db: Db): Promise<() => Promise<void>> {
  const checks = await rowsOf<{ table: string; name: string; rule: string }>(
    db,
    sql`select conrelid::regclass::text as table, quote_ident(conname) as name, pg_get_constraintdef(oid) as rule from pg_constraint
        where connamespace = 'app'::regnamespace and contype = 'c'`,
  )
  for (const { table, name } of checks) await db.execute(sql.raw(`alter table ${table} drop constraint ${name}`))
  return async () => {
    for (const { table, name, rule } of checks)
      await db.execute(sql.raw(`alter table ${table} add constraint ${name} ${rule} not valid`))
  }
}

// Copies the rows of a house, and makes one where it has none: a table without a row would prove nothing.
async function settle(from: Db, to: Db, { id, mark }: House): Promise<void> {
  for (const { name, column } of await tenantTables(to)) {
    const rows = await rowsOf<{ row: unknown }>(
      from,
      sql.raw(`select to_jsonb(t) as row from app.${name} t where ${column} = '${id}'`),
    )
    const given = rows.length > 0 ? rows.map(({ row }) => row) : [await rowFor(to, name, id, mark)]
    const columns = sql.raw(await writableColumns(to, name))
    await tamper(
      to,
      sql`insert into ${sql.raw(`app.${name}`)} (${columns}) overriding system value
          select ${columns} from jsonb_populate_recordset(null::${sql.raw(`app.${name}`)}, ${JSON.stringify(given)}::jsonb)`,
    )
  }
}

// What the database makes of others of the same row is not for a statement to give.
async function writableColumns(db: Db, table: string): Promise<string> {
  const [row] = await rowsOf<{ columns: string }>(
    db,
    sql`select string_agg(quote_ident(attname), ', ' order by attnum) as columns from pg_attribute
        where attrelid = ${`app.${table}`}::regclass and attnum > 0 and not attisdropped and attgenerated = ''`,
  )
  if (!row) throw new Error(`the table ${table} has no column`)
  return row.columns
}

// What a row of a table that the house does not use holds.
const byType: Record<string, (mark: string) => unknown> = {
  text: (mark) => `${mark}_text`,
  integer: () => 1,
  bigint: () => 1,
  smallint: () => 1,
  boolean: () => false,
  'double precision': () => 1,
  'timestamp with time zone': () => '2026-01-01T00:00:00Z',
  date: () => '2026-01-01',
  jsonb: () => ({}),
  ARRAY: () => [],
}

async function rowFor(db: Db, table: string, tenantId: string, mark: string): Promise<Record<string, unknown>> {
  const columns = await rowsOf<{ name: string; type: string; fallback: string | null; nullable: string }>(
    db,
    sql`select column_name as name, data_type as type, column_default as fallback, is_nullable as nullable
        from information_schema.columns where table_schema = 'app' and table_name = ${table}`,
  )
  const row: Record<string, unknown> = {}
  for (const { name, type, fallback, nullable } of columns) {
    if (name === 'tenant_id') row[name] = tenantId
    else if (nullable === 'YES') row[name] = null
    else if (fallback !== null && byType[type]) [{ value: row[name] }] = await defaultOf(db, fallback)
    else if (byType[type]) row[name] = byType[type](mark)
    else throw new Error(`${table}.${name} of type ${type}: say in test/tenancy/backends.ts what it may hold`)
  }
  return row
}

const defaultOf = (db: Db, expression: string): Promise<[{ value: unknown }]> =>
  rowsOf<{ value: unknown }>(db, sql.raw(`select to_jsonb(${expression}) as value`)) as Promise<[{ value: unknown }]>
