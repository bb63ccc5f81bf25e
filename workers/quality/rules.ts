import { z } from 'zod'
import { AppError } from '../../shared/errors.ts'
import { declaredType } from '../formats/declared-columns.ts'
import type { Table } from '../lake/catalog.ts'
import type { Connection } from '../lake/connection.ts'
import { fits } from '../lake/fit-columns.ts'
import { literal, plainOf, quoted, versionsOf } from '../lake/names.ts'

const severity = z.enum(['error', 'warning']).default('error')
const column = z.string().min(1).max(255)
const columns = z.array(column).min(1).max(50)
const bound = z.union([z.number(), z.string().max(100)]).optional()

/** A rule of a quality check. NULL passes every rule but `required` and `not_null`. */
export const rule = z.discriminatedUnion('rule', [
  z.strictObject({ rule: z.literal('required').describe('Neither NULL nor the empty text.'), columns, severity }),
  z.strictObject({ rule: z.literal('not_null'), column, severity }),
  z.strictObject({ rule: z.literal('unique').describe('No other row has the same values.'), columns, severity }),
  z.strictObject({
    rule: z.literal('type').describe('The text can become this type without loss.'),
    column,
    type: declaredType,
    severity,
  }),
  z.strictObject({ rule: z.literal('range'), column, min: bound, max: bound, severity }),
  z.strictObject({
    rule: z.literal('format'),
    column,
    format: z.enum(['email', 'uuid', 'date', 'url']).optional(),
    pattern: z.string().max(1000).optional().describe('An RE2 expression that the whole text must match.'),
    severity,
  }),
  z.strictObject({
    rule: z.literal('row_count'),
    min: z.int().min(0).optional(),
    max: z.int().min(0).optional(),
    severity,
  }),
])

/** A rule with its defaults. */
export type Rule = z.output<typeof rule>

/** A rule made ready: `fails` is SQL that is true for a row (or, with `perTable`, for an aggregate) that does not pass. */
export type Check = { rule: Rule; columns: string[]; fails: string; reason: string; perTable: boolean }

/** SQL for the current rows of a table. */
export const source = (table: Table): string =>
  table.kind === 'versioned'
    ? `(SELECT * FROM ${versionsOf(table.name)} WHERE is_current AND NOT is_deleted)`
    : plainOf(table.name)

/**
 * The checks that rules ask for; a rule about several columns is one check for each, but `unique` is one for all.
 * Throws CONFIG_INVALID for a column that the table has not, a pattern that is none, or a bound that is none of its type.
 */
export async function checksOf(connection: Connection, table: Table, rules: readonly Rule[]): Promise<Check[]> {
  const checks = rules.flatMap((rule) => checksOfRule(table, rule))
  for (const check of checks) {
    if (check.perTable) continue
    try {
      // Constant parts, patterns and bounds, are worked out here and not in the middle of the data.
      await connection.rows(`SELECT ${check.fails} FROM ${source(table)} LIMIT 1`)
    } catch (error) {
      if (!(error instanceof AppError) || error.code !== 'INTERNAL') throw error
      throw new AppError(
        'CONFIG_INVALID',
        `The rule ${check.rule.rule} of ${check.columns.join(', ')} cannot be used.`,
        {
          cause: error,
        },
      )
    }
  }
  return checks
}

function checksOfRule(table: Table, rule: Rule): Check[] {
  const one = (name: string, fails: string, reason: string): Check => ({
    rule,
    columns: [name],
    fails,
    reason,
    perTable: false,
  })
  switch (rule.rule) {
    case 'required':
      return rule.columns.map((given) => {
        const { name, sql } = find(table, given)
        return one(name, `(${sql} IS NULL OR ${sql}::VARCHAR = '')`, `${name} is missing`)
      })
    case 'not_null': {
      const { name, sql } = find(table, rule.column)
      return [one(name, `${sql} IS NULL`, `${name} is NULL`)]
    }
    case 'unique':
      return [unique(table, rule)]
    case 'type': {
      const { name, sql } = find(table, rule.column)
      const fails = `(${sql} IS NOT NULL AND NOT coalesce(${fits(rule.type, `${sql}::VARCHAR`)}, false))`
      return [one(name, fails, `${name} is not a ${rule.type}`)]
    }
    case 'range':
      return [range(table, rule)]
    case 'format': {
      const { name, sql } = find(table, rule.column)
      const pattern = rule.pattern ?? (rule.format ? patterns[rule.format] : undefined)
      if (pattern === undefined)
        throw new AppError('CONFIG_INVALID', `The rule format of ${name} needs a format or a pattern.`)
      const fails = `(${sql} IS NOT NULL AND NOT regexp_full_match(${sql}::VARCHAR, ${literal(pattern)}))`
      return [one(name, fails, `${name} has not the form ${rule.format ?? pattern}`)]
    }
    case 'row_count': {
      const bounds = [
        rule.min === undefined ? [] : [`count(*) < ${rule.min}`],
        rule.max === undefined ? [] : [`count(*) > ${rule.max}`],
      ].flat()
      const fails = bounds.length > 0 ? bounds.join(' OR ') : 'false'
      return [{ rule, columns: [], fails, reason: 'the number of rows is outside the bounds', perTable: true }]
    }
  }
}

const patterns = {
  email: '[^@\\s]+@[^@\\s.]+(\\.[^@\\s.]+)+',
  uuid: '[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}',
  date: '[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])',
  url: 'https?://[^\\s/?#]+[^\\s]*',
} as const

// Every row of a group counts: none of them is the right one.
function unique(table: Table, rule: Extract<Rule, { rule: 'unique' }>): Check {
  const found = rule.columns.map((name) => find(table, name))
  const list = found.map(({ sql }) => sql).join(', ')
  const given = found.map(({ sql }) => `${sql} IS NOT NULL`).join(' AND ')
  const fails = `(hash(${list}) IN (SELECT hash(${list}) FROM ${source(table)} WHERE ${given} GROUP BY ${list} HAVING count(*) > 1)
    AND ${given})`
  const names = found.map(({ name }) => name)
  return { rule, columns: names, fails, reason: `another row has the same ${names.join(', ')}`, perTable: false }
}

const numeric = /^(U?(TINY|SMALL|BIG|HUGE)INT|U?INTEGER|DECIMAL|DOUBLE|FLOAT)/

function range(table: Table, rule: Extract<Rule, { rule: 'range' }>): Check {
  const { name, sql, type } = find(table, rule.column)
  const isNumber = numeric.test(type) || typeof rule.min === 'number' || typeof rule.max === 'number'
  // A number is compared as DOUBLE: a bound of 0.5 for whole numbers must not be rounded. A text that is none fails.
  const value = numeric.test(type) ? `${sql}::DOUBLE` : isNumber ? `TRY_CAST(${sql}::VARCHAR AS DOUBLE)` : sql
  const limit = (bound: string | number): string => `CAST(${literal(String(bound))} AS ${isNumber ? 'DOUBLE' : type})`
  const inside = [
    rule.min === undefined ? [] : [`${value} >= ${limit(rule.min)}`],
    rule.max === undefined ? [] : [`${value} <= ${limit(rule.max)}`],
  ].flat()
  if (inside.length === 0) throw new AppError('CONFIG_INVALID', `The rule range of ${name} needs min or max.`)
  const fails = `(${sql} IS NOT NULL AND NOT coalesce(${inside.join(' AND ')}, false))`
  return {
    rule,
    columns: [name],
    fails,
    reason: `${name} is outside ${rule.min ?? ''}..${rule.max ?? ''}`,
    perTable: false,
  }
}

function find(table: Table, name: string): { name: string; sql: string; type: string } {
  const column = table.columns.find((column) => column.name.toLowerCase() === name.toLowerCase())
  if (!column) throw new AppError('CONFIG_INVALID', `The table ${table.name} has no column ${JSON.stringify(name)}.`)
  return { name: column.name, sql: `${quoted(column.name)}`, type: column.type }
}
