import { z } from 'zod'
import { namePattern } from '../../schema/config/variables.ts'
import type { Problem } from '../../shared/config/problems.ts'
import type { Tx } from '../../shared/db/db.ts'
import { AppError } from '../../shared/errors.ts'
import { prepareRun, type TenantTrigger } from '../../shared/runs/start-in-transaction.ts'

const parametersShape = z
  .record(z.string().regex(namePattern), z.union([z.string().max(10_000), z.number(), z.boolean(), z.null()]))
  .refine((given) => Object.keys(given).length <= 200)

/** Parameters that a trigger keeps for its runs. Throws BAD_INPUT for what are none. */
export function checkedParameters(given: unknown): Record<string, unknown> {
  const parsed = parametersShape.safeParse(given)
  if (parsed.success) return parsed.data
  throw new AppError('BAD_INPUT', 'parameters must be an object of up to 200 texts, numbers and booleans by name.', {
    place: { path: 'parameters' },
  })
}

/**
 * What keeps a trigger's runs from starting as things stand: problems of the file; undefined when nothing does. Throws
 * NOT_FOUND for a pipeline or environment that is not there, PARAMETER_INVALID, FEATURE_OFF.
 */
export async function checkStart(
  tx: Tx,
  run: {
    tenantId: string
    actor: string
    requestId: string
    path: string
    trigger: TenantTrigger
    parameters: Record<string, unknown>
    environment: string | null
  },
): Promise<Problem[] | undefined> {
  const prepared = await prepareRun(tx, { ...run, parameters: { date: '2026-01-01', ...run.parameters } })
  return 'problems' in prepared ? prepared.problems : undefined
}

/** Names of schedules and webhooks. */
export const triggerName = /^[a-z][a-z0-9_-]{0,62}$/
