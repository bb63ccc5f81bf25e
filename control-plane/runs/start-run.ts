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
 * version, run, steps, first event and audit row are one transaction. A repeat of the idempotency key answers the first
 * run. Throws BAD_INPUT, NOT_FOUND, PARAMETER_INVALID, IDEMPOTENCY_KEY_REUSED, TENANT_NOT_ACTIVE, QUOTA_EXCEEDED,
 * FEATURE_OFF.
 */
export async function startRun(context: Context, request: RunRequest): Promise<Started> {
  const parameters = parametersOf(request)
  const idempotencyKey = checkedKey(request.idempotencyKey)
  const environment = request.environment ?? null
  const input = { pipeline: request.pipeline, parameters, ...(environment === null ? {} : { environment }) }
  const inputHash = idempotencyKey === null ? null : await hashOf(input)
  const started = await inTenant(context, (tx, { tenantId, actor }) =>
    startInTransaction(tx, {
      tenantId,
      actor,
      requestId: context.requestId,
      path: request.pipeline,
      trigger: 'manual',
      parameters,
      idempotencyKey,
      inputHash,
      environment,
      priority: request.priority ?? 0,
    }),
  )
  if ('runId' in started && started.created) wakeQueues(context, started.runId)
  return started
}

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

function checkedKey(key: string | null | undefined): string | null {
  if (key === null || key === undefined) return null
  // Printable ASCII: a key is compared byte by byte, also by people in a log.
  if (/^[\x21-\x7e]{1,200}$/.test(key)) return key
  throw new AppError('BAD_INPUT', 'idempotencyKey must be 1 to 200 printable characters without spaces.', {
    place: { path: 'idempotencyKey' },
  })
}

async function hashOf(value: unknown): Promise<string> {
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
