import type { Pipeline } from '../../schema/config/pipeline.ts'
import { stepNeeds } from './needs.ts'
import type { Problem } from './problems.ts'
import type { Reporter } from './read-yaml.ts'
import { suggest } from './suggest.ts'

/** Keys of the steps that `notify` adds to a run. */
export const notifyKeys = { on_success: 'notify_on_success', on_failure: 'notify_on_failure' } as const

/** What is wrong among the steps of a pipeline: repeated names, references to nothing, circles. */
export function checkSteps(pipeline: Pipeline, report: Reporter): Problem[] {
  const names = pipeline.steps.map((step) => step.step_id)
  const problems = pipeline.steps.flatMap((step, index) => {
    const found: Problem[] = []
    const at = (key: string): PropertyKey[] => ['steps', index, key]
    if (names.indexOf(step.step_id) !== index)
      found.push(report.at(at('step_id'), 'DUPLICATE_STEP', `a step before this one is named "${step.step_id}" too`))
    if (pipeline.notify && Object.values<string>(notifyKeys).includes(step.step_id))
      found.push(report.at(at('step_id'), 'DUPLICATE_STEP', `"notify" adds a step named "${step.step_id}"`))
    if (step.covers && step.depends_on)
      found.push(report.at(at('covers'), 'BAD_VALUE', 'covers: write either depends_on or covers', { atKey: true }))
    if (step.covers && step.trigger === 'on_success') {
      const hint = 'Add trigger: on_failure, or write depends_on.'
      found.push(
        report.at(at('covers'), 'BAD_VALUE', 'covers: only for steps with another trigger', { atKey: true, hint }),
      )
    }
    for (const key of ['depends_on', 'covers'] as const) {
      for (const [position, name] of (step[key] ?? []).entries()) {
        if (report.isFull) return found
        const path = [...at(key), position]
        if (name === step.step_id) found.push(report.at(path, 'STEP_CYCLE', `"${name}" waits for itself`))
        else if (!names.includes(name)) found.push(unknownStep(name, names, path, report))
      }
    }
    return found
  })
  return problems.length > 0 ? problems : circles(pipeline, report)
}

function unknownStep(name: string, names: readonly string[], path: PropertyKey[], report: Reporter): Problem {
  const near = suggest(name, names)
  return report.at(path, 'UNKNOWN_STEP', near ? `"${name}": did you mean "${near}"?` : `there is no step "${name}"`)
}

// Takes away steps that wait for nothing left, until only circles are left.
function circles(pipeline: Pipeline, report: Reporter): Problem[] {
  const left = new Map([...stepNeeds(pipeline.steps)].map(([key, needs]) => [key, new Set(needs)]))
  for (let free = freeOf(left); free.length > 0; free = freeOf(left)) {
    for (const key of free) left.delete(key)
    for (const needs of left.values()) for (const key of free) needs.delete(key)
  }
  const first = pipeline.steps.findIndex((step) => left.has(step.step_id))
  if (first < 0) return []
  const start = pipeline.steps[first]?.step_id ?? ''
  const message = `these steps wait for each other: ${circleFrom(start, left).join(' -> ')}`
  const key = pipeline.steps[first]?.depends_on ? 'depends_on' : 'step_id'
  return [report.at(['steps', first, key], 'STEP_CYCLE', message)]
}

const freeOf = (left: ReadonlyMap<string, ReadonlySet<string>>): string[] =>
  [...left].filter(([, needs]) => needs.size === 0).map(([key]) => key)

function circleFrom(start: string, left: ReadonlyMap<string, ReadonlySet<string>>): string[] {
  const walked: string[] = []
  let key: string | undefined = start
  while (key !== undefined && !walked.includes(key)) {
    walked.push(key)
    key = [...(left.get(key) ?? [])][0]
  }
  return [...walked.slice(walked.indexOf(key ?? start)), key ?? start]
}
