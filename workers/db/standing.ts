import { sql } from 'drizzle-orm'
import journal from '../../schema/migrations/meta/_journal.json' with { type: 'json' }
import { type Db, rowsOf, type Side, withLedger } from '../../shared/db/db.ts'
import { AppError } from '../../shared/errors.ts'
import { describeError } from '../../shared/log.ts'

/** How the database stands for a process: to work with, or why not yet and what to do. */
export type Standing = { ready: true } | { ready: false; why: string; hint: string }

const newest = Math.max(...journal.entries.map(({ when }) => when))

/**
 * Looks whether a process of a side can work with this database: reachable, PostgreSQL 15 or newer, migrated at least to
 * this version, its login allowed to become the side's role. All of that may still come, so it is said and not thrown.
 * Throws FORBIDDEN for what no waiting heals: a login that is, or may become, one that row-level security does not hold.
 */
export async function databaseStanding(db: Db, side: Side): Promise<Standing> {
  try {
    const [found] = await rowsOf<Found>(db, lookup(side))
    if (!found) return notYet('The database gives no answer.', 'Check DATABASE_URL.')
    if (found.strong !== null) throw tooStrong(found.login, found.strong)
    if (found.version < 150_000) return notYet('PostgreSQL is older than 15.', 'Use PostgreSQL 15 or newer.')
    if (!found.migrated) return notYet('The database is empty.', 'Run: npm run migrate')
    if (!found.member)
      return notYet(
        `The login ${found.login} may not become tributary_${side}.`,
        `Run: npm run migrate -- --${side}-login ${found.login}`,
      )
    const [row] = await withLedger(db, side, (tx) =>
      rowsOf<{ at: string | null }>(tx, sql`select max(created_at)::text as at from drizzle.__drizzle_migrations`),
    )
    return Number(row?.at ?? 0) >= newest
      ? { ready: true }
      : notYet('The database is of an older version.', 'Run: npm run migrate')
  } catch (error) {
    if (error instanceof AppError) throw error
    return notYet(`The database cannot be asked: ${describeError(error)}`, 'Check DATABASE_URL and the server.')
  }
}

type Found = { version: number; login: string; strong: string | null; member: boolean; migrated: boolean }

// From the catalogues that any login reads, so that an empty database gives an answer as well.
const lookup = (side: Side) => sql`
  select current_setting('server_version_num')::int as version, session_user::text as login,
    (select string_agg(rolname, ', ') from pg_roles
      where (rolsuper or rolbypassrls) and pg_has_role(session_user, oid, 'member')) as strong,
    coalesce((select pg_has_role(session_user, oid, 'member') from pg_roles where rolname = ${`tributary_${side}`}), false) as member,
    exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace
      where n.nspname = 'drizzle' and c.relname = '__drizzle_migrations') as migrated`

const notYet = (why: string, hint: string): Standing => ({ ready: false, why, hint })

const tooStrong = (login: string, strong: string): AppError =>
  new AppError(
    'FORBIDDEN',
    `The login ${login} is, or may become, a superuser or one that passes by row-level security (${strong}).`,
    {
      hint: 'Make a login of its own: create role <name> login noinherit password <password>; then npm run migrate -- --api-login <name> or --worker-login <name>, and put it into DATABASE_URL.',
    },
  )
