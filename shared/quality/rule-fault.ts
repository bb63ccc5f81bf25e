import type { QualityRule } from '../../schema/config/quality.ts'

/** A rule as it was given or with its defaults filled in. */
export type GivenRule = { readonly rule: string } & { readonly [key: string]: unknown }

/**
 * What is wrong with a rule whose form is right, and the key where it is; undefined for a rule that makes sense. Of a rule
 * whose form is wrong it says nothing, or something that is true.
 */
export function ruleFault(rule: GivenRule): { key: string; message: string } | undefined {
  if (rule['action'] === 'quarantine' && isAboutTable(rule))
    return { key: 'action', message: `the rule ${rule.rule} judges the whole table: there is no row to quarantine` }
  const [columns, to] = [rule['columns'], rule['to']]
  switch (rule.rule) {
    case 'range':
    case 'row_count':
      return boundsFault(rule['min'], rule['max'])
    case 'format':
      return formatFault(rule)
    case 'reference':
      if (Array.isArray(columns) && Array.isArray(to) && to.length !== columns.length)
        return { key: 'to', message: 'it names as many columns as columns does' }
      return undefined
    case 'schema':
      if (typeof columns === 'object' && Object.keys(columns ?? {}).length === 0)
        return { key: 'columns', message: 'it names at least one column' }
      return undefined
    case 'volume':
      if (Number(rule['min_loads']) > Number(rule['loads']))
        return { key: 'min_loads', message: 'it is more than loads' }
      return undefined
    default:
      return undefined
  }
}

/** What is wrong with a rule of a view, which makes sense for a table that is written. */
export const viewFault = (
  rule: Pick<GivenRule, 'rule'> & { action?: unknown },
): { key: string; message: string } | undefined =>
  rule.action === 'quarantine'
    ? { key: 'action', message: 'a view has no rows of its own: there is none to quarantine, only log, warn and block' }
    : undefined

/** True for rules that judge a table as a whole and none of its rows. */
export const isAboutTable = ({ rule }: Pick<GivenRule, 'rule'>): boolean =>
  ['schema', 'completeness', 'row_count', 'volume', 'freshness'].includes(rule)

/** What is done with what does not pass, where the rule does not say it. */
export function actionOf(rule: QualityRule): NonNullable<QualityRule['action']> {
  if (rule.action) return rule.action
  if (rule.severity === 'warning') return 'warn'
  return isAboutTable(rule) ? 'block' : 'quarantine'
}

function boundsFault(min: unknown, max: unknown): { key: string; message: string } | undefined {
  if (min === undefined && max === undefined) return { key: 'rule', message: 'it needs min or max' }
  if (min === undefined || max === undefined || typeof min !== typeof max) return undefined
  return Number(min) > Number(max) ? { key: 'min', message: 'it is greater than max' } : undefined
}

function formatFault(rule: GivenRule): { key: string; message: string } | undefined {
  const pattern = rule['pattern']
  if ((rule['format'] === undefined) === (pattern === undefined))
    return { key: 'rule', message: 'it needs either a format or a pattern' }
  if (rule['country'] !== undefined && rule['format'] !== 'postcode')
    return { key: 'country', message: 'only postcodes have a country' }
  const why = typeof pattern === 'string' ? patternFault(pattern) : undefined
  return why === undefined ? undefined : { key: 'pattern', message: why }
}

// RE2 has no lookaround and no references; the rest of what it refuses, this engine mostly refuses as well.
function patternFault(pattern: string): string | undefined {
  if (/\(\?<?[=!]/.test(pattern)) return 'lookahead and lookbehind are not available'
  if (/(^|[^\\])(\\\\)*\\[1-9]/.test(pattern)) return 'references to groups are not available'
  try {
    // Flags inside the pattern and the P of a group's name are RE2's own.
    const plain = pattern
      .replace(/\(\?[imsU-]+\)/g, '')
      .replace(/\(\?[imsU-]+:/g, '(?:')
      .replaceAll('(?P<', '(?<')
    RegExp(plain)
    return undefined
  } catch {
    return 'it is no regular expression'
  }
}
