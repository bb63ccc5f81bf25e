import type { Pipeline } from '../../schema/config/pipeline.ts'
import { parseExpression } from '../quality/expression.ts'
import { type GivenRule, ruleFault, viewFault } from '../quality/rule-fault.ts'
import { ExpressionError } from '../quality/tokens.ts'
import { isObject, listOf } from './json-schema.ts'
import { findPlaceholders } from './placeholders.ts'
import type { Problem } from './problems.ts'
import type { Reporter } from './read-yaml.ts'

// Those whose `rules` are rules of quality.
const processors = /^(quality\.|sql\.transform$)/

type Path = readonly PropertyKey[]

/** Rules of quality that have the right form and still make no sense: a condition that cannot be read, bounds the wrong way round, a quarantine for rows of a view. */
export function checkRules(pipeline: Pipeline, report: Reporter): Problem[] {
  return pipeline.steps.flatMap((step, index) => {
    const path = ['steps', index]
    const destination = isObject(step['destination']) ? step['destination'] : {}
    const quality = isObject(destination['quality']) ? destination['quality'] : {}
    return [
      ...(processors.test(step.ps_type)
        ? listProblems(step['rules'], [...path, 'rules'], report, faultIn(destination))
        : []),
      ...listOf(step['models']).flatMap((model, at) =>
        isObject(model) ? listProblems(model['rules'], [...path, 'models', at, 'rules'], report, faultIn(model)) : [],
      ),
      ...listProblems(quality['rules'], [...path, 'destination', 'quality', 'rules'], report),
    ]
  })
}

type FindFault = typeof ruleFault

const faultIn = ({ mode }: { mode?: unknown }): FindFault =>
  mode === 'view' ? (rule) => ruleFault(rule) ?? viewFault(rule) : ruleFault

function listProblems(rules: unknown, path: Path, report: Reporter, findFault: FindFault = ruleFault): Problem[] {
  return listOf(rules).flatMap((given, index) => {
    // Whether it has the form of a rule, the catalog knows and has said.
    const rule = isObject(given) ? given['rule'] : undefined
    return typeof rule === 'string' && !report.isFull
      ? problemsOf({ ...(isObject(given) ? given : {}), rule }, [...path, index], report, findFault)
      : []
  })
}

function problemsOf(rule: GivenRule, path: Path, report: Reporter, findFault: FindFault): Problem[] {
  const fault = findFault(rule)
  if (fault) {
    const text = Reflect.get(rule, fault.key)
    // What a placeholder stands for is judged when the step starts.
    if (typeof text === 'string' && findPlaceholders(text).length > 0) return []
    return [report.at([...path, fault.key], 'BAD_VALUE', `${fault.key}: ${fault.message}`)]
  }
  const text = rule['expression']
  return rule.rule === 'expression' && typeof text === 'string'
    ? expressionProblems(text, [...path, 'expression'], report)
    : []
}

function expressionProblems(text: string, path: Path, report: Reporter): Problem[] {
  // Where a name or a number comes from a placeholder, its place is filled as SQL is, and read when the step starts.
  const filled = findPlaceholders(text).reduce((rest, { raw }) => rest.replaceAll(raw, 'x'.repeat(raw.length)), text)
  try {
    parseExpression(filled)
    return []
  } catch (error) {
    if (!(error instanceof ExpressionError)) throw error
    const message = `expression: ${error.message}`
    const part = text.slice(error.offset)
    if (part === '') return [report.at(path, 'BAD_VALUE', message)]
    return [report.inText(path, part, occurrencesBefore(text, part, error.offset), 'BAD_VALUE', message)]
  }
}

function occurrencesBefore(text: string, part: string, offset: number): number {
  let count = 0
  for (let at = text.indexOf(part); at !== -1 && at < offset; at = text.indexOf(part, at + 1)) count++
  return count
}
