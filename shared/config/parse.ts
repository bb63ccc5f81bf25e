import { z } from 'zod'
import { type Pipeline, pipelineShape, stepKeys } from '../../schema/config/pipeline.ts'
import { reservedNames } from '../../schema/config/variables.ts'
import { parameterFault } from '../runs/parameters.ts'
import { type Catalog, catalog as builtCatalog, settingsFaults } from './catalog.ts'
import { checkPlaceholders } from './check-placeholders.ts'
import { checkRules } from './check-rules.ts'
import { secretWarnings } from './check-secrets.ts'
import { checkSteps } from './check-steps.ts'
import { checkTriggers } from './check-triggers.ts'
import { type JsonSchema, keysAt } from './json-schema.ts'
import { inOrder, type Problem } from './problems.ts'
import { readYaml, type Reporter } from './read-yaml.ts'
import { suggest } from './suggest.ts'

/**
 * Reads a pipeline file: the checked pipeline and warnings, or all problems at once, in the order of the file (YAML that
 * cannot be read at all gives only the faults of its form). `file` is the name shown in problems; `catalog` defaults to
 * the processors of this build; `scheduleMinutesMin`, by default 1, is what the tenant's plan says. `report` makes further
 * problems of the file, for whoever knows more. Never throws for what a file holds.
 */
export function parsePipeline(
  text: string,
  options: { file?: string; catalog?: Catalog; scheduleMinutesMin?: number } = {},
): { pipeline: Pipeline; warnings: Problem[]; report: Reporter } | { problems: Problem[] } {
  const read = readYaml(text, options.file ?? 'pipeline.yml')
  if ('problems' in read) return { problems: read.problems }
  const { value, report } = read
  const parsed = pipelineShape.safeParse(value)
  const issues = parsed.error?.issues ?? []
  const problems = issues.flatMap((issue) => (report.isFull ? [] : shapeProblems(issue, value, report)))
  // Unknown keys hide nothing else: the rest is checked as if they were not there.
  const pipeline = parsed.data ?? pipelineShape.safeParse(withoutKeys(value, issues)).data
  problems.push(...settingsProblems(pipeline?.steps ?? rawSteps(value), options.catalog, report))
  if (!pipeline) return { problems: inOrder(problems) }
  problems.push(
    ...checkSteps(pipeline, report),
    ...checkNames(pipeline, report),
    ...checkTriggers(pipeline, options.scheduleMinutesMin ?? 1, report),
    ...checkPlaceholders(pipeline, options.catalog ?? builtCatalog, report),
    ...checkRules(pipeline, report),
    ...secretWarnings(pipeline, report),
  )
  return problems.some((problem) => problem.severity === 'error')
    ? { problems: inOrder(problems) }
    : { pipeline, warnings: inOrder(problems), report }
}

/** The settings of a step's processor: everything but the common keys. */
export function stepSettings(step: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(step).filter(([key]) => !Object.hasOwn(stepKeys, key)))
}

function settingsProblems(
  steps: readonly Readonly<Record<string, unknown>>[],
  catalog: Catalog = builtCatalog,
  report: Reporter,
): Problem[] {
  return steps.flatMap((step, index) => {
    const type = step['ps_type']
    if (typeof type !== 'string' || report.isFull) return []
    const entry = catalog.find((candidate) => candidate.type === type)
    if (!entry) return [unknownType(type, index, catalog, report)]
    return settingsFaults(entry, stepSettings(step))
      .slice(0, 20)
      .map((fault) => {
        const path = ['steps', index, ...fault.path]
        const known = fault.path.length === 1 ? [...fault.known, ...Object.keys(stepKeys)] : fault.known
        if (fault.kind === 'unknown') return unknownKey(path, known, report)
        if (fault.kind === 'missing') return missingKey(path, report)
        return report.at(path, 'BAD_VALUE', `${lastOf(path)}: ${fault.message}`)
      })
  })
}

function unknownType(type: string, index: number, catalog: Catalog, report: Reporter): Problem {
  const near = suggest(
    type,
    catalog.map((entry) => entry.type),
  )
  const hint = near ? undefined : `There are ${catalog.map((entry) => entry.type).join(', ')}.`
  const message = near ? `"${type}": did you mean "${near}"?` : `"${type}" is no processor`
  return report.at(['steps', index, 'ps_type'], 'UNKNOWN_PS_TYPE', message, { hint })
}

function unknownKey(path: PropertyKey[], known: readonly string[], report: Reporter): Problem {
  const key = lastOf(path)
  const near = suggest(key, known)
  const message = near ? `"${key}": did you mean "${near}"?` : `"${key}" is no key here`
  const hint = near || known.length === 0 ? undefined : `Keys here: ${known.join(', ')}.`
  return report.at(path, 'UNKNOWN_KEY', message, { atKey: true, hint })
}

const missingKey = (path: PropertyKey[], report: Reporter): Problem =>
  report.at(path, 'MISSING_KEY', `"${lastOf(path)}" is missing`)

function shapeProblems(issue: z.core.$ZodIssue, value: unknown, report: Reporter): Problem[] {
  if (issue.code === 'unrecognized_keys')
    return issue.keys
      .slice(0, 20)
      .map((key) => unknownKey([...issue.path, key], keysAt(formSchema(), issue.path), report))
  const given = issue.path.reduce<unknown>(
    (node, key) => (typeof node === 'object' && node !== null ? Reflect.get(node, key) : undefined),
    value,
  )
  if (given === undefined && issue.path.length > 0) return [missingKey([...issue.path], report)]
  const what = issue.path.length > 0 ? `${lastOf(issue.path)}: ` : ''
  const message = issue.code === 'invalid_key' ? (issue.issues[0]?.message ?? issue.message) : issue.message
  return [report.at(issue.path, 'BAD_VALUE', `${what}${message}`, { atKey: issue.code === 'invalid_key' })]
}

function checkNames(pipeline: Pipeline, report: Reporter): Problem[] {
  const taken = (['variables', 'parameters'] as const).flatMap((block) =>
    Object.keys(pipeline[block])
      .filter((name) => reservedNames.includes(name) && !(block === 'parameters' && name === 'date'))
      .map((name) => report.at([block, name], 'BAD_VALUE', `"${name}" is reserved and cannot be set`, { atKey: true })),
  )
  const defaults = Object.entries(pipeline.parameters).flatMap(([name, parameter]) => {
    const fault = parameter.default === undefined ? undefined : parameterFault(parameter, parameter.default)
    return fault ? [report.at(['parameters', name, 'default'], 'BAD_VALUE', `default: ${fault}`)] : []
  })
  return [...taken, ...defaults]
}

let known: JsonSchema | undefined

// The format as JSON Schema, made at the first unknown key.
function formSchema(): JsonSchema {
  known ??= z.toJSONSchema(pipelineShape, { io: 'input' })
  return known
}

function withoutKeys(value: unknown, issues: readonly z.core.$ZodIssue[]): unknown {
  const copy: unknown = structuredClone(value)
  for (const issue of issues) {
    if (issue.code !== 'unrecognized_keys') continue
    const holder = issue.path.reduce<unknown>((node, key) => Reflect.get(Object(node), key), copy)
    for (const key of issue.keys) Reflect.deleteProperty(Object(holder), key)
  }
  return copy
}

// Steps of a value that is no pipeline yet: their settings are checked all the same, so that one look shows all faults.
function rawSteps(value: unknown): Record<string, unknown>[] {
  const steps: unknown = typeof value === 'object' && value !== null ? Reflect.get(value, 'steps') : undefined
  if (!Array.isArray(steps)) return []
  return steps.slice(0, 200).map((step: unknown) => Object.fromEntries(Object.entries(Object(step))))
}

const lastOf = (path: readonly PropertyKey[]): string => String(path.at(-1) ?? '')
