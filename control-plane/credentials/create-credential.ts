import { credential, credentialVersion } from '../../schema/tables/index.ts'
import { audit } from '../../shared/audit.ts'
import type { Tx } from '../../shared/db/db.ts'
import { AppError } from '../../shared/errors.ts'
import { newId } from '../../shared/ids.ts'
import type { SecretBox } from '../../shared/secrets/secret-box.ts'
import { type Context, inTenant } from '../context.ts'
import { checkedName, checkedSecret } from './check-secret.ts'
import type { CredentialRow } from './graphql.ts'

/**
 * Seals a credential with the tenant's data key and stores it. Throws BAD_INPUT or CREDENTIAL_INVALID, which name fields
 * and never values, and ALREADY_EXISTS for a name that is taken.
 */
export function createCredential(
  context: Context,
  given: { name: string; provider: string; secret?: unknown },
): Promise<CredentialRow> {
  const input = { ...checkedName(given), secret: checkedSecret(given.provider, given.secret) }
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
  await tx.insert(credentialVersion).values({ tenantId, credentialId: id, version: 1, provider, createdBy: actor })
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
  status: credential.status,
  problem: credential.problem,
  checkRun: credential.checkRun,
  idempotencyKey: credential.idempotencyKey,
}
