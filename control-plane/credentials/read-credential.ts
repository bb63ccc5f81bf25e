import { and, desc, eq } from 'drizzle-orm'
import { credential, credentialVersion } from '../../schema/tables/index.ts'
import { type Context, inTenant } from '../context.ts'
import { shownColumns } from './create-credential.ts'
import type { CredentialRow } from './graphql.ts'

// Who replaces a value daily sees half a year; the audit log has the rest.
const versionsMax = 200

/** The tenant's credential of this name, without its value; undefined when there is none. */
export async function readCredential(context: Context, name: string): Promise<CredentialRow | undefined> {
  const [row] = await inTenant(context, (tx, { tenantId }) =>
    tx
      .select(shownColumns)
      .from(credential)
      .where(and(eq(credential.tenantId, tenantId), eq(credential.name, name))),
  )
  return row
}

/** The newest versions of a credential, at most 200, newest first. */
export function readVersions(
  context: Context,
  credentialId: string,
): Promise<(typeof credentialVersion.$inferSelect)[]> {
  return inTenant(context, (tx, { tenantId }) =>
    tx
      .select()
      .from(credentialVersion)
      .where(and(eq(credentialVersion.tenantId, tenantId), eq(credentialVersion.credentialId, credentialId)))
      .orderBy(desc(credentialVersion.version))
      .limit(versionsMax),
  )
}
