import { getTableColumns, sql } from 'drizzle-orm'
import { getTableConfig, PgTable } from 'drizzle-orm/pg-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import * as tables from '../../schema/tables/index.ts'
import { rowsOf } from '../../shared/db/db.ts'
import { memoryDatabase } from '../support/database.ts'

let database: Awaited<ReturnType<typeof memoryDatabase>>
beforeAll(async () => {
  database = await memoryDatabase()
})
afterAll(() => database.close())

// Looked up before a tenant is known, or walked by the ledger across tenants.
const crossTenantIndexes = ['api_key_lookup', 'tenant_queue_turn', 'pipeline_run_open', 'run_step_lease', 'outbox_due']
const withoutTenant = ['worker', 'system_control']
const definers = [
  'adopt',
  'cancel_run',
  'cancel_step',
  'claim_outbox',
  'claim_steps',
  'complete_step',
  'fail_step',
  'find_api_key',
  'finish_outbox',
  'heartbeat',
  'reap',
  'release_step',
  'report_step',
  'retry_run',
  'see_worker',
  'start_run',
  'tick',
]

/** Tables of the product without forced row-level security and a policy. */
const unprotected = () =>
  rowsOf<{ name: string }>(
    database.db,
    sql`select c.relname as name from pg_class c where c.relnamespace = 'app'::regnamespace and c.relkind in ('r', 'p', 'm', 'v')
        and not (c.relrowsecurity and c.relforcerowsecurity and exists (select from pg_policy p where p.polrelid = c.oid)) order by 1`,
  )

test('every table with a tenant has forced row-level security, and a table without it is found', async () => {
  expect((await unprotected()).map((row) => row.name).sort()).toEqual([...withoutTenant].sort())
  await database.db.execute(sql`create table app.planted (tenant_id text primary key)`)
  try {
    await database.db.execute(sql`alter table app.planted enable row level security`)
    expect((await unprotected()).map((row) => row.name)).toContain('planted')
  } finally {
    await database.db.execute(sql`drop table app.planted`)
  }
})

test('every key and index of a tenant table starts with the tenant', async () => {
  const rows = await rowsOf<{ index: string; first: string }>(
    database.db,
    sql`select i.relname as index, a.attname as first from pg_index x join pg_class i on i.oid = x.indexrelid
        join pg_class t on t.oid = x.indrelid join pg_attribute a on a.attrelid = t.oid and a.attnum = x.indkey[0]
        where t.relnamespace = 'app'::regnamespace and not t.relname = any (array['worker', 'system_control', 'tenant'])`,
  )
  const wrong = rows.filter((row) => row.first !== 'tenant_id' && !crossTenantIndexes.includes(row.index))
  expect(wrong).toEqual([])
})

test('functions that run as their owner are those on the list, owned by the ledger, with a fixed search path', async () => {
  const rows = await rowsOf<{ name: string; owner: string; config: string[] | null; open: boolean }>(
    database.db,
    sql`select p.proname as name, r.rolname as owner, p.proconfig as config, has_function_privilege('public', p.oid, 'execute') as open
        from pg_proc p join pg_roles r on r.oid = p.proowner where p.pronamespace = 'app'::regnamespace and p.prosecdef order by 1`,
  )
  expect(rows.map((row) => row.name)).toEqual(definers)
  for (const row of rows)
    expect(row).toMatchObject({ owner: 'tributary_ledger', config: ['search_path=pg_catalog, app'], open: false })
})

test('no role of the product can log in, own a table or bypass row-level security', async () => {
  const rows = await rowsOf(
    database.db,
    sql`select rolname, rolcanlogin, rolsuper, rolbypassrls, (select count(*)::int from pg_class c where c.relowner = r.oid and c.relkind = 'r') as owned
        from pg_roles r where rolname like 'tributary%' order by 1`,
  )
  const clean = { rolcanlogin: false, rolsuper: false, rolbypassrls: false, owned: 0 }
  expect(rows).toEqual(
    ['tributary_api', 'tributary_ledger', 'tributary_worker'].map((rolname) => ({ rolname, ...clean })),
  )
})

test('the tables in code are the tables of the migrations', async () => {
  const inDatabase = await rowsOf<{ table: string; column: string; type: string; nullable: boolean }>(
    database.db,
    sql`select c.relname as table, a.attname as column, format_type(a.atttypid, a.atttypmod) as type, not a.attnotnull as nullable
        from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        where c.relnamespace = 'app'::regnamespace and c.relkind = 'r' order by 1, 2`,
  )
  const inCode = Object.values(tables)
    .filter((value) => value instanceof PgTable)
    .flatMap((table) =>
      Object.values(getTableColumns(table)).map((column) => ({
        table: getTableConfig(table).name,
        column: column.name,
        type: column.getSQLType(),
        nullable: !column.notNull,
      })),
    )
    .sort((a, b) => (`${a.table} ${a.column}` < `${b.table} ${b.column}` ? -1 : 1))
  const byCode = (rows: typeof inDatabase) =>
    [...rows].sort((a, b) => (`${a.table} ${a.column}` < `${b.table} ${b.column}` ? -1 : 1))
  expect(inCode).toEqual(byCode(inDatabase))
})
