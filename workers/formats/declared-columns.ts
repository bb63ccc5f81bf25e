import { z } from 'zod'

const typePattern =
  /^(VARCHAR|TEXT|BOOLEAN|TINYINT|SMALLINT|INTEGER|BIGINT|HUGEINT|FLOAT|DOUBLE|DECIMAL\((?:[1-9]|[12]\d|3[0-8]), ?(?:\d|[12]\d|3[0-8])\)|DATE|TIME|TIMESTAMP|TIMESTAMPTZ|UUID|JSON)$/i

/** The name of a type that a column can be declared as. */
export const declaredType = z
  .string()
  .regex(typePattern, 'a type such as VARCHAR, BIGINT, DECIMAL(10,2), DATE or TIMESTAMPTZ')

/** Types that a step declares for columns of its source. A value that does not fit moves its row to the quarantine. */
export const declaredColumns = z
  .record(z.string().min(1).max(255), declaredType)
  .default({})
  .describe('Types of columns by name; the others are decided by all their values.')
