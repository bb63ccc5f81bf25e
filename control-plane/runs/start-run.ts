import { AppError } from '../../shared/errors.ts'
import { type Started, startInTransaction } from '../../shared/runs/start-in-transaction.ts'
import { type Context, inTenant } from '../context.ts'
import { wakeQueues } from './wake-queues.ts'

/** What a caller wants to run. */
export type RunRequest = {
  pipeline: string
  parameters?: unknown
  date?: string | null | undefined
  idempotencyKey?: string | null | undefined
  environment?: string | null | undefined
  priority?: number | null | undefined
}

/**
 * Starts a run of the tenant's pipeline of this path, or of a template, and wakes the queues of its first steps. Pipeline
 * version, run, steps, first event and audit row are one transaction. As long as a run is there, its idempotency key starts
 * no second one. Throws BAD_INPUT, NOT_FOUND, PARAMETER_INVALID, IDEMPOTENCY_KEY_REUSED, TENANT_NOT_ACTIVE,
 * QUOTA_EXCEEDED, FEATURE_OFF.
 */
export async function startRun(context: Context, request: RunRequest): Promise<Started> {
  const parameters = parametersOf(request)
  const key = request.idempotencyKey ?? null
  const environment = request.environment ?? null
  const input = { pipeline: request.pipeline, parameters, ...(environment === null ? {} : { environment }) }
  const started = await inTenant(context, async (tx, { tenantId, actor }) =>
    startInTransaction(tx, {
      tenantId,
      actor,
      requestId: context.requestId,
      path: request.pipeline,
      trigger: 'manual',
      parameters,
      idempotencyKey: key === null ? null : `${callersKey}${key}`,
      inputHash: key === null ? null : await digestOf(input),
      environment,
      priority: request.priority ?? 0,
    }),
  )
  if ('runId' in started && started.created) wakeQueues(context, started.runId)
  return started
}

// The platform's own runs have keys in the same place: a tenant that knew one could keep such a run from starting.
const callersKey = 'once:'

/** The key that the caller gave a run; null when it gave none. */
export const keyOfCaller = (idempotencyKey: string | null): string | null =>
  idempotencyKey?.startsWith(callersKey) ? idempotencyKey.slice(callersKey.length) : null

/** The parameters of a request, `date` among them. Throws BAD_INPUT. */
export function parametersOf({ parameters, date }: Pick<RunRequest, 'parameters' | 'date'>): Record<string, unknown> {
  const given = parameters ?? {}
  if (typeof given !== 'object' || Array.isArray(given))
    throw new AppError('BAD_INPUT', 'parameters must be an object.', { place: { path: 'parameters' } })
  const named: Record<string, unknown> = { ...given }
  if (date === null || date === undefined) return named
  if (Object.hasOwn(named, 'date'))
    throw new AppError('BAD_INPUT', 'date is given twice: beside parameters and among them.', {
      place: { path: 'date' },
    })
  return { ...named, date }
}

async function digestOf(value: unknown): Promise<string> {
  const digest = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(canonical(value)))
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, '0')).join('')
}

// The same input in another order of keys is the same input.
function canonical(value: unknown): string {
  return JSON.stringify(value, (_key, part: unknown) =>
    typeof part === 'object' && part !== null && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)))
      : part,
  )
}
