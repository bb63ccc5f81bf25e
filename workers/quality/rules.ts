import type { QualityRule } from '../../schema/config/quality.ts'
import { AppError } from '../../shared/errors.ts'
import { columnsOf } from '../../shared/quality/columns-of.ts'
import { actionOf, ruleFault } from '../../shared/quality/rule-fault.ts'
import type { BoundSql } from '../define.ts'
import type { Connection } from '../lake/connection.ts'
import { scrubbed } from '../lake/error.ts'
import { fits, sameType } from '../lake/fit-columns.ts'
import { literal } from '../lake/names.ts'
import { conditionSql } from './expression-sql.ts'
import { type Form, format, missing, range, reference, unique } from './row-rules.ts'
import { type Dimension, dimensionOf } from './score.ts'
import { find, type Subject } from './subject.ts'
import { tableForm } from './table-rules.ts'

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
  const made: { check: Check; probe: string | undefined }[] = []
  for (const rule of rules) {
    const fault = ruleFault(rule)
    if (fault) throw new AppError('CONFIG_INVALID', `The rule ${rule.rule}: ${fault.key}: ${fault.message}.`)
    for (const { probe, ...form } of await formsOf(connection, subject, rule, bind)) {
      const name = rule.name ?? [rule.rule, ...form.columns].join(' ')
      const { severity } = rule
      // FILTER would copy the rows that fail, with all that the other aggregates need of them.
      const count = form.count ?? `count_if(${form.fails ?? 'false'})`
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
      made.push({ check, probe })
    }
  }
  const checks = made.map(({ check }) => check)
  if (!(await areUsable(connection, subject, made)))
    for (const { check, probe } of made) await tryOut(connection, subject, check, probe)
  return checks
}

// All of them at once, for most are sound; which one is not is found out one by one.
async function areUsable(
  connection: Connection,
  subject: Subject,
  made: readonly { check: Check; probe: string | undefined }[],
): Promise<boolean> {
  const probes = made.flatMap(({ probe }) => probe ?? [])
  try {
    if (probes.length > 0) await connection.rows(`SELECT ${probes.join(', ')}`)
    const counts = made.map(({ check }) => check.count)
    if (counts.length > 0) await connection.prepare(`SELECT ${counts.join(', ')} FROM ${subject.relation} r`)
    return true
  } catch (error) {
    if (error instanceof AppError && error.code !== 'INTERNAL' && error.code !== 'CONFIG_INVALID') throw error
    return false
  }
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
      const { name, sql, type } = find(subject, rule.column)
      const fails = sameType(type, rule.type)
        ? 'false'
        : `(${sql} IS NOT NULL AND NOT coalesce(${fits(rule.type, `${sql}::VARCHAR`)}, false))`
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
