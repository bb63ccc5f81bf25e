import type { StepProgress } from '../../schema/tables/index.ts'

/**
 * How much of a step is done, 0 to 100, rounded down: 100 is said when all is done and not before. Null when the whole is
 * not known, or turned out to be more than was thought.
 */
export function percentOf({ done, total }: Pick<StepProgress, 'done' | 'total'>): number | null {
  if (total === null || total <= 0 || done < 0 || done > total) return null
  return Math.floor((done / total) * 100)
}
