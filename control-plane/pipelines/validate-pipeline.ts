import { parsePipeline } from '../../shared/config/parse.ts'
import type { Problem } from '../../shared/config/problems.ts'
import { type PlannedStep, planRun } from '../../shared/runs/plan.ts'

/** A checked file: what it would run, or all that is wrong with it. */
export type Validated = { steps: PlannedStep[]; problems: Problem[]; warnings: Problem[] }

/** Checks a pipeline file as `savePipeline` and a run would, and changes nothing. */
export function validatePipeline(input: { yaml: string; file?: string | null | undefined }): Validated {
  const parsed = parsePipeline(input.yaml, { file: input.file ?? 'pipeline.yml' })
  if ('problems' in parsed) return { steps: [], problems: parsed.problems, warnings: [] }
  return { steps: planRun(parsed.pipeline), problems: [], warnings: parsed.warnings }
}
