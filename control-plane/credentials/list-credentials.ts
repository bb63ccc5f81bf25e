import { and, asc, eq, gt } from 'drizzle-orm'
import { credential } from '../../schema/tables/index.ts'
import { authOf, type Context, readInTenant } from '../context.ts'
import { type Page, type PageArgs, readPage } from '../graphql/page.ts'
import { shownColumns } from './create-credential.ts'
import type { CredentialRow } from './graphql.ts'

/** Credentials of the key's tenant; the query does not even read the sealed values. */
export function listCredentials(context: Context, args: PageArgs): Promise<Page<CredentialRow>> {
  const { tenantId } = authOf(context)
  return readPage(context, args, {
    list: ['credentials', tenantId],
    position: (row) => [row.id, row.id],
    read: (limit, after) =>
      readInTenant(context, (db) =>
        db
          .select(shownColumns)
          .from(credential)
          .where(and(eq(credential.tenantId, tenantId), after ? gt(credential.id, after[1]) : undefined))
          .orderBy(asc(credential.id))
          .limit(limit),
      ),
  })
}
