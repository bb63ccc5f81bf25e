import type { PipelineStep } from '../../schema/config/pipeline.ts'

/** What order and triggers are read from. */
export type Ordered = Pick<PipelineStep, 'step_id' | 'trigger' | 'depends_on' | 'covers'>

/**
 * The steps that each step waits for, by `step_id`, in the order of the pipeline. `depends_on` (or `covers`) as written;
 * without it a normal step waits for the normal step before it, and a step with another trigger for every normal step.
 */
export function stepNeeds(steps: readonly Ordered[]): Map<string, string[]> {
  const isNormal = (step: Ordered): boolean => step.trigger === 'on_success'
  const normal = steps.filter(isNormal).map((step) => step.step_id)
  const needs = new Map<string, string[]>()
  let before: string | undefined
  for (const step of steps) {
    const given = step.depends_on ?? step.covers
    if (given) needs.set(step.step_id, [...new Set(given)])
    else if (!isNormal(step)) needs.set(step.step_id, normal)
    else needs.set(step.step_id, before === undefined ? [] : [before])
    if (isNormal(step)) before = step.step_id
  }
  return needs
}

/** Every step that has ended before this one may start: what it may read outputs of. */
export function stepsBefore(stepId: string, needs: ReadonlyMap<string, readonly string[]>): Set<string> {
  const before = new Set<string>()
  const open = [...(needs.get(stepId) ?? [])]
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    if (before.has(next)) continue
    before.add(next)
    open.push(...(needs.get(next) ?? []))
  }
  return before
}
