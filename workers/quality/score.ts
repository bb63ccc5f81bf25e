import type { QualityRule } from '../../schema/config/quality.ts'

/** What a rule speaks about. */
export type Dimension = 'completeness' | 'consistency' | 'validity'

/** What one rule found: how many single checks it made and how many of them failed. */
export type RuleResult = { dimension: Dimension; severity: 'error' | 'warning'; checked: number; failed: number }

/** How much one check counts. */
export const weights = { error: 1, warning: 0.25 } as const

/** Scores from 0 to 1, with four decimals. */
export type Scores = { overall: number; completeness: number; consistency: number; validity: number }

/** The scores of a table: `scoreOf` over all results, and over those of each dimension. */
export const scoresOf = (results: readonly RuleResult[]): Scores => {
  const of = (dimension: Dimension): number => scoreOf(results.filter((result) => result.dimension === dimension))
  return {
    overall: scoreOf(results),
    completeness: of('completeness'),
    consistency: of('consistency'),
    validity: of('validity'),
  }
}

/**
 * The score of a table, from 0 to 1, rounded down to four decimals:
 * `1 - sum(weight × failed) / sum(weight × checked)` over all rules, 1 when nothing was checked. A row rule checks each
 * row once for each of its columns; a rule about the whole table counts as one check of every row (one when it is empty)
 * that passes or fails for all of them. Errors weigh 1, warnings 0.25.
 */
export function scoreOf(results: readonly Omit<RuleResult, 'dimension'>[]): number {
  let failed = 0
  let checked = 0
  for (const result of results) {
    failed += weights[result.severity] * result.failed
    checked += weights[result.severity] * result.checked
  }
  if (checked === 0) return 1
  // Weights are quarters, so these are whole numbers and the quotient is rounded once.
  return Math.floor((10_000 * (4 * checked - 4 * failed)) / (4 * checked)) / 10_000
}

/** The dimension that a rule belongs to. */
export function dimensionOf({ rule }: Pick<QualityRule, 'rule'>): Dimension {
  switch (rule) {
    case 'required':
    case 'not_null':
    case 'completeness':
      return 'completeness'
    case 'schema':
    case 'type':
    case 'format':
    case 'unique':
      return 'consistency'
    default:
      return 'validity'
  }
}
