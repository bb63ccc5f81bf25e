import { z } from 'zod'

const typePattern =
  /^(VARCHAR|TEXT|BOOLEAN|TINYINT|SMALLINT|INTEGER|BIGINT|HUGEINT|FLOAT|DOUBLE|DECIMAL\((?:[1-9]|[12]\d|3[0-8]), ?(?:\d|[12]\d|3[0-8])\)|DATE|TIME|TIMESTAMP|TIMESTAMPTZ|UUID|JSON)$/i

/** The name of a type that a column can be declared as. */
export const declaredType = z
  .string()
  .regex(typePattern, 'a type such as VARCHAR, BIGINT, DECIMAL(10,2), DATE or TIMESTAMPTZ')
