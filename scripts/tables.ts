import { getTableColumns, sql } from 'drizzle-orm'
import { getTableConfig, PgTable } from 'drizzle-orm/pg-core'
import * as tables from '../schema/tables/index.ts'
import { type Db, rowsOf } from '../shared/db/db.ts'
import { openPglite } from '../standalone/pglite.ts'
import { migrationsFolder } from '../standalone/ports.ts'

// Looked up before a tenant is known, or walked by the ledger across tenants.
const crossTenantIndexes = [
  'api_key_lookup',
  'tenant_queue_turn',
  'pipeline_run_open',
  'run_step_lease',
  'outbox_due',
  'schedule_due',
  'backfill_open',
  'pipeline_trigger_look',
  'run_follow_up_due',
  'webhook_lookup',
  'turn_clock_pkey',
  'house_turn_pkey',
  'idempotent_request_end',
  'seen_delivery_pkey',
  'seen_delivery_end',
]
// The platform's own: who works here, its one switch, where turns stand, failed sign-ins by numbers that name nobody, and
// which signatures were used.
const withoutTenant = ['worker', 'system_control', 'turn_clock', 'house_turn', 'login_bucket', 'seen_delivery']
// Functions that see across tenants. Each one more is a door: it needs a reason and a test.
const definers = [
  'adopt',
  'audit_due',
  'audit_tenants',
  'cancel_run',
  'cancel_step',
  'claim_outbox',
  'claim_steps',
  'claim_watches',
  'complete_and_claim',
  'complete_step',
  'control_fleet',
  'count_quota',
  'cut_audit',
  'discard_step',
  'due_triggers',
  'expand_step',
  'fail_step',
  'find_api_key',
  'find_webhook',
  'finish_outbox',
  'fleet_gauges',
  'fleet_status',
  'flush_denials',
  'heartbeat',
  'keep_homes',
  'leave_worker',
  'link_audit',
  'list_tenants',
  'note_denial',
  'note_storage',
  'offer_reader',
  'queue_errors',
  'queue_status',
  'reader_of',
  'reap',
  'refused_retry',
  'release_step',
  'report_step',
  'retry_run',
  'see_worker',
  'start_child',
  'start_run',
  'sweep_requests',
  'sweep_triggers',
  'take_home',
  'take_homes',
  'take_turn',
  'tick',
]

/**
 * What is wrong with the tables of a migrated database, in words; nothing when every tenant table has forced row-level
 * security and tenant-first keys, only the listed functions run as their owner, no role of the product has power of its
 * own or lends any to its members, and the tables in code are those of the migrations.
 */
export async function tableFaults(db: Db): Promise<string[]> {
  const parts = await Promise.all([
    unprotected(db),
    looseIndexes(db),
    openFunctions(db),
    strongRoles(db),
    lentPolicies(db),
    strayColumns(db),
  ])
  return parts.flat()
}

async function unprotected(db: Db): Promise<string[]> {
  const rows = await rowsOf<{ name: string; kind: string }>(
    db,
    sql`select c.relname as name, c.relkind::text as kind from pg_class c
        where c.relnamespace = 'app'::regnamespace and c.relkind in ('r', 'p', 'm', 'v')
          and not (c.relrowsecurity and c.relforcerowsecurity and exists (select from pg_policy p where p.polrelid = c.oid and p.polpermissive))`,
  )
  return rows
    .filter(({ name }) => !withoutTenant.includes(name))
    .map(({ name }) => `app.${name} has no forced row-level security with a policy`)
}

async function looseIndexes(db: Db): Promise<string[]> {
  const rows = await rowsOf<{ index: string; first: string }>(
    db,
    sql`select i.relname as index, a.attname as first from pg_index x join pg_class i on i.oid = x.indexrelid
        join pg_class t on t.oid = x.indrelid join pg_attribute a on a.attrelid = t.oid and a.attnum = x.indkey[0]
        where t.relnamespace = 'app'::regnamespace and not t.relname = any (array['worker', 'system_control', 'login_bucket', 'tenant'])`,
  )
  return rows
    .filter(({ index, first }) => first !== 'tenant_id' && !crossTenantIndexes.includes(index))
    .map(({ index, first }) => `the index app.${index} starts with ${first}, not with the tenant`)
}

async function openFunctions(db: Db): Promise<string[]> {
  const rows = await rowsOf<{ name: string; owner: string; config: string[] | null; open: boolean }>(
    db,
    sql`select p.proname as name, r.rolname as owner, p.proconfig as config, has_function_privilege('public', p.oid, 'execute') as open
        from pg_proc p join pg_roles r on r.oid = p.proowner where p.pronamespace = 'app'::regnamespace and p.prosecdef`,
  )
  return rows.flatMap(({ name, owner, config, open }) => [
    ...(definers.includes(name) ? [] : [`the function app.${name} runs as its owner and is not on the list`]),
    ...(owner === 'tributary_ledger' ? [] : [`the function app.${name} belongs to ${owner}`]),
    ...(config?.includes('search_path=pg_catalog, app') ? [] : [`the function app.${name} has no fixed search path`]),
    ...(open ? [`the function app.${name} can be called by anybody`] : []),
  ])
}

// Logins of a deployment may be named like the roles; they are its own affair.
async function strongRoles(db: Db): Promise<string[]> {
  const rows = await rowsOf<{ name: string }>(
    db,
    sql`select rolname as name from pg_roles r where rolname in ('tributary_api', 'tributary_worker', 'tributary_ledger') and (rolcanlogin or rolsuper or rolbypassrls
        or exists (select from pg_class c where c.relowner = r.oid and c.relkind = 'r'))`,
  )
  return rows.map(({ name }) => `the role ${name} can log in, owns a table or passes by row-level security`)
}

// A policy for a role is one for all its members, and the login that migrates is a member of all roles.
async function lentPolicies(db: Db): Promise<string[]> {
  const rows = await rowsOf<{ policy: string; table: string }>(
    db,
    sql`select polname as policy, c.relname as table from pg_policy p join pg_class c on c.oid = p.polrelid
        where c.relnamespace = 'app'::regnamespace and p.polpermissive
          and not coalesce(pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)) ~ '(app\.tenant_id|CURRENT_USER)'`,
  )
  return rows.map(
    ({ policy, table }) => `the policy ${policy} of app.${table} asks neither for the tenant nor for the role`,
  )
}

async function strayColumns(db: Db): Promise<string[]> {
  const found = await rowsOf<{ line: string }>(
    db,
    sql`select c.relname || '.' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod) || case when a.attnotnull then ' not null' else '' end as line
        from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        where c.relnamespace = 'app'::regnamespace and c.relkind = 'r'`,
  )
  const inDatabase = new Set(found.map(({ line }) => line))
  const inCode = new Set(
    Object.values(tables)
      .filter((value) => value instanceof PgTable)
      .flatMap((table) =>
        Object.values(getTableColumns(table)).map(
          (column) =>
            `${getTableConfig(table).name}.${column.name} ${column.getSQLType()}${column.notNull ? ' not null' : ''}`,
        ),
      ),
  )
  return [
    ...[...inDatabase.difference(inCode)].map((line) => `${line} is in the migrations and not in schema/tables`),
    ...[...inCode.difference(inDatabase)].map((line) => `${line} is in schema/tables and not in the migrations`),
  ]
}

if (import.meta.main) {
  const { db, close } = await openPglite(undefined, migrationsFolder)
  const faults = await tableFaults(db)
  await close()
  for (const fault of faults) console.error(fault)
  process.exitCode = faults.length === 0 ? 0 : 1
}
