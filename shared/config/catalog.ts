import { z } from 'zod'
import generated from '../../schema/catalog.json' with { type: 'json' }
import { queueTypes } from '../../schema/states.ts'
import { isObject, type JsonSchema, keysAt, listOf } from './json-schema.ts'
import { findPlaceholders, wholePlaceholder } from './placeholders.ts'
import { type SqlDialect, sqlDialects } from './sql-dialects.ts'

const entryShape = z.object({
  type: z.string(),
  title: z.string(),
  description: z.string(),
  queue: z.enum(queueTypes),
  credentialProviders: z.array(z.string()),
  writes: z.boolean().optional(),
  settings: z.record(z.string(), z.unknown()),
})
/** What the edge knows of a processor: everything but its code. */
export type CatalogEntry = z.output<typeof entryShape>
/** All processors, sorted by type. */
export type Catalog = readonly CatalogEntry[]

/** The processors of this build, as `npm run generate` wrote them. */
export const catalog: Catalog = z.array(entryShape).parse(generated)

/** One fault of a step's settings; `path` starts at the step. */
export type SettingsFault = {
  kind: 'unknown' | 'missing' | 'bad'
  path: PropertyKey[]
  message: string
  known: string[]
}

/**
 * All faults of a step's settings. A text with a placeholder fits every scalar field, and one that is nothing but a
 * placeholder fits every field: its value is judged when the step starts.
 */
export function settingsFaults(entry: CatalogEntry, settings: Readonly<Record<string, unknown>>): SettingsFault[] {
  const parsed = validator(entry).safeParse(settings)
  return parsed.success ? [] : parsed.error.issues.flatMap((issue) => faultsOf(issue, [], settings, entry.settings))
}

/** A place of SQL in settings: keys from the top, `*` for any item or key. */
export type SqlField = { path: string[]; dialect: SqlDialect }

/** Where SQL stands in settings. Marked `"x-sql": true`, or with the name of another dialect than the standard. */
export function sqlFields(schema: JsonSchema): SqlField[] {
  const found = new Map<string, SqlField>()
  const walk = (node: unknown, path: string[]): void => {
    if (!isObject(node)) return
    const mark = node['x-sql'] === true ? 'standard' : node['x-sql']
    const dialect = sqlDialects.find((known) => known === mark)
    if (dialect) found.set(JSON.stringify(path), { path, dialect })
    if (isObject(node['properties']))
      for (const [key, child] of Object.entries(node['properties'])) walk(child, [...path, key])
    for (const child of [node['items'], node['additionalProperties'], ...listOf(node['prefixItems'])])
      walk(child, [...path, '*'])
    for (const keyword of ['anyOf', 'oneOf', 'allOf']) for (const child of listOf(node[keyword])) walk(child, path)
  }
  walk(schema, [])
  return [...found.values()]
}

// Built at first use: an isolate that validates one pipeline pays for its own processors only.
const validators = new WeakMap<CatalogEntry, z.ZodType>()

function validator(entry: CatalogEntry): z.ZodType {
  const known = validators.get(entry)
  if (known) return known
  const built = z.fromJSONSchema(entry.settings)
  validators.set(entry, built)
  return built
}

type Issue = z.core.$ZodIssue

function faultsOf(issue: Issue, base: readonly PropertyKey[], settings: unknown, schema: JsonSchema): SettingsFault[] {
  const path = [...base, ...issue.path]
  const value = valueAt(settings, path)
  if (typeof value === 'string' && fitsByPlaceholder(value, issue)) return []
  if (issue.code === 'invalid_union' && issue.errors.length > 0)
    return unionFaults(issue.errors, path, settings, schema)
  if (issue.code === 'unrecognized_keys') {
    const known = keysAt(schema, path)
    return issue.keys.map((key) => ({ kind: 'unknown', path: [...path, key], message: `"${key}"`, known }))
  }
  const kind = value === undefined && issue.code !== 'custom' ? 'missing' : 'bad'
  return [{ kind, path, message: issue.message, known: [] }]
}

// A union is fine when one of its forms is; otherwise the form that is nearest to what stands there speaks.
function unionFaults(
  options: readonly (readonly Issue[])[],
  path: readonly PropertyKey[],
  settings: unknown,
  schema: JsonSchema,
): SettingsFault[] {
  const constants = options.map((issues) => issues.find((issue) => issue.code === 'invalid_value'))
  const first = constants[0]
  if (first && constants.every((issue) => issue && String(issue.path) === String(first.path))) {
    const expected = constants.flatMap((issue) => issue?.values ?? []).map((constant) => JSON.stringify(constant))
    const message = `expected one of ${expected.join(', ')}`
    return [{ kind: 'bad', path: [...path, ...first.path], message, known: [] }]
  }
  const faults = options.map((issues) => issues.flatMap((issue) => faultsOf(issue, path, settings, schema)))
  const cost = (list: readonly SettingsFault[]): number =>
    list.reduce((sum, fault) => sum + 1000 / (1 + fault.path.length - path.length) + 1, 0)
  return faults.reduce((best, next) => (cost(next) < cost(best) ? next : best))
}

function fitsByPlaceholder(text: string, issue: Issue): boolean {
  if (wholePlaceholder(text)) return true
  const wantsGroup = issue.code === 'invalid_type' && (issue.expected === 'array' || issue.expected === 'object')
  return !wantsGroup && findPlaceholders(text).length > 0
}

function valueAt(value: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>(
    (node, key) =>
      typeof node === 'object' && node !== null && Object.hasOwn(node, key) ? Reflect.get(node, key) : undefined,
    value,
  )
}
