import type { z } from 'zod'
import type { qualityThresholds } from '../../schema/config/quality.ts'
import type { Drift } from './drift.ts'
import type { Result } from './examine.ts'
import type { Scores } from './score.ts'

/** Something that people should look at. It names rules, columns and aggregates, and holds no value of a row. */
export type Alert = {
  alert: 'overall' | 'error_rate' | 'completeness' | 'rule' | 'drift'
  on: string
  value: number
  limit: number | null
  message: string
}

/**
 * The alerts of a measurement: scores and error rate beyond their thresholds, rules that failed and do more than being
 * written down, and what has drifted.
 */
export function alertsOf(
  table: string,
  measured: { scores: Scores; rows: number; withErrors: number; results: readonly Result[]; drifts: readonly Drift[] },
  thresholds: z.output<typeof qualityThresholds>,
  sensitivity: number,
): Alert[] {
  const { scores, rows, withErrors, results, drifts } = measured
  const errorRate = rows === 0 ? 0 : Math.round((withErrors / rows) * 1_000_000) / 10_000
  const below = (alert: 'overall' | 'completeness', what: string): Alert[] =>
    scores[alert] >= thresholds[alert]
      ? []
      : [
          alertOf(
            alert,
            table,
            scores[alert],
            thresholds[alert],
            `${what} of ${table} is ${scores[alert]}, below ${thresholds[alert]}`,
          ),
        ]
  const limit = thresholds.error_rate_percent
  return [
    ...below('overall', 'The overall score'),
    ...(errorRate > limit
      ? [
          alertOf(
            'error_rate',
            table,
            errorRate,
            limit,
            `${errorRate} % of the rows of ${table} have errors, more than ${limit} %`,
          ),
        ]
      : []),
    ...below('completeness', 'The completeness'),
    ...results
      .filter(({ passed, action }) => !passed && action !== 'log')
      .map(({ name, failed, checked }) =>
        alertOf('rule', name, failed, null, `${name}: ${failed} of ${checked} checks failed`),
      ),
    ...drifts.map(({ column, figure, deviations, direction }) => {
      const on = column === null ? figure : `${column}.${figure}`
      return alertOf(
        'drift',
        on,
        deviations,
        sensitivity,
        `${on} went ${direction}: ${deviations} deviations from earlier loads`,
      )
    }),
  ]
}

const alertOf = (alert: Alert['alert'], on: string, value: number, limit: number | null, message: string): Alert => ({
  alert,
  on,
  value,
  limit,
  message,
})
