/** What one rule found: how many single checks it made and how many of them failed. */
export type RuleResult = { severity: 'error' | 'warning'; checked: number; failed: number }

/** How much one check counts. */
export const weights = { error: 1, warning: 0.25 } as const

/**
 * The score of a table, from 0 to 1, rounded down to four decimals:
 * `1 - sum(weight × failed) / sum(weight × checked)` over all rules, 1 when nothing was checked. A row rule checks each
 * row once for each of its columns; a rule about the whole table counts as one check of every row (one when it is empty)
 * that passes or fails for all of them. Errors weigh 1, warnings 0.25.
 */
export function scoreOf(results: readonly RuleResult[]): number {
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
