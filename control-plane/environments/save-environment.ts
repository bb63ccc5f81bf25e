import { and, count, eq, inArray } from 'drizzle-orm'
import { z } from 'zod'
import { namePattern } from '../../schema/config/variables.ts'
import { credential, tenantEnvironment } from '../../schema/tables/index.ts'
import { audit } from '../../shared/audit.ts'
import type { Tx } from '../../shared/db/db.ts'
import { AppError } from '../../shared/errors.ts'
import { type Context, inTenant } from '../context.ts'

/** An environment as the table has it. */
export type EnvironmentRow = typeof tenantEnvironment.$inferSelect

/** Environments of one tenant. */
export const environmentsMax = 20

const credentialName = z.string().regex(/^[a-z][a-z0-9_-]{0,62}$/)
const shape = z.object({
  name: z.string().regex(/^[a-z][a-z0-9_-]{0,31}$/),
  variables: z
    .record(z.string().regex(namePattern), z.union([z.string().max(10_000), z.number(), z.boolean(), z.null()]))
    .refine((given) => Object.keys(given).length <= 200)
    .nullish(),
  credentials: z
    .record(credentialName, credentialName)
    .refine((given) => Object.keys(given).length <= 100)
    .nullish(),
  expectedVersion: z.int().nullish(),
})

/** An environment to save: `variables` by name, and which credential stands for which name. */
export type NewEnvironment = {
  name: string
  variables?: unknown
  credentials?: unknown
  expectedVersion?: number | null | undefined
}

/**
 * Makes an environment of the key's tenant, or puts its variables and credentials (those given) in the place of what it
 * had. Runs that started before keep the values they took. Throws BAD_INPUT with the path (a name or value that does not
 * fit, a credential that the tenant has not), CONFLICT for another version, TOO_LARGE for more than 20.
 */
export function saveEnvironment(context: Context, given: NewEnvironment): Promise<EnvironmentRow> {
  const { name, variables, credentials, expectedVersion } = checked(given)
  return inTenant(context, async (tx, { tenantId, actor }) => {
    const [found] = await tx.select().from(tenantEnvironment).where(isNamed(tenantId, name)).for('update')
    const current = found?.version ?? 0
    if (expectedVersion !== null && expectedVersion !== undefined && expectedVersion !== current)
      throw new AppError('CONFLICT', `This environment is at version ${current}, not ${expectedVersion}.`, {
        place: { path: 'expectedVersion' },
        figures: { version: { expected: expectedVersion, current } },
      })
    if (credentials) await refuseMissing(tx, tenantId, credentials)
    if (!found) await refuseTooMany(tx, tenantId)
    const values = {
      variables: variables ?? found?.variables ?? {},
      credentials: credentials ?? found?.credentials ?? {},
      version: current + 1,
      updatedAt: context.ports.clock.now(),
    }
    const [row] = found
      ? await tx.update(tenantEnvironment).set(values).where(isNamed(tenantId, name)).returning()
      : await tx
          .insert(tenantEnvironment)
          .values({ tenantId, name, ...values })
          .onConflictDoNothing()
          .returning()
    if (!row) throw new AppError('CONFLICT', 'This environment has just been made by somebody else: save again.')
    await audit(tx, {
      tenantId,
      actor,
      action: 'environment.saved',
      target: name,
      requestId: context.requestId,
      details: { version: row.version, variables: Object.keys(row.variables), credentials: row.credentials },
    })
    return row
  })
}

/** Deletes an environment; runs that took its values keep them. Throws NOT_FOUND. */
export function deleteEnvironment(context: Context, name: string): Promise<string> {
  return inTenant(context, async (tx, { tenantId, actor }) => {
    const gone = await tx
      .delete(tenantEnvironment)
      .where(isNamed(tenantId, name))
      .returning({ name: tenantEnvironment.name })
    if (gone.length === 0)
      throw new AppError('NOT_FOUND', 'There is no environment of this name.', { place: { path: 'name' } })
    await audit(tx, { tenantId, actor, action: 'environment.deleted', target: name, requestId: context.requestId })
    return name
  })
}

const isNamed = (tenantId: string, name: string) =>
  and(eq(tenantEnvironment.tenantId, tenantId), eq(tenantEnvironment.name, name))

function checked(given: NewEnvironment): z.output<typeof shape> {
  const parsed = shape.safeParse(given)
  if (parsed.success) return parsed.data
  const path = parsed.error.issues[0]?.path.join('.') ?? 'name'
  throw new AppError('BAD_INPUT', `${path} does not fit.`, {
    hint: 'Names begin with a lower case letter; values of variables are text, numbers or true and false, and no secrets: those are credentials.',
    place: { path },
  })
}

async function refuseMissing(tx: Tx, tenantId: string, credentials: Record<string, string>): Promise<void> {
  const names = [...new Set(Object.values(credentials))]
  if (names.length === 0) return
  const rows = await tx
    .select({ name: credential.name })
    .from(credential)
    .where(and(eq(credential.tenantId, tenantId), inArray(credential.name, names)))
  const known = new Set(rows.map((row) => row.name))
  const missing = Object.entries(credentials).find(([, name]) => !known.has(name))
  if (missing)
    throw new AppError('BAD_INPUT', `There is no credential named ${missing[1]}.`, {
      place: { path: `credentials.${missing[0]}` },
    })
}

async function refuseTooMany(tx: Tx, tenantId: string): Promise<void> {
  const [row] = await tx.select({ n: count() }).from(tenantEnvironment).where(eq(tenantEnvironment.tenantId, tenantId))
  if ((row?.n ?? 0) >= environmentsMax)
    throw new AppError('TOO_LARGE', `A tenant has at most ${environmentsMax} environments.`)
}
