import { type ExtractTablesWithRelations, type SQL, sql } from 'drizzle-orm'
import type { PgDatabase, PgQueryResultHKT } from 'drizzle-orm/pg-core'
import type * as tables from '../../schema/tables/index.ts'

/** One type over PGlite, node-postgres and Neon. Only `withTenant` and `withLedger` touch it. */
export type Db = PgDatabase<PgQueryResultHKT, typeof tables, ExtractTablesWithRelations<typeof tables>>

/** A transaction that sees one tenant. */
export type Tx = Db

/** The two sides of the house; each is a database role with its own grants. */
export type Side = 'api' | 'worker'

/** Who works for whom: the database admits rows of `tenantId` and nothing else. */
export type TenantScope = { tenantId: string; side: Side }

// A request of the API has 5 s: what the database does for it ends then, too, though nobody may be left to stop it.
const apiStatementMs = '5000'

/**
 * The only door to a tenant's rows: one transaction as the side's role, bound to one tenant by row-level security.
 * Role and tenant end with the transaction, so a pooled connection carries nothing over. A statement of the API that takes
 * more than 5 s is stopped.
 */
export function withTenant<T>(db: Db, scope: TenantScope, work: (tx: Tx) => Promise<T>): Promise<T> {
  return db.transaction(async (tx) => {
    await tx.execute(statementOf(beginAs(scope)))
    return work(tx)
  })
}

/** What a transaction begins with: settings that end with it, as a statement with its values. */
export type Begin = { text: string; values: string[] }

function beginAs({ side, tenantId }: TenantScope, access: 'read' | 'write' = 'write'): Begin {
  const settings = [
    ['role', `tributary_${side}`],
    ['app.tenant_id', tenantId],
    ...(side === 'api' ? [['statement_timeout', apiStatementMs]] : []),
    ...(access === 'read' ? [['transaction_read_only', 'on']] : []),
  ]
  const calls = settings.map(([name], at) => `set_config('${name}', $${at + 1}, true)`)
  return { text: `select ${calls.join(', ')}`, values: settings.map(([, value = '']) => value) }
}

/** The same for Drizzle. */
export function statementOf({ text, values }: Begin): SQL {
  const pieces = text.split(/\$\d+/).map((piece) => sql.raw(piece))
  return sql.join(pieces.flatMap((piece, at) => (at < values.length ? [piece, sql`${values[at]}`] : [piece])))
}

/** Makes one query of a database and sends nothing: whoever has it made sends it. */
export type Build<T> = (db: Db) => PromiseLike<T>

/** How a driver sends what begins a transaction and one query after it, in one exchange. The answers to `begin` are dropped. */
export type OneQuery = <T>(begin: readonly Begin[], build: Build<T>) => Promise<T>

/** What a driver can do in one exchange: `read` may send its query again, since it cannot write; `call` never does. */
export type Exchange = { read: OneQuery; call?: OneQuery }

const exchanges = new WeakMap<Db, Exchange>()

/** Says how this database does a single query at once. */
export function offerExchange(db: Db, exchange: Exchange): void {
  exchanges.set(db, exchange)
}

/** How this database does it; undefined when it cannot. */
export const exchangeOf = (db: Db): Exchange | undefined => exchanges.get(db)

/**
 * What one query reads, in a transaction of its own under `withTenant`'s rules that refuses to write. Where the driver can,
 * it costs one trip to the database and not four; over Neon that is made again if the database was away.
 */
export function readOnce<T>(db: Db, scope: TenantScope, build: Build<T>): Promise<T> {
  const begin = beginAs(scope, 'read')
  const exchange = exchangeOf(db)
  if (exchange) return exchange.read([begin], build)
  return db.transaction(async (tx) => {
    await tx.execute(statementOf(begin))
    return build(tx)
  })
}

/** A transaction that is bound to no tenant: tenant tables look empty, only the ledger's functions can be called. */
export function withLedger<T>(db: Db, side: Side, work: (tx: Tx) => Promise<T>): Promise<T> {
  return withTenant(db, { tenantId: '', side }, work)
}

/**
 * Rows of one statement in a transaction of its own under `withTenant`'s rules. Where the driver can, it costs one trip to
 * the database and not four; inside a transaction it is part of that.
 */
export async function callOnce<R extends Record<string, unknown>>(
  db: Db,
  scope: TenantScope,
  statement: ReturnType<typeof sql>,
): Promise<R[]> {
  const call = exchangeOf(db)?.call
  if (!call) return withTenant(db, scope, (tx) => rowsOf<R>(tx, statement))
  return rowsIn(await call<unknown>([beginAs(scope)], (one) => one.execute(statement)))
}

/** Rows of a raw statement that reads; as `readOnce`. */
export async function readRows<R extends Record<string, unknown>>(
  db: Db,
  scope: TenantScope,
  statement: ReturnType<typeof sql>,
): Promise<R[]> {
  return rowsIn(await readOnce<unknown>(db, scope, (one) => one.execute(statement)))
}

/**
 * Rows of a raw statement. The drivers disagree on the shape of a result (`{rows}` for all three today); the type of a
 * row is what the statement's author knows, hence the one cast.
 */
export async function rowsOf<R extends Record<string, unknown>>(
  tx: Tx,
  statement: ReturnType<typeof sql>,
): Promise<R[]> {
  return rowsIn(await tx.execute(statement))
}

/** Texts, each a value of its own, as an array of PostgreSQL; null stays null. */
export function textArray(values: readonly string[] | null): SQL | null {
  if (values === null) return null
  const bound = values.map((value) => sql`${value}`)
  return sql`array[${sql.join(bound, sql`, `)}]::text[]`
}

const rowsIn = <R extends Record<string, unknown>>(result: unknown): R[] => (result as { rows: R[] }).rows
