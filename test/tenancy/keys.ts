import { sql } from 'drizzle-orm'
import { type Db, rowsOf } from '../../shared/db/db.ts'
import { attempt, type Outcome } from './attempt.ts'
import type { Backend } from './backends.ts'
import type { Estate } from './estate.ts'
import { rightsOf } from './tables.ts'
import { tally, type Tally } from './tally.ts'
import { likeness } from './values.ts'

// Keys that reach beyond a tenant, and why they tell nothing: what they hold is never an input of a tenant.
const beyond: Record<string, string> = {
  tenant_pkey: 'names of tenants are given by the platform',
  api_key_pkey: 'as api_key_lookup, which stands beside it',
  api_key_lookup: 'ids of keys are made at random by the platform, never given',
  webhook_lookup: 'ids of webhooks are made at random by the platform, never given',
}

type Key = { table: string; column: string; name: string; kind: 'foreign' | 'unique'; columns: string[] }

/**
 * Keys as oracles: for every foreign and every unique key of a table with a tenant, A writes a row whose key is B's and
 * one whose key is nobody's. Both come to the same, letter by letter: a key never says what another tenant has.
 */
export async function proveKeys(backend: Backend, { a, b }: Estate): Promise<Tally> {
  const found = tally()
  const { db, superuser } = backend
  const rights = await rightsOf(superuser)
  for (const { table, column, name, columns } of await keysOf(superuser)) {
    if (name in beyond) continue
    // Who may write no row can ask nothing; where a key column is not among what it may write, its default stands.
    const side = (['api', 'worker'] as const).find((one) => rights.has(`${one} ${table} insert`))
    const writable = rights.get(`${side} ${table} insert`)
    if (!side || !writable) continue
    const [ofA] = await rowOf(superuser, table, column, a.id)
    const [ofB] = await rowOf(superuser, table, column, b.id)
    if (!ofA || !ofB) throw new Error(`app.${table} has no row of both tenants`)
    const others = columns.filter((one) => one !== column && ofA[one] !== ofB[one])
    if (others.length === 0) continue
    const missing = others.map((one) => otherThan(ofB[one]))
    const write = (values: readonly unknown[]): Promise<Outcome> => {
      const row = { ...ofA, ...Object.fromEntries(others.map((one, index) => [one, values[index]])) }
      return attempt(db, a.id, side, insertOf(table, writable, row))
    }
    const foreign = others.map((one) => ofB[one])
    const one = bare(await write(foreign), foreign)
    const other = bare(await write(missing), missing)
    found.check(one === other, `${backend.name} ${name} tells B's key from nobody's`, () => `${one} | ${other}`)
  }
  return found
}

function keysOf(db: Db): Promise<Key[]> {
  return rowsOf<Key>(
    db,
    sql`with tenant as (
          select c.oid, c.relname, a.attname from pg_class c join pg_attribute a on a.attrelid = c.oid and not a.attisdropped
          where c.relnamespace = 'app'::regnamespace and c.relkind in ('r', 'p')
            and (a.attname = 'tenant_id' or (c.relname = 'tenant' and a.attname = 'id')))
        select t.relname as table, t.attname as column, k.conname as name, 'foreign' as kind,
          array(select attname::text from pg_attribute where attrelid = t.oid and attnum = any (k.conkey) order by attnum) as columns
        from tenant t join pg_constraint k on k.conrelid = t.oid where k.contype = 'f'
        union all
        select t.relname, t.attname, i.relname, 'unique',
          array(select attname::text from pg_attribute where attrelid = t.oid and attnum = any (x.indkey) order by attnum)
        from tenant t join pg_index x on x.indrelid = t.oid and x.indisunique join pg_class i on i.oid = x.indexrelid
        order by 1, 3`,
  )
}

const rowOf = async (db: Db, table: string, column: string, tenantId: string): Promise<Record<string, unknown>[]> =>
  (
    await rowsOf<{ row: Record<string, unknown> }>(
      db,
      sql.raw(`select to_jsonb(t) as row from app.${table} t where ${column} = '${tenantId}'
        order by (to_jsonb(t) - '${column}')::text limit 1`),
    )
  ).map(({ row }) => row)

function insertOf(table: string, columns: readonly string[], row: Record<string, unknown>): string {
  const json = JSON.stringify(row).replaceAll("'", "''")
  const names = columns.map((name) => `"${name}"`).join(', ')
  return `insert into app.${table} (${names}) select ${names} from jsonb_populate_record(null::app.${table}, '${json}'::jsonb)`
}

function otherThan(value: unknown): unknown {
  if (typeof value === 'string' && /^\d{4}-\d\d-\d\d/.test(value)) return value.replace(/^\d{4}/, '2011')
  if (typeof value === 'string') return likeness(value)
  return typeof value === 'number' ? value + 1_000_003 : value
}

const bare = (outcome: Outcome, words: readonly unknown[]): string =>
  words
    .filter((word) => typeof word === 'string' && word.length > 3)
    .reduce<string>((text, word) => text.replaceAll(String(word), '<asked>'), JSON.stringify(outcome))
