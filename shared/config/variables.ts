import type { Pipeline } from '../../schema/config/pipeline.ts'
import { reservedNames, type Value, type Values } from '../../schema/config/variables.ts'
import { AppError } from '../errors.ts'
import { applyFilters, readDate } from './filters.ts'
import { splitPlaceholders, wholePlaceholder, type Placeholder } from './placeholders.ts'

/** What the platform knows of a run. `datetime` is an ISO moment; `date` (a day, YYYY-MM-DD) defaults to its UTC day. */
export type BuiltIns = { tenant_id: string; run_id: string; trigger: string; datetime: string; date?: string }
/** What the tenant's profile gives. */
export type Profile = { admin_email: string; company_name: string }

// A run of text this long is no setting any more; it also bounds `{a}{a}{a}…` with a long `a`.
const charsMax = 1_048_576
const totalCharsMax = 4 * charsMax

/**
 * All values of a run before its first step: built-ins, profile, variables, parameters; later wins, except that reserved
 * names cannot be set (`date` may be given as a parameter). Variables are rendered once, against all but variables.
 * `parameters` are those that `parameterValues` let through. Workers add `steps` and, after a failure, `failure`.
 */
export function variableValues(given: {
  pipeline: Pipeline
  builtins: BuiltIns
  profile: Profile
  parameters: Values
}): Values {
  const { pipeline, builtins, profile } = given
  const parameters = Object.fromEntries(
    Object.entries(given.parameters).filter(([name]) => name === 'date' || !reservedNames.includes(name)),
  )
  const stable = { tenant_id: builtins.tenant_id, ...pickProfile(profile) }
  const date = dayOf(parameters['date'] ?? builtins.date ?? builtins.datetime.slice(0, 10))
  const fixed: Values = {
    ...stable,
    run_id: builtins.run_id,
    trigger: builtins.trigger,
    datetime: builtins.datetime,
    date,
    date_nodash: date.replaceAll('-', ''),
    pipeline_id: renderText(pipeline.pipeline_id, stable),
  }
  const known: Values = { ...parameters, ...fixed }
  const budget = { chars: 0 }
  const variables = Object.entries(pipeline.variables)
    .filter(([name]) => !reservedNames.includes(name))
    .map(([name, value]) => [name, typeof value === 'string' ? render(value, known, budget) : value] as const)
  return { ...Object.fromEntries(variables), ...parameters, ...fixed }
}

/** The name of a pipeline for its tenant: `{tenant_id}_gcp_cost_billing` with the placeholders filled. */
export function pipelineName(pipeline: Pipeline, tenantId: string, profile: Profile): string {
  return renderText(pipeline.pipeline_id, { tenant_id: tenantId, ...pickProfile(profile) })
}

/**
 * The settings with every placeholder resolved, except in the fields at `sqlPaths`, which stay as written for `bindSql`.
 * Text that is one placeholder takes the type of the value; an item of a list that is one placeholder for a list gives
 * its items. One pass: what a value holds is never read as a placeholder.
 * Throws VARIABLE_UNKNOWN for a name without a value, CONFIG_INVALID for a filter that cannot take the value, TOO_LARGE.
 */
export function resolveSettings(
  settings: Readonly<Record<string, unknown>>,
  sqlPaths: readonly (readonly string[])[],
  values: Values,
): Record<string, unknown> {
  const budget = { chars: 0 }
  const walk = (node: unknown, paths: readonly (readonly string[])[]): unknown => {
    if (typeof node === 'string') return paths.some((path) => path.length === 0) ? node : render(node, values, budget)
    if (Array.isArray(node)) {
      return node.flatMap((item: unknown) => {
        const resolved = walk(item, below(paths, '*'))
        return typeof item === 'string' && Array.isArray(resolved) ? resolved : [resolved]
      })
    }
    if (typeof node !== 'object' || node === null) return node
    return Object.fromEntries(Object.entries(node).map(([key, child]) => [key, walk(child, below(paths, key))]))
  }
  return Object.fromEntries(Object.entries(settings).map(([key, node]) => [key, walk(node, below(sqlPaths, key))]))
}

/** A text with its placeholders filled in. Throws as `resolveSettings`. */
export function renderText(text: string, values: Values): string {
  const rendered = render(text, values, { chars: 0 })
  return typeof rendered === 'string' ? rendered : textOf(rendered, text)
}

/** The value of one placeholder, filters applied. Throws as `resolveSettings`. */
export function placeholderValue(placeholder: Placeholder, values: Values): Value {
  const { value, fault } = applyFilters(lookUp(placeholder.name, values), placeholder.filters)
  if (fault) throw new AppError('CONFIG_INVALID', `${placeholder.raw}: ${fault}.`)
  if (value === undefined) {
    throw new AppError('VARIABLE_UNKNOWN', `${placeholder.raw} has no value here.`, {
      hint: placeholder.name.startsWith('steps.')
        ? 'The step put out no such value, or did not run; add "| default:…" when it may be absent.'
        : undefined,
    })
  }
  return value
}

function render(text: string, values: Values, budget: { chars: number }): Value {
  const whole = wholePlaceholder(text)
  if (whole) return spend(placeholderValue(whole, values), budget)
  if (!text.includes('{')) return text
  let rendered = ''
  for (const part of splitPlaceholders(text)) {
    rendered += typeof part === 'string' ? part : textOf(placeholderValue(part, values), part.raw)
    if (rendered.length > charsMax) throw new AppError('TOO_LARGE', 'A setting is longer than 1 MiB when filled in.')
  }
  return spend(rendered, budget)
}

function spend(value: Value, budget: { chars: number }): Value {
  budget.chars += typeof value === 'string' ? value.length : 0
  if (budget.chars > totalCharsMax)
    throw new AppError('TOO_LARGE', 'The settings are longer than 4 MiB when filled in.')
  return value
}

function textOf(value: Value, raw: string): string {
  if (value === null) return ''
  if (typeof value === 'object') {
    throw new AppError('CONFIG_INVALID', `${raw} stands for a list or a group of values: it cannot be part of a text.`)
  }
  return String(value)
}

// Own properties only: `{steps.constructor.name}` is nothing.
function lookUp(name: string, values: Values): Value | undefined {
  let current: unknown = values
  for (const part of name.split('.')) {
    if (typeof current !== 'object' || current === null || !Object.hasOwn(current, part)) return undefined
    current = Reflect.get(current, part)
  }
  // Values are JSON-like by type; walking down own properties of one stays inside it.
  return current as Value | undefined
}

function below(paths: readonly (readonly string[])[], key: string): (readonly string[])[] {
  return paths.filter((path) => path[0] === key || path[0] === '*').map((path) => path.slice(1))
}

function dayOf(value: Value): string {
  if (typeof value === 'string' && value.length === 10 && readDate(value)) return value
  throw new AppError('PARAMETER_INVALID', 'date: expected a day such as 2024-11-01.', { place: { path: 'date' } })
}

const pickProfile = (profile: Profile): Profile => ({
  admin_email: profile.admin_email,
  company_name: profile.company_name,
})
