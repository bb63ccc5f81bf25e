import { Column, getTableName, is, type Query, SQL, Subquery } from 'drizzle-orm'
import { PgDatabase, PgDialect, PgPreparedQuery, PgSession, PgTimestamp } from 'drizzle-orm/pg-core'
import type { Build, Db } from './db.ts'

/** One of Drizzle's queries as a driver sends it. */
export type PlainQuery = {
  text: string
  values: unknown[]
  /** Makes what was asked for of the rows, each a list of its columns; undefined for a raw statement, whose answer is the driver's own. */
  read: ((rows: unknown[][]) => unknown) | undefined
}

/** Types that Drizzle reads by itself: moments, days, spans, and lists of them and of decimals. */
export const typesAsText: ReadonlySet<number> = new Set([1082, 1114, 1115, 1182, 1184, 1185, 1186, 1187, 1231])

/** The query that is built, with nothing sent. Rows are read as Drizzle's drivers do it, in a third of the time. */
export function plainQuery(build: Build<unknown>): PlainQuery {
  // Each of Drizzle's queries can be prepared; its types show that for some.
  const built = (build(builder) as unknown as { _prepare(): Prepared })._prepare()
  const { sql: text, params: values } = built.getQuery()
  const { fields, joinsNotNullableMap = {} } = built
  return { text, values, read: fields && ((rows) => readRows(rows, fields, joinsNotNullableMap)) }
}

type Fields = { path: string[]; field: unknown }[]

// Sends nothing: whoever asks for the text does.
class Prepared extends PgPreparedQuery<{ execute: unknown; all: unknown; values: unknown }> {
  readonly fields: Fields | undefined
  // Drizzle sets it when it has joined.
  joinsNotNullableMap: Record<string, boolean> | undefined

  constructor(query: Query, fields: Fields | undefined) {
    super(query, undefined, undefined)
    this.fields = fields
  }

  execute(): never {
    throw new Error('a plain query is not sent from here')
  }
}

class Session extends PgSession {
  prepareQuery(query: Query, fields: Fields | undefined): Prepared {
    return new Prepared(query, fields)
  }

  transaction(): never {
    throw new Error('a plain query has no transaction')
  }
}

const dialect = new PgDialect()
const builder = new PgDatabase(dialect, new Session(dialect), undefined) as unknown as Db

function readRows(rows: unknown[][], fields: Fields, isInner: Record<string, boolean>): object[] {
  const columns = fields.map(({ path: [first = '', second], field }) => ({ first, second, read: readerOf(field) }))
  const parts = partsOfJoins(fields, isInner)
  return rows.map((row) => {
    const made: Record<string, unknown> = {}
    let at = 0
    for (const { first, second, read } of columns) {
      const raw = row[at++]
      const value = raw === null || read === undefined ? raw : read(raw)
      if (second === undefined) made[first] = value
      else Object.assign((made[first] ??= {}), { [second]: value })
    }
    for (const part of parts) if (Object.values(made[part] ?? {}).every((value) => value === null)) made[part] = null
    return made
  })
}

// Parts of a row that are of one table which the join may not have found.
function partsOfJoins(fields: Fields, isInner: Record<string, boolean>): string[] {
  const tables = new Map<string, Set<string | undefined>>()
  for (const { path, field } of fields) {
    const [part = '', name] = path
    if (name === undefined) continue
    const known = tables.get(part) ?? new Set()
    tables.set(part, known.add(is(field, Column) ? getTableName(field.table) : undefined))
  }
  return [...tables].flatMap(([part, [table, ...others]]) =>
    table !== undefined && others.length === 0 && !isInner[table] ? [part] : [],
  )
}

type Reader = (value: unknown) => unknown

// Undefined for what stays as the driver gave it.
function readerOf(field: unknown): Reader | undefined {
  if (is(field, PgTimestamp)) return momentOf
  const decoder = decoderOf(field)
  if (decoder.mapFromDriverValue === Column.prototype.mapFromDriverValue) return undefined
  return (value) => decoder.mapFromDriverValue(value)
}

function decoderOf(field: unknown): { mapFromDriverValue: Reader } {
  if (is(field, Column)) return field
  // `decoder` is not among the types that Drizzle shows.
  const inner = is(field, SQL) ? field : is(field, Subquery) ? field._.sql : (field as { sql: SQL }).sql
  return (inner as unknown as { decoder: { mapFromDriverValue: Reader } }).decoder
}

// As PostgreSQL writes a moment in UTC, 2026-11-20 08:30:00.123456+00, for which the engine's parser takes twice as long.
// Fewer digits and years of another length are left to it.
function momentOf(given: unknown): Date {
  const text = String(given)
  if (text.length < 26 || text.length > 29 || !text.endsWith('+00') || !/^[1-9]\d{3}-/.test(text)) return new Date(text)
  const two = (at: number): number => text.charCodeAt(at) * 10 + text.charCodeAt(at + 1) - 528
  const [year, ms] = [two(0) * 100 + two(2), two(20) * 10 + text.charCodeAt(22) - 48]
  return new Date(Date.UTC(year, two(5) - 1, two(8), two(11), two(14), two(17), ms))
}
