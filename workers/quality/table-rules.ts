import { durationMs } from '../../schema/config/duration.ts'
import type { QualityRule } from '../../schema/config/quality.ts'
import { canonicalType, sameType } from '../lake/fit-columns.ts'
import { type Form, missing } from './row-rules.ts'
import type { Check } from './rules.ts'
import { find, type Subject } from './subject.ts'

/** The check of a rule that judges a table as a whole. */
export function tableForm(
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
        count: found.map(({ sql }) => `count_if(${missing(sql)})`).join(' + '),
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
