import { z } from 'zod'
import { declaredType } from './column-type.ts'
import { age } from './duration.ts'
import { tableName } from './table-name.ts'

const column = z.string().min(1).max(255)
const columns = z.array(column).min(1).max(50)
const bound = z.union([z.number(), z.string().max(100)]).optional()
const scalar = z.union([z.string().max(1000), z.number(), z.boolean()])

/** What is done with what does not pass: see docs/quality.md. */
export const qualityActions = ['log', 'warn', 'quarantine', 'block'] as const

/** Formats that have a name. */
export const namedFormats = [
  'email',
  'url',
  'uuid',
  'phone',
  'date',
  'datetime',
  'time',
  'country',
  'currency',
  'language',
  'postcode',
  'ipv4',
  'ipv6',
  'iban',
  'slug',
] as const

/** Countries whose postcodes have a form of their own here; others are held against a general one. */
export const postcodeCountries = [
  'AT',
  'AU',
  'BE',
  'CA',
  'CH',
  'DE',
  'DK',
  'ES',
  'FR',
  'GB',
  'IN',
  'IT',
  'JP',
  'NL',
  'PL',
  'SE',
  'US',
] as const

const common = {
  name: z.string().min(1).max(100).optional().describe('How results call the rule.'),
  severity: z.enum(['error', 'warning']).default('error'),
  action: z
    .enum(qualityActions)
    .optional()
    .describe(
      'By default warn for warnings; for errors quarantine of rows, and block where the whole table is judged.',
    ),
}

/** A rule of data quality. NULL passes every rule but `required` and `not_null`. */
export const qualityRule = z.discriminatedUnion('rule', [
  z.strictObject({
    rule: z.literal('schema').describe('The columns are there, with these types.'),
    columns: z.record(column, declaredType),
    exact: z.boolean().default(false).describe('No other columns either.'),
    ...common,
  }),
  z.strictObject({
    rule: z.literal('type').describe('The text can become this type without loss.'),
    column,
    type: declaredType,
    ...common,
  }),
  z.strictObject({ rule: z.literal('required').describe('Neither NULL nor the empty text.'), columns, ...common }),
  z.strictObject({ rule: z.literal('not_null'), column, ...common }),
  z.strictObject({ rule: z.literal('range'), column, min: bound, max: bound, ...common }),
  z.strictObject({
    rule: z.literal('format'),
    column,
    format: z.enum(namedFormats).optional(),
    country: z.enum(postcodeCountries).optional().describe('Whose postcodes.'),
    pattern: z.string().max(1000).optional().describe('An RE2 expression that the whole text must match.'),
    ...common,
  }),
  z.strictObject({ rule: z.literal('unique').describe('No other row has the same values.'), columns, ...common }),
  z.strictObject({
    rule: z.literal('completeness').describe('At least this share of the values is there.'),
    columns,
    min: z.number().min(0).max(1).default(0.98),
    ...common,
  }),
  z.strictObject({ rule: z.literal('allowed'), column, values: z.array(scalar).min(1).max(1000), ...common }),
  z.strictObject({
    rule: z.literal('reference').describe('A row of another table has the same values.'),
    columns,
    table: tableName,
    to: columns.optional().describe('The columns there; by default those of the same names.'),
    ...common,
  }),
  z.strictObject({
    rule: z.literal('expression').describe('A condition over the columns of a row.'),
    expression: z.string().min(1).max(2000).meta({ 'x-sql': true }),
    ...common,
  }),
  z.strictObject({
    rule: z.literal('row_count'),
    min: z.int().min(0).optional(),
    max: z.int().min(0).optional(),
    ...common,
  }),
  z.strictObject({
    rule: z.literal('volume').describe('The number of rows is near the median of the last loads.'),
    max_change: z.number().gt(0).max(100).default(0.5).describe('0.5: between half and one and a half of it.'),
    loads: z.int().min(1).max(200).default(10).describe('How many loads back.'),
    min_loads: z.int().min(1).max(200).default(3).describe('With fewer loads before, the rule passes.'),
    ...common,
  }),
  z.strictObject({
    rule: z.literal('freshness').describe('The newest value is not older than this.'),
    column,
    max_age: age,
    ...common,
  }),
])
/** A rule with its defaults filled in. */
export type QualityRule = z.output<typeof qualityRule>

/** A list of rules. */
export const qualityRules = z.array(qualityRule).max(100)

/** When a measurement raises an alert. */
export const qualityThresholds = z
  .strictObject({
    overall: z.number().min(0).max(1).default(0.95).describe('The overall score is below this.'),
    error_rate_percent: z.number().min(0).max(100).default(1).describe('More of the rows than this have errors.'),
    completeness: z.number().min(0).max(1).default(0.98).describe('The completeness score is below this.'),
  })
  .prefault({})

/** How a table is held against its own past. */
export const driftSettings = z
  .strictObject({
    loads: z.int().min(3).max(200).default(20).describe('How many loads back.'),
    min_loads: z.int().min(3).max(200).default(5).describe('With fewer loads before, nothing is said.'),
    sensitivity: z
      .number()
      .gt(0)
      .max(100)
      .default(3.5)
      .describe('How many robust deviations from the median are too many.'),
  })
  .prefault({})

/** What a load is held against before its rows go in. */
export const loadQuality = z
  .strictObject({
    rules: qualityRules.default([]),
    fail_below: z
      .number()
      .min(0)
      .max(1)
      .optional()
      .describe('The load is stopped when its overall score is below this.'),
    profile: z.boolean().default(true).describe('Keep a profile of every column, and hold it against earlier ones.'),
    thresholds: qualityThresholds,
    drift: driftSettings,
    alert_to: z.array(z.email()).max(20).default([]).describe('Who gets a mail when there are alerts.'),
  })
  .describe('Rules that the rows are held against before they go in, and what is measured of them.')
/** What a load is held against, with its defaults filled in. */
export type LoadQuality = z.output<typeof loadQuality>
