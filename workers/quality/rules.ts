import { durationMs } from '../../schema/config/duration.ts'
import type { QualityRule } from '../../schema/config/quality.ts'
import { AppError } from '../../shared/errors.ts'
import { columnsOf } from '../../shared/quality/expression.ts'
import { actionOf, ruleFault } from '../../shared/quality/rule-fault.ts'
import type { BoundSql, Column } from '../define.ts'
import { findTable, needTable, type Table } from '../lake/catalog.ts'
import type { Connection } from '../lake/connection.ts'
import { scrubbed } from '../lake/error.ts'
import { canonicalType, fits, sameType } from '../lake/fit-columns.ts'
import { literal, plainOf, quoted, versionsOf } from '../lake/names.ts'
import { conditionSql } from './expression-sql.ts'
import { hasFormat } from './formats.ts'
import { type Dimension, dimensionOf } from './score.ts'

/** What is judged: `relation` is SQL for its rows, with `columns` and `__row`, which is unique. */
export type Subject = { table: string; columns: readonly Column[]; relation: string; rowsEstimated: number }

/**
 * A rule made ready. `count` is SQL for an aggregate over all rows: not 0 when a row fails; what tables are judged by.
 * `fails`, of rules about rows, is SQL that is true for a row that does not pass. A rule about several columns is one
 * check for each, but `unique`, `reference` and `completeness` are one for all.
 */
export type Check = {
  rule: QualityRule
  name: string
  columns: string[]
  dimension: Dimension
  severity: 'error' | 'warning'
  action: ReturnType<typeof actionOf>
  reason: string
  count: string
  fails: string | undefined
}

/**
 * The current rows of a table as something to be judged. Those of a view are copied into the temporary table `viewed`:
 * they have no place of their own, and could be others at a second look.
 */
export async function subjectOf(connection: Connection, table: Table): Promise<Subject> {
  if (table.kind === 'view')
    await connection.run(`CREATE OR REPLACE TEMP TABLE viewed AS SELECT * FROM ${plainOf(table.name)}`)
  const from = table.kind === 'view' ? 'temp.viewed' : rowsOf(table)
  return {
    table: table.name,
    columns: table.columns,
    relation: `(SELECT *, rowid AS __row FROM ${from})`,
    rowsEstimated: 0,
  }
}

// What stands after FROM for the current rows of a table.
const rowsOf = (table: Table): string =>
  table.kind === 'versioned' ? `${versionsOf(table.name)} WHERE is_current AND NOT is_deleted` : plainOf(table.name)

/**
 * The checks that rules ask for, tried without reading a row. `bind` fills the placeholders of expressions.
 * Throws CONFIG_INVALID for a column that is not there, a pattern that is none, a bound that is none of its type, or a
 * condition that cannot be read, and TABLE_MISSING for a reference to no table.
 */
export async function checksOf(
  connection: Connection,
  subject: Subject,
  rules: readonly QualityRule[],
  bind: (text: string) => BoundSql,
): Promise<Check[]> {
  const checks: Check[] = []
  for (const rule of rules) {
    const fault = ruleFault(rule)
    if (fault) throw new AppError('CONFIG_INVALID', `The rule ${rule.rule}: ${fault.key}: ${fault.message}.`)
    for (const { probe, ...form } of await formsOf(connection, subject, rule, bind)) {
      const name = rule.name ?? [rule.rule, ...form.columns].join(' ')
      const { severity } = rule
      const count = form.count ?? `count(*) FILTER (${form.fails ?? 'false'})`
      const check = {
        fails: undefined,
        ...form,
        rule,
        name,
        severity,
        count,
        action: actionOf(rule),
        dimension: dimensionOf(rule),
      }
      await tryOut(connection, subject, check, probe)
      checks.push(check)
    }
  }
  return checks
}

// Patterns and bounds are worked out here and not in the middle of the data.
async function tryOut(
  connection: Connection,
  subject: Subject,
  check: Check,
  probe: string | undefined,
): Promise<void> {
  try {
    if (probe) await connection.rows(`SELECT ${probe}`)
    await connection.prepare(`SELECT ${check.count} FROM ${subject.relation} r`)
  } catch (error) {
    if (error instanceof AppError && error.code !== 'INTERNAL') throw error
    const cause = error instanceof AppError ? error.cause : error
    const of = check.columns.length > 0 ? ` of ${check.columns.join(', ')}` : ''
    throw new AppError('CONFIG_INVALID', `The rule ${check.rule.rule}${of} cannot be used: ${scrubbed(cause)}`, {
      cause,
    })
  }
}

type Form = {
  columns: string[]
  reason: string
  fails?: string
  count?: string
  /** A SELECT list of constants that fails where a part of the rule makes no sense. */
  probe?: string
}

async function formsOf(
  connection: Connection,
  subject: Subject,
  rule: QualityRule,
  bind: (text: string) => BoundSql,
): Promise<Form[]> {
  switch (rule.rule) {
    case 'required':
      return rule.columns.map((given) => {
        const { name, sql } = find(subject, given)
        return { columns: [name], fails: missing(sql), reason: `${name} is missing` }
      })
    case 'not_null': {
      const { name, sql } = find(subject, rule.column)
      return [{ columns: [name], fails: `${sql} IS NULL`, reason: `${name} is NULL` }]
    }
    case 'type': {
      const { name, sql } = find(subject, rule.column)
      const fails = `(${sql} IS NOT NULL AND NOT coalesce(${fits(rule.type, `${sql}::VARCHAR`)}, false))`
      return [{ columns: [name], fails, reason: `${name} is not a ${rule.type}` }]
    }
    case 'range':
      return [range(subject, rule)]
    case 'format':
      return [format(subject, rule)]
    case 'unique':
      return [unique(subject, rule)]
    case 'allowed': {
      const { name, sql } = find(subject, rule.column)
      const list = rule.values.map((value) => literal(String(value))).join(', ')
      const fails = `(${sql} IS NOT NULL AND ${sql}::VARCHAR NOT IN (${list}))`
      return [{ columns: [name], fails, reason: `${name} is none of the allowed values` }]
    }
    case 'reference':
      return [await reference(connection, subject, rule)]
    case 'expression': {
      const { sql, expression } = conditionSql(bind(rule.expression), subject.columns)
      // A value that cannot be worked out, such as an overflow, fails; one that is unknown for a NULL passes.
      const fails = `NOT coalesce(TRY((${sql}) IS NOT FALSE), false)`
      return [{ columns: columnsOf(expression), fails, reason: `${rule.name ?? 'the condition'} does not hold` }]
    }
    default:
      return [tableForm(subject, rule)]
  }
}

function tableForm(
  subject: Subject,
  rule: Extract<QualityRule, { rule: 'schema' | 'completeness' | 'row_count' | 'volume' | 'freshness' }>,
): Form {
  switch (rule.rule) {
    case 'schema': {
      const faults = schemaFaults(subject, rule)
      return { columns: Object.keys(rule.columns), count: String(faults.length), reason: faults.join(', ') }
    }
    case 'completeness': {
      const found = rule.columns.map((name) => find(subject, name))
      return {
        columns: found.map(({ name }) => name),
        count: found.map(({ sql }) => `count(*) FILTER (${missing(sql)})`).join(' + '),
        reason: `less than ${rule.min} of the values are there`,
      }
    }
    case 'row_count':
      return {
        columns: [],
        count: 'count(*)',
        reason: `the number of rows is outside ${rule.min ?? ''}..${rule.max ?? ''}`,
      }
    case 'volume':
      return { columns: [], count: 'count(*)', reason: 'the number of rows is far from that of earlier loads' }
    case 'freshness': {
      const { name, sql } = find(subject, rule.column)
      return {
        columns: [name],
        count: `epoch(now()) - epoch(max(TRY_CAST(${sql}::VARCHAR AS TIMESTAMPTZ)))`,
        reason: `the newest ${name} is older than ${rule.max_age}`,
      }
    }
  }
}

/**
 * How many single checks a check of the whole table made and how many failed, from its aggregate. One that is not about
 * single values is a check of every row, one when there is none, that passes or fails for all of them.
 */
export function judgeTable(
  check: Check,
  rows: number,
  value: number | null,
  volumes: readonly number[],
): { checked: number; failed: number; passed: boolean } {
  const whole = Math.max(rows, 1)
  const all = (passed: boolean) => ({ checked: whole, failed: passed ? 0 : whole, passed })
  const { rule } = check
  switch (rule.rule) {
    case 'completeness': {
      const checked = rows * rule.columns.length
      const failed = value ?? 0
      return { checked, failed, passed: checked === 0 || (checked - failed) / checked >= rule.min }
    }
    case 'row_count':
      return all(rows >= (rule.min ?? 0) && rows <= (rule.max ?? Infinity))
    case 'volume': {
      const past = volumes.slice(0, rule.loads).toSorted((a, b) => a - b)
      const middle = past.length / 2
      const median = ((past[Math.ceil(middle) - 1] ?? 0) + (past[Math.floor(middle)] ?? 0)) / 2
      return all(past.length < rule.min_loads || Math.abs(rows - median) <= rule.max_change * Math.max(median, 1))
    }
    case 'freshness':
      return all(value !== null && value * 1000 <= durationMs(rule.max_age))
    default:
      return all(value === 0)
  }
}

function schemaFaults(subject: Subject, rule: Extract<QualityRule, { rule: 'schema' }>): string[] {
  const wanted = Object.entries(rule.columns)
  const same = (a: string, b: string): boolean => a.toLowerCase() === b.toLowerCase()
  const faults = wanted.flatMap(([name, type]) => {
    const column = subject.columns.find((column) => same(column.name, name))
    if (!column) return [`${name} is missing`]
    return sameType(column.type, type)
      ? []
      : [`${name} is ${canonicalType(column.type)} and not ${canonicalType(type)}`]
  })
  const others = subject.columns.filter(({ name }) => !wanted.some(([given]) => same(given, name)))
  return [...faults, ...(rule.exact ? others.map(({ name }) => `${name} is not expected`) : [])]
}

const missing = (sql: string): string => `(${sql} IS NULL OR ${sql}::VARCHAR = '')`

function format(subject: Subject, rule: Extract<QualityRule, { rule: 'format' }>): Form {
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

// Every row of a group counts: none of them is the right one. Rows that are more than their keys show that there is one.
function unique(subject: Subject, rule: Extract<QualityRule, { rule: 'unique' }>): Form {
  const found = rule.columns.map((name) => find(subject, name))
  const list = found.map(({ sql }) => sql).join(', ')
  const given = found.map(({ sql }) => `${sql} IS NOT NULL`).join(' AND ')
  const names = found.map(({ name }) => name)
  return {
    columns: names,
    count: `count(*) FILTER (${given}) - count(DISTINCT hash(${list})) FILTER (${given})`,
    fails: `(${given} AND count(*) OVER (PARTITION BY ${list}) > 1)`,
    reason: `another row has the same ${names.join(', ')}`,
  }
}

async function reference(
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

const numeric = /^(U?(TINY|SMALL|BIG|HUGE)INT|U?INTEGER|DECIMAL|DOUBLE|FLOAT)/

/** True for types whose values are numbers. */
export const isNumeric = (type: string): boolean => numeric.test(type)

function range(subject: Subject, rule: Extract<QualityRule, { rule: 'range' }>): Form {
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

function find(subject: Pick<Subject, 'table' | 'columns'>, name: string): { name: string; sql: string; type: string } {
  const column = subject.columns.find((column) => column.name.toLowerCase() === name.toLowerCase())
  if (!column) throw new AppError('CONFIG_INVALID', `The table ${subject.table} has no column ${JSON.stringify(name)}.`)
  return { name: column.name, sql: quoted(column.name), type: column.type }
}
