import { AppError } from '../../shared/errors.ts'
import type { BoundSql, Column } from '../define.ts'
import { isAllowedFunction, tableFunctions } from './allowed-functions.ts'
import { asOfNames } from './as-of.ts'
import type { Connection } from './connection.ts'
import { resourceError, scrubbed } from './error.ts'
import { parseSelect, type Tree } from './parse.ts'

const maxLength = 200_000

/** SQL of the tenant that was parsed and calls nothing that it may not; whether its tables are there is not known yet. */
export type Inspected = BoundSql & { tree: Tree; seen: Seen }

/**
 * One SELECT of the tenant that was looked through: `text` can stand in brackets inside a statement of ours. `known` are
 * the tables of the lake, as `schema.table`.
 */
export type Statement = Inspected & { columns: Column[]; known: ReadonlySet<string> }

/**
 * Looks through SQL of the tenant: exactly one SELECT, from tables of this lake only, with no function but those that work
 * out their answer from their arguments, prepared on the sandboxed connection. Throws SQL_NOT_ALLOWED, TABLE_MISSING, or
 * SQL_INVALID with the engine's message, which then holds no path of the machine.
 */
export async function checkStatement(connection: Connection, sql: BoundSql): Promise<Statement> {
  return await bindStatement(connection, await inspectStatement(connection, sql))
}

/** The part of `checkStatement` that needs no table: what a statement is and which functions it calls. */
export async function inspectStatement(connection: Connection, sql: BoundSql): Promise<Inspected> {
  if (sql.text.length > maxLength) throw new AppError('SQL_INVALID', 'The statement is longer than 200,000 characters.')
  const { tree, text } = await parseSelect(connection, sql.text)
  const seen = collect(tree)
  for (const name of seen.functions)
    if (!isAllowedFunction(name)) throw notAllowed(`The function ${name} is not available.`)
  const past = await pastOfTables(connection, seen.tableFunctions)
  for (const name of seen.tableFunctions)
    if (!tableFunctions.has(name) && !past.has(name)) throw notAllowed(`The table function ${name} is not available.`)
  if (seen.refused) throw notAllowed(seen.refused)
  return { text, values: sql.values, tree, seen }
}

/** The rest of `checkStatement`: the tables are there and the statement makes sense of them. */
export async function bindStatement(connection: Connection, inspected: Inspected): Promise<Statement> {
  const { text, values } = inspected
  const known = await checkTables(connection, inspected.seen)
  try {
    // With the values, for a column that is one of them has no type before.
    const rows = await connection.rows(`DESCRIBE SELECT * FROM (\n${text}\n)`, values)
    const columns = rows.map((row) => ({ name: String(row['column_name']), type: String(row['column_type']) }))
    return { ...inspected, columns, known }
  } catch (error) {
    throw sqlError(error)
  }
}

/** An error of running a tenant's statement: SQL_INVALID with a message that is safe to show, or what the engine lacked. */
export function sqlError(error: unknown): AppError {
  const inner = error instanceof AppError && error.code === 'INTERNAL' ? error.cause : error
  if (inner instanceof AppError) return inner
  return resourceError(inner) ?? new AppError('SQL_INVALID', scrubbed(inner), { cause: inner })
}

/** What a statement names. Names are in lower case. */
export type Seen = {
  functions: Set<string>
  tableFunctions: Set<string>
  tables: { catalog: string; schema: string; name: string }[]
  commonTables: Set<string>
  refused: string | undefined
}

function collect(tree: Tree): Seen {
  const seen: Seen = {
    functions: new Set(),
    tableFunctions: new Set(),
    tables: [],
    commonTables: new Set(),
    refused: undefined,
  }
  const waiting: unknown[] = [tree]
  for (let node = waiting.pop(); node !== undefined; node = waiting.pop()) {
    if (Array.isArray(node)) {
      waiting.push(...node)
      continue
    }
    if (typeof node !== 'object' || node === null) continue
    const object = node as Tree // plain JSON
    note(object, seen)
    for (const [key, value] of Object.entries(object)) {
      // The function of a table function is judged by the stricter list; its arguments are looked at as all others are.
      if (object['type'] === 'TABLE_FUNCTION' && key === 'function') waiting.push((value as Tree)['children'])
      else if (value !== undefined) waiting.push(value)
    }
  }
  return seen
}

function note(object: Tree, seen: Seen): void {
  // Whatever kind of node it is: aggregates and each window function have one of their own.
  if (typeof object['function_name'] === 'string') seen.functions.add(object['function_name'].toLowerCase())
  switch (object['type']) {
    case 'TABLE_FUNCTION': {
      const called = object['function'] as Tree | undefined // the parser's own form
      seen.tableFunctions.add(String(called?.['function_name']).toLowerCase())
      return
    }
    case 'BASE_TABLE':
      seen.tables.push({
        catalog: String(object['catalog_name'] ?? '').toLowerCase(),
        schema: String(object['schema_name'] ?? '').toLowerCase(),
        name: String(object['table_name']).toLowerCase(),
      })
      return
    case 'SHOW_REF':
      seen.refused = 'DESCRIBE, SHOW and SUMMARIZE are not available.'
      return
  }
  const common = object['cte_map'] as { map?: { key: string }[] } | undefined // the parser's own form
  for (const entry of common?.map ?? []) seen.commonTables.add(entry.key.toLowerCase())
}

// The macros that show a versioned table as it was: SQL of ours over a table of this lake.
async function pastOfTables(connection: Connection, called: ReadonlySet<string>): Promise<Set<string>> {
  if (![...called].some((name) => name.includes('_as_of'))) return new Set()
  const rows = await connection.rows(`SELECT table_name AS name FROM lake.raw.x_meta_tables WHERE kind = 'versioned'`)
  return new Set(rows.flatMap(({ name }) => Object.values(asOfNames(String(name)))))
}

// A name that is in no catalog would be tried as a file, and one that is in the engine's own tells paths: so every name
// must be a table of the lake, or a common table expression that hides neither.
async function checkTables(connection: Connection, seen: Seen): Promise<Set<string>> {
  const known = new Set<string>()
  const engine = new Set<string>()
  const rows = await connection.rows(
    `SELECT database_name AS d, schema_name AS s, lower(table_name) AS n FROM duckdb_tables() WHERE database_name = 'lake'
     UNION ALL SELECT database_name, schema_name, lower(view_name) FROM duckdb_views()`,
  )
  for (const row of rows)
    if (row['d'] === 'lake') known.add(`${String(row['s'])}.${String(row['n'])}`)
    else engine.add(String(row['n']))
  for (const name of seen.commonTables)
    if (!/^[a-z_][a-z0-9_]*$/.test(name) || engine.has(name))
      throw notAllowed(`The name ${JSON.stringify(name)} cannot be used for a WITH query.`)
  for (const table of seen.tables) {
    // Two parts may be catalog and table: `lake.customers`.
    const schemas = table.schema && table.schema !== 'lake' ? [table.schema] : ['main', 'raw']
    if (table.catalog === '' && table.schema === '' && seen.commonTables.has(table.name)) continue
    if (!['', 'lake'].includes(table.catalog) || !schemas.some((schema) => known.has(`${schema}.${table.name}`)))
      throw new AppError('TABLE_MISSING', `There is no table ${JSON.stringify(table.name)} in this tenant's lake.`)
  }
  return known
}

const notAllowed = (message: string): AppError => new AppError('SQL_NOT_ALLOWED', message)
