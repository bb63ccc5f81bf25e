import { and, eq } from 'drizzle-orm'
import { credential } from '../../schema/tables/index.ts'
import { audit } from '../../shared/audit.ts'
import { type Context, inTenant } from '../context.ts'
import { lockCredential, missingCredential } from './update-credential.ts'
import type { CredentialRow } from './graphql.ts'

/**
 * Deletes a credential with its sealed value and its history; the audit log keeps that it was there. Steps that name it
 * fail with CREDENTIAL_MISSING from now on. Answers what was deleted. Throws NOT_FOUND.
 */
export function deleteCredential(context: Context, name: string): Promise<CredentialRow> {
  return inTenant(context, async (tx, { tenantId, actor }) => {
    const found = await lockCredential(tx, tenantId, name)
    if (!found) throw missingCredential()
    await tx.delete(credential).where(and(eq(credential.tenantId, tenantId), eq(credential.id, found.id)))
    await audit(tx, {
      tenantId,
      actor,
      action: 'credential.deleted',
      target: found.id,
      requestId: context.requestId,
      details: { name, provider: found.provider, version: found.version },
    })
    return found
  })
}
