import { type Pipeline, type PipelineStep, stepKeys } from '../../schema/config/pipeline.ts'
import { builtInNames, failureNames, stableNames } from '../../schema/config/variables.ts'
import { type Catalog, type SqlField, sqlFields } from './catalog.ts'
import { filterFault } from './filters.ts'
import { stepNeeds, stepsBefore } from './needs.ts'
import { findPlaceholders, nearPlaceholders, type Placeholder, wholePlaceholder } from './placeholders.ts'
import type { Problem } from './problems.ts'
import type { Reporter } from './read-yaml.ts'
import { dialectRules, type SqlDialect } from './sql-dialects.ts'
import { sqlSlots } from './sql-slots.ts'
import { suggest } from './suggest.ts'

/** What placeholders of one part of a file may name. */
type Scope = { names: ReadonlySet<string>; texts?: ReadonlySet<string>; step?: StepScope; why: string }
type StepScope = { step: PipelineStep; all: ReadonlySet<string>; before: ReadonlySet<string> }
type Path = readonly PropertyKey[]

/** Every placeholder that names nothing, cannot be filtered so, or stands where SQL cannot take it. */
export function checkPlaceholders(pipeline: Pipeline, catalog: Catalog, report: Reporter): Problem[] {
  const parameters = Object.keys(pipeline.parameters)
  const stable: Scope = { names: new Set(stableNames), why: 'only what is the same for every run can stand here' }
  const given: Scope = {
    names: new Set([...builtInNames, ...parameters]),
    why: 'variables are made of built-ins and parameters only',
  }
  const names = new Set([...given.names, ...Object.keys(pipeline.variables)])
  const all: Scope = { names, texts: textNames(pipeline), why: '' }
  const literal: Scope = { names: new Set(), why: 'defaults are literal; make it a variable, which a run can override' }
  const { pipeline_id, description, labels, variables, concurrency, notify } = pipeline
  const defaults = Object.fromEntries(
    Object.entries(pipeline.parameters).map(([name, { default: value }]) => [name, value]),
  )
  return [
    ...texts(pipeline_id, ['pipeline_id'], stable, report),
    ...texts({ description, labels }, [], all, report),
    ...texts(variables, ['variables'], given, report),
    ...Object.entries(defaults).flatMap(([name, value]) =>
      texts(value, ['parameters', name, 'default'], literal, report),
    ),
    ...texts(concurrency?.group, ['concurrency', 'group'], all, report),
    ...texts(pipeline.schedule?.parameters, ['schedule', 'parameters'], literal, report),
    ...pipeline.triggers.flatMap((trigger, index) =>
      trigger.on === 'file' ? texts(trigger.parameters, ['triggers', index, 'parameters'], literal, report) : [],
    ),
    ...texts(notify, ['notify'], all, report),
    ...stepTexts(pipeline, catalog, all, report),
  ]
}

function stepTexts(pipeline: Pipeline, catalog: Catalog, scope: Scope, report: Reporter): Problem[] {
  const needs = stepNeeds(pipeline.steps)
  const all = new Set(needs.keys())
  return pipeline.steps.flatMap((step, index) => {
    const before = stepsBefore(step.step_id, needs)
    const inStep: Scope = { ...scope, step: { step, all, before } }
    const entry = catalog.find((candidate) => candidate.type === step.ps_type)
    const sql = entry ? sqlFields(entry.settings) : []
    return [
      ...listProblems(step, ['steps', index, 'for_each'], inStep, report),
      ...Object.entries(step)
        .filter(([key]) => key === 'when' || !Object.hasOwn(stepKeys, key))
        .flatMap(([key, part]) => texts(part, ['steps', index, key], inStep, report, sql)),
    ]
  })
}

function listProblems(step: PipelineStep, path: Path, scope: Scope, report: Reporter): Problem[] {
  const { for_each: list, ...without } = step
  const outside: Scope = { ...scope, ...(scope.step ? { step: { ...scope.step, step: without } } : {}) }
  if (typeof list !== 'string' || wholePlaceholder(list)) return texts(list, path, outside, report)
  const hint = 'Write a list, or "{steps.<step_id>.<name>}".'
  return [report.at(path, 'BAD_VALUE', 'for_each: expected a list or one placeholder', { hint })]
}

// Walks the texts of one part of the file; those under a SQL path are judged by place as well.
function texts(part: unknown, path: Path, scope: Scope, report: Reporter, sql: readonly SqlField[] = []): Problem[] {
  if (report.isFull) return []
  if (typeof part === 'string') {
    const field = sql.find((candidate) => fits(candidate.path, path.slice(2)))
    return field ? sqlProblems(part, path, scope, report, field.dialect) : textProblems(part, path, scope, report)
  }
  if (typeof part !== 'object' || part === null) return []
  return Object.entries(part).flatMap(([key, child]) =>
    texts(child, [...path, Array.isArray(part) ? Number(key) : key], scope, report, sql),
  )
}

const fits = (pattern: Path, path: Path): boolean =>
  pattern.length === path.length && pattern.every((key, index) => key === '*' || key === path[index])

function textProblems(text: string, path: Path, scope: Scope, report: Reporter): Problem[] {
  return [...nameProblems(findPlaceholders(text), path, scope, report), ...nearProblems(text, path, report)]
}

function sqlProblems(text: string, path: Path, scope: Scope, report: Reporter, dialect: SqlDialect): Problem[] {
  const slots = sqlSlots(text, dialect)
  const refused = slots.flatMap((slot) => {
    if (report.isFull) return []
    const bare = slot.place === 'value' && scope.texts?.has(slot.placeholder.name)
    if (slot.place !== 'refused' && !bare) return []
    const why = slot.place === 'refused' ? slot.why : `write '${slot.placeholder.raw}' for a value`
    const { nameQuote } = dialectRules[dialect]
    const hint = `In quotes it is a value ('{x}'), in ${nameQuote}{x}${nameQuote} or after FROM the name of a table or column.`
    const message = `${slot.placeholder.raw} cannot stand here: ${why}`
    const { raw } = slot.placeholder
    const nth = count(text.slice(0, slot.start), raw)
    return [report.inText(path, raw, nth, 'SQL_INTERPOLATION', message, { hint })]
  })
  const placeholders = slots.map((slot) => slot.placeholder).filter((placeholder) => placeholder.name !== '')
  return [...refused, ...nameProblems(placeholders, path, scope, report)]
}

// Names whose values are text for certain; a variable that is one placeholder takes that one's type when it runs.
function textNames(pipeline: Pipeline): Set<string> {
  const parameters = Object.entries(pipeline.parameters).filter(([, { type }]) => type === 'string' || type === 'date')
  const variables = Object.entries(pipeline.variables).filter(
    ([, value]) => typeof value === 'string' && !wholePlaceholder(value),
  )
  return new Set<string>([...builtInNames, ...[...parameters, ...variables].map(([name]) => name)])
}

function nearProblems(text: string, path: Path, report: Reporter): Problem[] {
  return nearPlaceholders(text)
    .slice(0, 20)
    .map((part) => {
      const hint = 'Names are lower case without spaces: {date}. Write {{ for a brace that is meant.'
      const message = `"${part}" is no placeholder and stays as it is`
      return report.inText(path, part, 0, 'UNKNOWN_VARIABLE', message, { severity: 'warning', hint })
    })
}

function nameProblems(list: readonly Placeholder[], path: Path, scope: Scope, report: Reporter): Problem[] {
  const seen = new Map<string, number>()
  return list.flatMap((placeholder) => {
    if (report.isFull) return []
    const nth = seen.get(placeholder.raw) ?? 0
    seen.set(placeholder.raw, nth + 1)
    const fault = nameFault(placeholder, scope) ?? filterProblem(placeholder)
    if (!fault) return []
    const { code, message, ...more } = fault
    return [report.inText(path, placeholder.raw, nth, code, message, more)]
  })
}

type Fault = Pick<Problem, 'code' | 'message' | 'hint'> & { severity?: 'warning' }

function filterProblem(placeholder: Placeholder): Fault | undefined {
  const fault = placeholder.filters.map(filterFault).find((found) => found !== undefined)
  return fault === undefined ? undefined : { code: 'BAD_VALUE', message: `${placeholder.raw}: ${fault}` }
}

function nameFault(placeholder: Placeholder, scope: Scope): Fault | undefined {
  const { name } = placeholder
  const [first, second] = name.split('.')
  if (first === 'steps') return outputFault(placeholder, second, scope)
  if (first === 'failure') return failureFault(placeholder, second, scope)
  if (first === 'item' || name === 'item_index') return itemFault(placeholder, scope)
  if (scope.names.has(name)) return undefined
  if (first === 'secret' || first === 'credential' || first === 'env') {
    const hint = 'A step names the credential that it opens: credential: <name>.'
    return { code: 'UNKNOWN_VARIABLE', message: `"${placeholder.raw}": secrets are no variables`, hint }
  }
  const near = suggest(name, scope.names)
  const hint = scope.why || undefined
  const message = near ? `"${placeholder.raw}": did you mean "{${near}}"?` : `"${placeholder.raw}" names nothing here`
  return { code: 'UNKNOWN_VARIABLE', message, hint }
}

function outputFault(placeholder: Placeholder, stepId: string | undefined, scope: Scope): Fault | undefined {
  const { raw, name } = placeholder
  if (!scope.step) return { code: 'UNKNOWN_VARIABLE', message: `"${raw}": only steps can read what steps put out` }
  if (stepId === undefined || name.split('.').length < 3)
    return { code: 'UNKNOWN_VARIABLE', message: `"${raw}": write {steps.<step_id>.<name>}` }
  const { step, all, before } = scope.step
  if (!all.has(stepId)) {
    const near = suggest(stepId, all)
    const message = near ? `"${stepId}": did you mean "${near}"?` : `there is no step "${stepId}"`
    return { code: 'UNKNOWN_STEP', message: `"${raw}": ${message}` }
  }
  if (!before.has(stepId)) {
    const hint = `Add "${stepId}" to depends_on.`
    return { code: 'UNKNOWN_STEP', message: `"${raw}": "${step.step_id}" does not wait for "${stepId}"`, hint }
  }
  if (step.trigger === 'on_success' || placeholder.filters.some((filter) => filter.name === 'default')) return undefined
  const message = `"${raw}": the step may not have run when this one starts`
  return { code: 'UNKNOWN_VARIABLE', severity: 'warning', message, hint: 'Add "| default:…".' }
}

function itemFault({ raw }: Placeholder, scope: Scope): Fault | undefined {
  if (scope.step?.step.for_each !== undefined) return undefined
  return { code: 'UNKNOWN_VARIABLE', message: `"${raw}": only steps with for_each know an item` }
}

function failureFault(placeholder: Placeholder, name: string | undefined, scope: Scope): Fault | undefined {
  const { raw } = placeholder
  if (scope.step?.step.trigger !== 'on_failure')
    return { code: 'UNKNOWN_VARIABLE', message: `"${raw}": only steps with trigger: on_failure know a failure` }
  if ((failureNames as readonly (string | undefined)[]).includes(name) && placeholder.name.split('.').length === 2)
    return undefined
  return {
    code: 'UNKNOWN_VARIABLE',
    message: `"${raw}": there are ${failureNames.map((n) => `{failure.${n}}`).join(', ')}`,
  }
}

const count = (text: string, part: string): number => text.split(part).length - 1
