import { z } from 'zod'
import { stepTriggers } from '../states.ts'
import { duration } from './duration.ts'
import { patternCost, patternCostMax } from './pattern.ts'
import { scheduleShape, triggerLimits, triggerShape } from './triggers.ts'
import { namePattern } from './variables.ts'

/** Bounds of a pipeline file. They keep checking one in the reach of an edge request. */
export const pipelineLimits = { bytesMax: 262_144, stepsMax: 200, depthMax: 32, keysMax: 1000, namesMax: 200 } as const

const name = z.string().regex(namePattern, 'expected lower case letters, digits and _, starting with a letter')
const names = <T extends z.ZodType>(value: T) =>
  z
    .record(name, value)
    .refine(
      (given) => Object.keys(given).length <= pipelineLimits.namesMax,
      `expected at most ${pipelineLimits.namesMax} names`,
    )
const scalar = z.union([z.string(), z.number(), z.boolean(), z.null()])

/** How often and how soon a failed step is tried again. Waits are spread at random between half and the whole. */
export const retryShape = z.strictObject({
  attempts: z.int().min(1).max(20).default(3).describe('Tries in all, the first one included.'),
  backoff: z.enum(['exponential', 'fixed']).default('exponential').describe('How the wait grows from try to try.'),
  initial: duration.default('5s').describe('Wait before the second try.'),
  max: duration.default('5m').describe('No wait is longer.'),
  jitter: z.literal(true).default(true).describe('Waits are always spread, so that tenants do not retry in step.'),
})
/** A checked retry block. */
export type Retry = z.output<typeof retryShape>

/** One declared run parameter: what a run may be given, and the form that it must have. */
export const parameterShape = z
  .strictObject({
    type: z.enum(['string', 'integer', 'number', 'boolean', 'date']).describe('Form of the value.'),
    description: z.string().max(500).optional().describe('Shown beside the field of the run form.'),
    required: z.boolean().default(false).describe('A run without it is refused.'),
    default: z.union([z.string(), z.number(), z.boolean()]).optional().describe('Taken when a run gives none.'),
    enum: z
      .array(z.union([z.string(), z.number()]))
      .min(1)
      .max(200)
      .optional()
      .describe('The only values allowed.'),
    pattern: z.string().max(200).optional().describe('Regular expression that the whole text must match.'),
    min: z.union([z.number(), z.string()]).optional().describe('Smallest number, first day, or fewest characters.'),
    max: z.union([z.number(), z.string()]).optional().describe('Greatest number, last day, or most characters.'),
  })
  .superRefine((parameter, context) => {
    const fault = patternFault(parameter.pattern)
    if (fault) context.addIssue({ code: 'custom', path: ['pattern'], message: fault })
  })
/** A declared parameter. */
export type Parameter = z.output<typeof parameterShape>

/** Keys that every step has, whatever its `ps_type`; the others are its processor's. */
export const stepKeys = {
  step_id: name.describe('Name of the step, unique in the pipeline.'),
  ps_type: z.string().min(1).max(100).describe('Processor that does the work.'),
  trigger: z.enum(stepTriggers).default('on_success').describe('When it starts, judged over what it waits for.'),
  depends_on: z.array(name).min(1).max(200).optional().describe('Steps it waits for; default: the step before it.'),
  covers: z.array(name).min(1).max(200).optional().describe('Steps whose failure it answers; default: all.'),
  when: z
    .union([z.boolean(), z.string().min(1).max(500)])
    .optional()
    .describe('The step is passed over when this is false: a placeholder, or <left> <op> <right>.'),
  for_each: z
    .union([z.array(z.union([scalar, z.record(z.string(), scalar)])).max(1000), z.string().min(3).max(500)])
    .optional()
    .describe('A list, or the placeholder of one: the step is done once per {item}, up to 1,000 of them.'),
  timeout: duration.optional().describe('Longest time of one try; default 1h.'),
  retry: retryShape.optional().describe('How it is tried again.'),
  on_error: z.enum(['fail', 'continue']).optional().describe('Whether its failure fails the run.'),
  credential: z
    .string()
    .regex(/^[a-z][a-z0-9_-]{0,62}$/, 'expected the name of a credential of the tenant')
    .optional()
    .describe("Name of the stored credential that it opens; default: the tenant's only one of the provider."),
}

const recipients = z.array(z.string().min(3).max(320)).min(1).max(50).optional()

/**
 * A pipeline file. `.parse` fills the defaults; durations stay as written (`durationMs` reads them), placeholders too.
 * Settings of a step's processor are kept beside its common keys and are checked by the catalog.
 */
export const pipelineShape = z.strictObject({
  version: z.literal(1).default(1).describe('Version of this format.'),
  pipeline_id: z.string().min(1).max(200).describe('Name of the pipeline for its tenant.'),
  description: z.string().max(2000).default('').describe('One sentence for people.'),
  labels: names(z.union([z.string().max(200), z.number(), z.boolean()]))
    .default({})
    .describe('For filters.'),
  parameters: names(parameterShape).default({}).describe('What a run may be given.'),
  variables: names(scalar).default({}).describe('Names for values; a run parameter of that name overrides.'),
  defaults: z
    .strictObject({
      timeout: duration.optional().describe('Longest time of one try of a step.'),
      retry: retryShape.optional().describe('How steps are tried again.'),
      on_error: z.enum(['fail', 'continue']).optional().describe('Whether failed steps fail the run.'),
    })
    .default({})
    .describe('For steps that do not say it themselves.'),
  schedule: scheduleShape.optional().describe('When it starts by itself.'),
  triggers: z
    .array(triggerShape)
    .max(triggerLimits.triggersPerPipeline)
    .default([])
    .describe('What else starts it: a file that arrives, or another pipeline that succeeded.'),
  concurrency: z
    .strictObject({
      group: z.string().min(1).max(200).optional().describe('Runs of one group count together; default: the pipeline.'),
      limit: z.int().min(1).max(100).default(1).describe('Runs at once.'),
      on_conflict: z.enum(['queue', 'skip', 'cancel_running']).default('queue').describe('What a run too many does.'),
    })
    .optional()
    .describe('How many runs may go at once.'),
  timeout: duration.optional().describe('Longest time of a whole run.'),
  retry: retryShape.optional().describe('How steps are tried again unless they or `defaults` say otherwise.'),
  notify: z
    .strictObject({
      on_success: recipients.describe('Who gets an e-mail when every step succeeded.'),
      on_failure: recipients.describe('Who gets an e-mail when a step failed.'),
    })
    .optional()
    .describe('E-mail at the end of a run.'),
  steps: z.array(z.looseObject(stepKeys)).min(1).max(pipelineLimits.stepsMax).describe('What is done, in order.'),
})

/** A checked pipeline. */
export type Pipeline = z.output<typeof pipelineShape>
/** A step of a checked pipeline: common keys, and its processor's settings beside them. */
export type PipelineStep = Pipeline['steps'][number]

function patternFault(pattern: string | undefined): string | undefined {
  if (pattern === undefined) return undefined
  try {
    RegExp(pattern, 'u')
  } catch {
    return 'expected a regular expression'
  }
  return patternCost(pattern) > patternCostMax
    ? 'the pattern may take too long: no repeated groups, no back references, at most three open repetitions'
    : undefined
}
