import { sql } from 'drizzle-orm'
import { type Db, rowsOf } from '../../shared/db/db.ts'

/** A hash of everything that a tenant owns, by table. */
export type State = ReadonlyMap<string, string>

/** Reads the state of a tenant as a superuser sees it, in one statement. */
export async function stateOf(db: Db, tenantId: string): Promise<State> {
  const tables = await tenantTables(db)
  const parts = tables.map(
    ({ name, column }) =>
      `select '${name}' as name, md5(coalesce(string_agg(t::text, chr(10) order by t::text), '')) as hash from app.${name} t where ${column} = '${tenantId}'`,
  )
  const rows = await rowsOf<{ name: string; hash: string }>(db, sql.raw(parts.join(' union all ')))
  return new Map(rows.map(({ name, hash }) => [name, hash]))
}

/** Tables whose rows differ. */
export const changedIn = (before: State, after: State): string[] =>
  [...after].filter(([name, hash]) => before.get(name) !== hash).map(([name]) => name)

/** Every table with a tenant, and the column that names it. */
export function tenantTables(db: Db): Promise<{ name: string; column: string }[]> {
  return rowsOf(
    db,
    sql`select c.relname as name, a.attname as column from pg_class c join pg_attribute a on a.attrelid = c.oid
        where c.relnamespace = 'app'::regnamespace and c.relkind in ('r', 'p') and not a.attisdropped
          and (a.attname = 'tenant_id' or (c.relname = 'tenant' and a.attname = 'id')) order by 1`,
  )
}
