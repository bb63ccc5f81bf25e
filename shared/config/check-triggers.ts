import { durationMs } from '../../schema/config/duration.ts'
import type { Pipeline } from '../../schema/config/pipeline.ts'
import { parameterFault } from '../runs/parameters.ts'
import { cronFault, isTooOften, zoneFault } from '../schedules/cron.ts'
import { findPlaceholders, type Placeholder } from './placeholders.ts'
import type { Problem } from './problems.ts'
import type { Reporter } from './read-yaml.ts'
import { suggest } from './suggest.ts'

/**
 * What is wrong with `schedule` and `triggers` of a pipeline, as far as the file alone tells. `minutesMin` is how far the
 * times of a schedule must lie apart.
 */
export function checkTriggers(pipeline: Pipeline, minutesMin: number, report: Reporter): Problem[] {
  return [...checkSchedule(pipeline, minutesMin, report), ...checkEach(pipeline, report)]
}

/** Where in the run before a value of a trigger on a pipeline may come from. */
export const upstreamForm =
  /^upstream\.(run_id|date|pipeline|parameters\.[a-z][a-z0-9_]*|steps\.[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*)$/

const smallestSftpMs = 10_000

function checkSchedule(pipeline: Pipeline, minutesMin: number, report: Reporter): Problem[] {
  const { schedule } = pipeline
  if (!schedule) return []
  const cron = cronFault(schedule.cron)
  const zone = zoneFault(schedule.timezone)
  const problems = [
    ...(cron ? [report.at(['schedule', 'cron'], 'BAD_VALUE', `cron: ${cron}`)] : []),
    ...(zone ? [report.at(['schedule', 'timezone'], 'BAD_VALUE', `timezone: ${zone}`)] : []),
    ...givenFaults(pipeline, schedule.parameters, ['date'], ['schedule'], report),
  ]
  if (!cron && !zone && isTooOften(schedule, minutesMin))
    problems.push(report.at(['schedule', 'cron'], 'BAD_VALUE', `cron: ${tooOften(minutesMin)}`))
  return problems
}

/** What is said of times that lie closer together than the plan allows. */
export const tooOften = (minutes: number): string =>
  `the times lie less than ${minutes} minutes apart, and the plan allows no more often`

function checkEach(pipeline: Pipeline, report: Reporter): Problem[] {
  const targets = pipeline.triggers.map((trigger) =>
    trigger.on === 'file' ? `file ${trigger.credential ?? ''}:${trigger.path}` : `pipeline ${trigger.pipeline}`,
  )
  return pipeline.triggers.flatMap((trigger, index) => {
    if (report.isFull) return []
    const path = ['triggers', index]
    const twice =
      targets.indexOf(targets[index] ?? '') < index
        ? [report.at(path, 'BAD_VALUE', 'a trigger before this one waits for the same')]
        : []
    if (trigger.on === 'pipeline')
      return [
        ...twice,
        ...upstreamFaults(trigger.parameters, path, report),
        ...givenFaults(pipeline, trigger.parameters, ['date'], path, report),
      ]
    const fault = pathFault(trigger.path)
    const isTooFast = trigger.credential !== undefined && durationMs(trigger.every) < smallestSftpMs
    return [
      ...twice,
      ...(fault ? [report.at([...path, 'path'], 'BAD_VALUE', `path: ${fault}`)] : []),
      ...(isTooFast ? [report.at([...path, 'every'], 'BAD_VALUE', 'every: expected at least 10s for a server')] : []),
      ...fileFaults(pipeline, path, report),
      ...givenFaults(pipeline, trigger.parameters, ['file', 'file_name'], path, report),
    ]
  })
}

// A run that is not told which file has come can only guess.
function fileFaults(pipeline: Pipeline, path: PropertyKey[], report: Reporter): Problem[] {
  if (pipeline.parameters['file']?.type === 'string') return []
  const hint = 'parameters: { file: { type: string } }'
  return [
    report.at([...path, 'on'], 'MISSING_KEY', 'the pipeline declares no parameter "file" of type string', { hint }),
  ]
}

function upstreamFaults(
  parameters: Readonly<Record<string, unknown>>,
  path: PropertyKey[],
  report: Reporter,
): Problem[] {
  return Object.entries(parameters).flatMap(([name, value]) =>
    typeof value !== 'string'
      ? []
      : findPlaceholders(value)
          .filter((placeholder) => !upstreamForm.test(placeholder.name))
          .map((placeholder) => unknownName(placeholder, [...path, 'parameters', name], report)),
  )
}

function unknownName(placeholder: Placeholder, path: PropertyKey[], report: Reporter): Problem {
  const hint =
    'Known here: {upstream.parameters.<name>}, {upstream.steps.<step>.<output>}, {upstream.run_id}, {upstream.date}.'
  return report.at(path, 'UNKNOWN_VARIABLE', `${placeholder.raw} stands for nothing here`, { hint })
}

/** Faults of what a trigger gives to the pipeline's parameters; `comes` names those that come by themselves. */
function givenFaults(
  pipeline: Pipeline,
  given: Readonly<Record<string, unknown>>,
  comes: readonly string[],
  path: PropertyKey[],
  report: Reporter,
): Problem[] {
  const taken = [...Object.keys(pipeline.parameters), ...Object.keys(pipeline.variables), 'date']
  const wrong = Object.entries(given).flatMap(([name, value]) => {
    const place = [...path, 'parameters', name]
    if (comes.includes(name) && name !== 'date')
      return [report.at(place, 'BAD_VALUE', `"${name}" comes with the file`, { atKey: true })]
    if (!taken.includes(name)) {
      const near = suggest(name, taken)
      const message = near ? `"${name}": did you mean "${near}"?` : `the pipeline declares no parameter "${name}"`
      return [report.at(place, 'BAD_VALUE', message, { atKey: true })]
    }
    const declared =
      pipeline.parameters[name] ?? (name === 'date' ? { type: 'date' as const, required: false } : undefined)
    // What comes from the run before is known when it has ended.
    const isLiteral = typeof value !== 'string' || findPlaceholders(value).length === 0
    const fault = declared && isLiteral && value !== null ? parameterFault(declared, value) : undefined
    return fault ? [report.at(place, 'BAD_VALUE', `${name}: ${fault}`)] : []
  })
  const missing = Object.entries(pipeline.parameters)
    .filter(([name, declared]) => declared.required && declared.default === undefined && !comes.includes(name))
    .filter(([name]) => given[name] === undefined || given[name] === null)
    .map(([name]) =>
      report.at([...path, 'parameters', name], 'MISSING_KEY', `"${name}" is required and not given here`),
    )
  return [...wrong, ...missing]
}

function pathFault(path: string): string | undefined {
  const parts = path.split('/')
  if (parts.some((part) => part === '' || part === '.' || part === '..') || path.includes('\\'))
    return 'expected a folder and a name such as in/orders_*.csv'
  if (/[*?[\]{}]/.test(parts.slice(0, -1).join('/'))) return '* and ? may stand in the name only, not in the folder'
  if (/[[\]{}]/.test(path)) return 'only * and ? stand for others'
  return /\p{C}/u.test(path) ? 'control characters are not allowed' : undefined
}
