import { parsePipeline } from '../../shared/config/parse.ts'
import type { Problem } from '../../shared/config/problems.ts'
import { type PlannedStep, planRun } from '../../shared/runs/plan.ts'
import { planMinutes } from '../../shared/schedules/plan-minutes.ts'
import { type Context, inTenant } from '../context.ts'

/** A checked file: what it would run, or all that is wrong with it. */
export type Validated = { steps: PlannedStep[]; problems: Problem[]; warnings: Problem[] }

/** Checks a pipeline file as `savePipeline` and a run would, apart from pipelines that it follows, and changes nothing. */
export async function validatePipeline(
  context: Context,
  input: { yaml: string; file?: string | null | undefined },
): Promise<Validated> {
  const scheduleMinutesMin = await inTenant(context, (tx, { tenantId }) => planMinutes(tx, tenantId))
  const parsed = parsePipeline(input.yaml, { file: input.file ?? 'pipeline.yml', scheduleMinutesMin })
  if ('problems' in parsed) return { steps: [], problems: parsed.problems, warnings: [] }
  return { steps: planRun(parsed.pipeline), problems: [], warnings: parsed.warnings }
}
