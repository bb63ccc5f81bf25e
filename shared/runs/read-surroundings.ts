import { and, eq } from 'drizzle-orm'
import type { Pipeline } from '../../schema/config/pipeline.ts'
import { tenantEnvironment } from '../../schema/tables/index.ts'
import { catalog } from '../config/catalog.ts'
import type { Tx } from '../db/db.ts'
import { AppError } from '../errors.ts'
import type { PlannedStep } from './plan.ts'

/** What an environment puts in the place of what a pipeline says. */
export type Surroundings = {
  /** Its values for the variables and parameters that the pipeline declares; names of others are passed over. */
  valuesFor(pipeline: Pipeline): Record<string, unknown>
  /** The step with the credential that stands for the one it names, or for that of its provider where it names none. */
  stepIn(step: PlannedStep): PlannedStep
}

/** The tenant's environment of this name; null changes nothing. Throws NOT_FOUND. */
export async function readSurroundings(tx: Tx, tenantId: string, name: string | null): Promise<Surroundings> {
  if (name === null) return { valuesFor: () => ({}), stepIn: (step) => step }
  const [row] = await tx
    .select()
    .from(tenantEnvironment)
    .where(and(eq(tenantEnvironment.tenantId, tenantId), eq(tenantEnvironment.name, name)))
  if (!row) throw new AppError('NOT_FOUND', 'There is no environment of this name.', { place: { path: 'environment' } })
  return {
    valuesFor: ({ variables, parameters }) =>
      Object.fromEntries(
        Object.entries(row.variables).filter(
          ([given]) => Object.hasOwn(variables, given) || Object.hasOwn(parameters, given),
        ),
      ),
    stepIn(step) {
      const asked = step.credential ?? providerOf(step)
      const instead = asked !== undefined && Object.hasOwn(row.credentials, asked) ? row.credentials[asked] : undefined
      return instead === undefined ? step : { ...step, credential: instead }
    },
  }
}

// A step that names no credential means the tenant's only one of its processor's provider, if that has just one.
function providerOf(step: PlannedStep): string | undefined {
  const providers = catalog.find(({ type }) => type === step.ps_type)?.credentialProviders ?? []
  return providers.length === 1 ? providers[0] : undefined
}
