import { z } from 'zod'
import { qualityRules } from '../../schema/config/quality.ts'
import { tableName } from '../lake/names.ts'

const columnNames = z.array(z.string().min(1).max(255)).max(16).default([])

/** SQL of a transform. */
export const query = z.string().min(1).meta({ 'x-sql': true }).describe('One SELECT over the tables of the tenant.')

/** How the result of a query gets into its table. */
export const into = {
  mode: z
    .enum(['replace', 'append', 'merge', 'view', 'versioned'])
    .default('replace')
    .describe(
      'replace and append write a plain table, merge puts rows in the place of those with the same business_key, view keeps the query only, versioned keeps every version of a row as a load of a file does.',
    ),
  business_key: columnNames.describe('Columns that tell rows apart, for merge and versioned.'),
  snapshot: z
    .enum(['full', 'delta'])
    .default('full')
    .describe(
      'Of versioned. full: rows that the query no longer gives are deleted. delta: it gives changed rows only.',
    ),
  partition_by: columnNames.describe(
    'Columns such as a day: replace, and the deletes of a full snapshot, reach only rows whose values in them the query gives.',
  ),
}

/** What the result is held against before the table is written. */
export const tests = {
  rules: qualityRules
    .default([])
    .describe(
      'What must hold before the table is written. An error without an action blocks: the table stays as it was.',
    ),
  fail_below: z
    .number()
    .min(0)
    .max(1)
    .optional()
    .describe('The table stays as it was when the score of the rules is below this.'),
}

/** One of several queries of a step. */
export const model = z.strictObject({
  name: tableName.describe('The table that takes the result; other models of the step may read it.'),
  query,
  ...into,
  ...tests,
})

/** One query, where its result goes and what must hold there. */
export type Model = z.output<typeof model>
