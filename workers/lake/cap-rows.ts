import { AppError } from '../../shared/errors.ts'
import type { ProcessLimits } from '../define.ts'

/** Throws QUOTA_EXCEEDED when one query gave more rows than the plan lets one have; the caller takes them back. */
export function capRows(table: string, rows: number, { rowsMax }: ProcessLimits): void {
  if (rowsMax === undefined || rows <= rowsMax) return
  throw new AppError('QUOTA_EXCEEDED', `The query for ${table} gives ${rows} rows; the plan allows ${rowsMax}.`, {
    retry: 'never',
    hint: 'Make the result smaller, or raise the plan.',
    figures: { quota: { name: 'rowsPerMonth', limit: rowsMax, used: rows, resetsAt: null } },
  })
}
