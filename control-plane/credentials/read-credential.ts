import { and, desc, eq, getTableColumns, inArray, lte, sql } from 'drizzle-orm'
import { credential, credentialVersion } from '../../schema/tables/index.ts'
import { type Context, inTenant, readInTenant } from '../context.ts'
import { loaderOf } from '../graphql/batch.ts'
import { shownColumns } from './create-credential.ts'
import type { CredentialRow } from './graphql.ts'

// Who replaces a value daily sees half a year; the audit log has the rest.
const versionsMax = 200

/** The tenant's credential of this name, without its value; undefined when there is none. */
export async function readCredential(context: Context, name: string): Promise<CredentialRow | undefined> {
  const [row] = await readInTenant(context, (db, { tenantId }) =>
    db
      .select(shownColumns)
      .from(credential)
      .where(and(eq(credential.tenantId, tenantId), eq(credential.name, name))),
  )
  return row
}

/** The newest versions of a credential, at most 200, newest first; those of all credentials of an answer are read together. */
export function readVersions(
  context: Context,
  credentialId: string,
): Promise<(typeof credentialVersion.$inferSelect)[]> {
  const read = async (ids: string[]) => {
    const rows = await inTenant(context, (tx, { tenantId }) => {
      const place = sql<number>`row_number() over (partition by ${credentialVersion.credentialId} order by ${credentialVersion.version} desc)`
      const ranked = tx
        .select({ ...getTableColumns(credentialVersion), place: place.as('place') })
        .from(credentialVersion)
        .where(and(eq(credentialVersion.tenantId, tenantId), inArray(credentialVersion.credentialId, ids)))
        .as('ranked')
      return tx.select().from(ranked).where(lte(ranked.place, versionsMax)).orderBy(desc(ranked.version))
    })
    return Map.groupBy(rows, (row) => row.credentialId)
  }
  return loaderOf(context, 'versions of credentials', read, () => [])(credentialId)
}
