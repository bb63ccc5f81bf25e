import type { QualityRule } from '../../schema/config/quality.ts'
import { findTable, needTable } from '../lake/catalog.ts'
import type { Connection } from '../lake/connection.ts'
import { literal } from '../lake/names.ts'
import { hasFormat } from './formats.ts'
import { find, isNumeric, rowsOf, type Subject } from './subject.ts'

/** The SQL of a check: see `Check`. `reason` is what is said of a row that does not pass. */
export type Form = {
  columns: string[]
  reason: string
  fails?: string
  count?: string
  /** A SELECT list of constants that fails where a part of the rule makes no sense. */
  probe?: string
}

/** SQL that is true for a value that is not there. */
export const missing = (sql: string): string => `(${sql} IS NULL OR ${sql}::VARCHAR = '')`

/** The check of a format, named or given as a pattern. */
export function format(subject: Subject, rule: Extract<QualityRule, { rule: 'format' }>): Form {
  const { name, sql } = find(subject, rule.column)
  const value = `${sql}::VARCHAR`
  const holds =
    rule.pattern === undefined
      ? hasFormat(rule.format ?? 'email', value, rule.country)
      : `regexp_full_match(${value}, ${literal(rule.pattern)})`
  return {
    columns: [name],
    fails: `(${sql} IS NOT NULL AND NOT ${holds})`,
    reason: `${name} has not the form ${rule.format ?? rule.pattern ?? ''}`,
    ...(rule.pattern === undefined ? {} : { probe: `regexp_full_match('', ${literal(rule.pattern)})` }),
  }
}

/**
 * The check that no other row has the same values. Every row of a group counts: none of them is the right one. Rows that
 * are more than their keys show that there is a group.
 */
export function unique(subject: Subject, rule: Extract<QualityRule, { rule: 'unique' }>): Form {
  const found = rule.columns.map((name) => find(subject, name))
  const list = found.map(({ sql }) => sql).join(', ')
  const given = found.map(({ sql }) => `${sql} IS NOT NULL`).join(' AND ')
  const names = found.map(({ name }) => name)
  return {
    columns: names,
    count: `count_if(${given}) - ${distinctCount(found.map(({ sql }) => sql))}`,
    fails: `(${given} AND count(*) OVER (PARTITION BY ${list}) > 1)`,
    reason: `another row has the same ${names.join(', ')}`,
  }
}

/** SQL for the number of different values, or of different tuples of several columns, among those without a NULL. */
export const distinctCount = (columns: readonly string[]): string =>
  `count(DISTINCT CASE WHEN ${columns.map((sql) => `${sql} IS NOT NULL`).join(' AND ')} THEN hash(${columns.join(', ')}) END)`

/** The check that a row of another table has the same values. Throws TABLE_MISSING when there is no such table. */
export async function reference(
  connection: Connection,
  subject: Subject,
  rule: Extract<QualityRule, { rule: 'reference' }>,
): Promise<Form> {
  const found = rule.columns.map((name) => find(subject, name))
  // A table may refer to itself before it is there: then nothing is in it.
  const isOwn = rule.table === subject.table
  const table = isOwn ? await findTable(connection, rule.table) : await needTable(connection, rule.table)
  const other = table && { table: table.name, columns: table.columns, rows: rowsOf(table) }
  const theirs = other ? (rule.to ?? rule.columns).map((name) => find(other, name)) : []
  const pair = (parts: readonly { sql: string }[]): string =>
    parts.length === 1 ? `${parts[0]?.sql}::VARCHAR` : `row(${parts.map(({ sql }) => `${sql}::VARCHAR`).join(', ')})`
  const given = (parts: readonly { sql: string }[]): string =>
    parts.map(({ sql }) => `${sql} IS NOT NULL`).join(' AND ')
  const inside = other
    ? `${pair(found)} IN (SELECT ${pair(theirs)} FROM (SELECT * FROM ${other.rows}) x WHERE ${given(theirs)})`
    : 'false'
  const names = found.map(({ name }) => name)
  return {
    columns: names,
    fails: `(${given(found)} AND NOT ${inside})`,
    reason: `${rule.table} has no row with this ${names.join(', ')}`,
  }
}

/** The check that a value is within its bounds. */
export function range(subject: Subject, rule: Extract<QualityRule, { rule: 'range' }>): Form {
  const { name, sql, type } = find(subject, rule.column)
  const isNumber = isNumeric(type) || typeof rule.min === 'number' || typeof rule.max === 'number'
  // A number is compared as DOUBLE: a bound of 0.5 for whole numbers must not be rounded. A text that is none fails.
  const value = isNumeric(type) ? `${sql}::DOUBLE` : isNumber ? `TRY_CAST(${sql}::VARCHAR AS DOUBLE)` : sql
  const limit = (bound: string | number): string => `CAST(${literal(String(bound))} AS ${isNumber ? 'DOUBLE' : type})`
  const [min, max] = [rule.min, rule.max].map((bound) => (bound === undefined ? undefined : limit(bound)))
  const inside = [
    min === undefined ? [] : [`${value} >= ${min}`],
    max === undefined ? [] : [`${value} <= ${max}`],
  ].flat()
  return {
    columns: [name],
    fails: `(${sql} IS NOT NULL AND NOT coalesce(${inside.join(' AND ')}, false))`,
    reason: `${name} is outside ${rule.min ?? ''}..${rule.max ?? ''}`,
    probe: [min, max].filter((bound) => bound !== undefined).join(', '),
  }
}
