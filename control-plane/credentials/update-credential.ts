import { and, eq, sql } from 'drizzle-orm'
import { credential, credentialVersion } from '../../schema/tables/index.ts'
import { audit } from '../../shared/audit.ts'
import type { Tx } from '../../shared/db/db.ts'
import { AppError } from '../../shared/errors.ts'
import type { SecretBox } from '../../shared/secrets/secret-box.ts'
import { type Context, inTenant } from '../context.ts'
import { checkedSecret } from './check-secret.ts'
import { insertCredential, type NewCredential, shownColumns } from './create-credential.ts'
import type { CredentialRow } from './graphql.ts'

/**
 * Gives a credential a new value under the next version, sealed anew; the provider stays. Steps that start from now on
 * open the new one, also when the old one waited for its test or failed it. Throws NOT_FOUND, BAD_INPUT, CREDENTIAL_INVALID, and CONFLICT when `expectedVersion` is given and
 * is not the current one.
 */
export function updateCredential(
  context: Context,
  given: { name: string; secret?: unknown; expectedVersion?: number | null | undefined },
): Promise<CredentialRow> {
  return inTenant(context, async (tx, { tenantId, actor }) => {
    const found = await lockCredential(tx, tenantId, given.name)
    if (!found) throw missingCredential()
    const expected = given.expectedVersion ?? found.version
    if (expected !== found.version)
      throw new AppError('CONFLICT', `This credential is at version ${found.version}, not ${expected}.`, {
        place: { path: 'expectedVersion' },
        figures: { version: { expected, current: found.version } },
      })
    const { provider } = found
    const secret = checkedSecret(provider, given.secret)
    const { requestId } = context
    return replaceValue(tx, context.ports.secrets, found, {
      tenantId,
      name: given.name,
      provider,
      secret,
      actor,
      requestId,
    })
  })
}

/** Gives a credential a new value under the next version, or stores it when there is none of that name. */
export async function putCredential(tx: Tx, secrets: SecretBox, given: NewCredential): Promise<void> {
  const found = await lockCredential(tx, given.tenantId, given.name)
  if (found) await replaceValue(tx, secrets, found, given)
  else await insertCredential(tx, secrets, given)
}

/** The tenant's credential of this name, held until the transaction ends. */
export async function lockCredential(tx: Tx, tenantId: string, name: string): Promise<CredentialRow | undefined> {
  const [found] = await tx
    .select(shownColumns)
    .from(credential)
    .where(and(eq(credential.tenantId, tenantId), eq(credential.name, name)))
    .for('update')
  return found
}

/** What is answered for a name that the tenant has no credential of. */
export const missingCredential = (): AppError =>
  new AppError('NOT_FOUND', 'There is no credential of this name.', {
    hint: 'See the query credentials for what there is.',
    place: { path: 'name' },
  })

async function replaceValue(
  tx: Tx,
  secrets: SecretBox,
  found: CredentialRow,
  given: NewCredential,
): Promise<CredentialRow> {
  const { tenantId, id, name } = found
  const { provider, actor } = given
  const version = found.version + 1
  const sealed = await secrets.seal(tx, { tenantId, credentialId: id, version }, given.secret)
  const [row] = await tx
    .update(credential)
    .set({ provider, version, sealed, updatedAt: sql`now()`, status: 'active', problem: null, checkRun: null })
    .where(and(eq(credential.tenantId, tenantId), eq(credential.id, id)))
    .returning(shownColumns)
  if (!row) throw new Error('a locked credential is not there')
  await tx.insert(credentialVersion).values({ tenantId, credentialId: id, version, provider, createdBy: actor })
  await audit(tx, {
    tenantId,
    actor,
    action: 'credential.replaced',
    target: id,
    requestId: given.requestId,
    details: { name, provider, version },
  })
  return row
}
