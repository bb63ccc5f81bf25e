import { z } from 'zod'
import { declaredType } from '../../schema/config/column-type.ts'

/** Types that a step declares for columns of its source. A value that does not fit moves its row to the quarantine. */
export const declaredColumns = z
  .record(z.string().min(1).max(255), declaredType)
  .default({})
  .describe('Types of columns by name; the others are decided by all their values.')
