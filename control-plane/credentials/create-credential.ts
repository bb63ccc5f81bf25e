import { and, eq, sql } from 'drizzle-orm'
import { z } from 'zod'
import { credential } from '../../schema/tables/index.ts'
import { audit } from '../../shared/audit.ts'
import { catalog } from '../../shared/config/catalog.ts'
import type { Tx } from '../../shared/db/db.ts'
import { AppError } from '../../shared/errors.ts'
import { newId } from '../../shared/ids.ts'
import type { SecretBox } from '../../shared/secrets/secret-box.ts'
import { type Context, inTenant } from '../context.ts'
import type { CredentialRow } from './graphql.ts'

const charsMax = 65_536
const inputShape = z.object({
  name: z.string().regex(/^[a-z][a-z0-9_-]{0,62}$/),
  provider: z.string(),
  secret: z.record(z.string(), z.json()).refine((secret) => JSON.stringify(secret).length <= charsMax),
})

/**
 * Seals a credential with the tenant's data key and stores it. Throws BAD_INPUT or CREDENTIAL_INVALID, which name fields
 * and never values, and ALREADY_EXISTS for a name that is taken.
 */
export function createCredential(
  context: Context,
  given: { name: string; provider: string; secret?: unknown },
): Promise<CredentialRow> {
  const input = checked(given)
  return inTenant(context, (tx, { tenantId, actor }) =>
    insertCredential(tx, context.ports.secrets, { ...input, tenantId, actor, requestId: context.requestId }),
  )
}

/** What is stored, for whom and by whom. */
export type NewCredential = {
  tenantId: string
  name: string
  provider: string
  secret: Record<string, unknown>
  actor: string
  requestId: string
}

/** Writes a credential and its audit row in the caller's transaction. Throws ALREADY_EXISTS. */
export async function insertCredential(tx: Tx, secrets: SecretBox, given: NewCredential): Promise<CredentialRow> {
  const { tenantId, name, provider, actor } = given
  const id = newId('credential')
  const sealed = await secrets.seal(tx, { tenantId, credentialId: id, version: 1 }, given.secret)
  const [row] = await tx
    .insert(credential)
    .values({ tenantId, id, name, provider, version: 1, sealed, createdBy: actor })
    .onConflictDoNothing()
    .returning(shownColumns)
  if (!row) throw new AppError('ALREADY_EXISTS', `A credential named ${name} exists.`, { place: { path: 'name' } })
  await audit(tx, {
    tenantId,
    actor,
    action: 'credential.created',
    target: id,
    requestId: given.requestId,
    details: { name, provider },
  })
  return row
}

/** Gives a credential a new value under the next version, or stores it when there is none of that name. */
export async function putCredential(tx: Tx, secrets: SecretBox, given: NewCredential): Promise<void> {
  const { tenantId, name, provider, actor } = given
  const isNamed = and(eq(credential.tenantId, tenantId), eq(credential.name, name))
  const [found] = await tx.select(shownColumns).from(credential).where(isNamed).for('update')
  if (!found) return void (await insertCredential(tx, secrets, given))
  const version = found.version + 1
  const sealed = await secrets.seal(tx, { tenantId, credentialId: found.id, version }, given.secret)
  await tx
    .update(credential)
    .set({ provider, version, sealed, updatedAt: sql`now()` })
    .where(isNamed)
  await audit(tx, {
    tenantId,
    actor,
    action: 'credential.replaced',
    target: found.id,
    requestId: given.requestId,
    details: { name, provider, version },
  })
}

/** Everything of a credential but its value. */
export const shownColumns = {
  tenantId: credential.tenantId,
  id: credential.id,
  name: credential.name,
  provider: credential.provider,
  version: credential.version,
  createdBy: credential.createdBy,
  createdAt: credential.createdAt,
  updatedAt: credential.updatedAt,
}

function checked(given: { name: string; provider: string; secret?: unknown }): z.output<typeof inputShape> {
  const parsed = inputShape.safeParse(given)
  if (!parsed.success) {
    const field = String(parsed.error.issues[0]?.path[0] ?? 'secret')
    throw new AppError('BAD_INPUT', faults[field] ?? 'The credential is not usable.', { place: { path: field } })
  }
  const providers = [...new Set(catalog.flatMap((entry) => entry.credentialProviders))].sort()
  if (!providers.includes(parsed.data.provider))
    throw new AppError('CREDENTIAL_INVALID', `There is no such provider. Known: ${providers.join(', ')}.`, {
      place: { path: 'provider' },
    })
  return parsed.data
}

const faults: Record<string, string> = {
  name: 'name must be lower case letters, digits, _ and -, begin with a letter and have at most 63 characters.',
  provider: 'provider must be text.',
  secret: `secret must be a JSON object of at most ${charsMax} characters.`,
}
