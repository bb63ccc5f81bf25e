import { sql } from 'drizzle-orm'
import { type Db, rowsOf, type Side } from '../../shared/db/db.ts'
import type { House, Part } from './house.ts'

/** What any login reads in the catalogues of a database, empty ones included. */
export type Facts = {
  version: number
  shown: string
  login: string
  /** Roles that row-level security does not hold and that the login may become, itself included. */
  strong: string | null
  api: boolean
  worker: boolean
  migrated: boolean
  owner: boolean
  encrypted: boolean | null
}

/** A database that answers, with its facts; undefined when there is none or it cannot be asked, which `database` tells. */
export async function askable(house: House): Promise<{ db: Db; facts: Facts } | undefined> {
  try {
    const db = await house.database()
    const facts = db && (await factsOf(db))
    return db && facts ? { db, facts } : undefined
  } catch {
    return undefined
  }
}

/** The facts of a database. Throws what the driver throws. */
export async function factsOf(db: Db): Promise<Facts | undefined> {
  const [facts] = await rowsOf<Facts>(
    db,
    sql`
      select current_setting('server_version_num')::int as version, current_setting('server_version') as shown,
        session_user::text as login,
        (select string_agg(rolname, ', ') from pg_roles
          where (rolsuper or rolbypassrls) and pg_has_role(session_user, oid, 'member')) as strong,
        coalesce((select pg_has_role(session_user, oid, 'member') from pg_roles where rolname = 'tributary_api'), false) as api,
        coalesce((select pg_has_role(session_user, oid, 'member') from pg_roles where rolname = 'tributary_worker'), false) as worker,
        exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace
          where n.nspname = 'drizzle' and c.relname = '__drizzle_migrations') as migrated,
        exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace
          where n.nspname = 'app' and c.relkind = 'r' and pg_has_role(session_user, c.relowner, 'member')) as owner,
        (select ssl from pg_stat_ssl where pid = pg_backend_pid()) as encrypted`,
  )
  return facts
}

const sidesOf: Readonly<Record<Part, readonly Side[]>> = {
  embedded: ['api', 'worker'],
  'self-host': ['api', 'worker'],
  'control-plane': ['api'],
  edge: ['api'],
  worker: ['worker'],
}

/** The roles that this deployment's login takes and may take. */
export const sidesFor = (part: Part, facts: Facts): Side[] => sidesOf[part].filter((side) => facts[side])
