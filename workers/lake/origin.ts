import type { VersionedLoad } from './load-versioned.ts'
import { literal } from './names.ts'
import type { CurrentLoad } from './receipt.ts'

/** SQL for which load wrote a version, in the order of the envelope: its moment, then run, step, attempt and number. */
export function originOf(load: VersionedLoad, current: CurrentLoad): { moment: string; mark: string } {
  const { runId, stepKey, number } = load.attempt
  return {
    moment: `${literal(current.moment)}::TIMESTAMPTZ`,
    mark: `${literal(runId)}, ${literal(stepKey)}, ${number}, ${current.number}`,
  }
}
