import { z } from 'zod'

/** The name of a tenant's table: lower case, and none of those that the lake makes by itself. */
export const tableName = z
  .string()
  .regex(/^[a-z_][a-z0-9_]{0,59}$/, 'a table name has 1 to 60 of a-z, 0-9 and _, and does not begin with a digit')
  .refine((name) => !name.startsWith('x_meta_') && !name.endsWith('_current'), {
    message: 'names that begin with x_meta_ or end with _current belong to the lake',
  })
