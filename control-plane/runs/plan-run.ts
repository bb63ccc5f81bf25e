import { and, eq } from 'drizzle-orm'
import { credential } from '../../schema/tables/index.ts'
import { catalog, sqlFields } from '../../shared/config/catalog.ts'
import type { Problem } from '../../shared/config/problems.ts'
import { resolveSettings } from '../../shared/config/variables.ts'
import type { Tx } from '../../shared/db/db.ts'
import { AppError } from '../../shared/errors.ts'
import type { PlannedStep } from '../../shared/runs/plan.ts'
import { prepareRun, valuesNow } from '../../shared/runs/start-in-transaction.ts'
import { type Context, inTenant } from '../context.ts'
import { parametersOf, type RunRequest } from './start-run.ts'

/** A step as it would run. */
export type RunPlanStep = Omit<PlannedStep, 'settings'> & {
  /** Its settings with every placeholder filled that has a value before the first step; SQL stays as written. */
  settings: Record<string, unknown>
  /** False when what it needs of the tenant's credentials is not there; null when it opens none. */
  hasCredential: boolean | null
}
/** What a run would be. */
export type RunPlan = { parameters: Record<string, unknown>; steps: RunPlanStep[] }

/** What `startRun` would run, with nothing written and nothing started. Throws as it does, but for the quotas. */
export function planRun(context: Context, request: RunRequest): Promise<RunPlan | { problems: Problem[] }> {
  const asked = parametersOf(request)
  return inTenant(context, async (tx, { tenantId, actor }) => {
    const run = {
      tenantId,
      actor,
      requestId: context.requestId,
      path: request.pipeline,
      trigger: 'manual' as const,
      parameters: asked,
      environment: request.environment ?? null,
    }
    const prepared = await prepareRun(tx, run)
    if ('problems' in prepared) return prepared
    const { pipeline, parameters } = prepared
    const values = await valuesNow(tx, pipeline, { tenantId, runId: 'run_planned', trigger: 'manual', parameters })
    const providers = await credentialsOf(tx, tenantId)
    return {
      parameters,
      steps: prepared.steps.map((step) => ({
        ...step,
        settings: settingsBefore(step, values),
        hasCredential: hasCredential(step, providers),
      })),
    }
  })
}

// What an earlier step puts out has no value yet: such a setting is shown as it is written.
function settingsBefore(step: PlannedStep, values: Parameters<typeof resolveSettings>[2]): Record<string, unknown> {
  const entry = catalog.find(({ type }) => type === step.ps_type)
  const sqlPaths = entry ? sqlFields(entry.settings).map((field) => field.path) : []
  return Object.fromEntries(
    Object.entries(step.settings).map(([name, setting]) => {
      try {
        return [name, resolveSettings({ [name]: setting }, sqlPaths, values)[name]]
      } catch (error) {
        if (error instanceof AppError && error.code === 'VARIABLE_UNKNOWN') return [name, setting]
        throw error
      }
    }),
  )
}

type Found = { name: string; provider: string }

const credentialsOf = (tx: Tx, tenantId: string): Promise<Found[]> =>
  tx
    .select({ name: credential.name, provider: credential.provider })
    .from(credential)
    .where(and(eq(credential.tenantId, tenantId)))

function hasCredential(step: PlannedStep, found: readonly Found[]): boolean | null {
  const providers = catalog.find(({ type }) => type === step.ps_type)?.credentialProviders ?? []
  if (step.credential !== undefined) return found.some(({ name }) => name === step.credential)
  if (providers.length === 0) return null
  return found.filter(({ provider }) => providers.includes(provider)).length === 1
}
