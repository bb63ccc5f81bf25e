import { neon, neonConfig } from '@neondatabase/serverless'
import { drizzle } from 'drizzle-orm/neon-http'
import type { Db } from '../../shared/db/db.ts'
import { rowsOfList, scopeOf } from './question.ts'

/** What a peer on workerd is told. */
export type Variables = { DATABASE_URL: string; NEON_PROXY: string; TENANT_ID: string }

/** The rows over HTTP, as one transaction that sees one tenant. */
export function listOfEdge({ DATABASE_URL, NEON_PROXY, TENANT_ID }: Variables): () => ReturnType<typeof rowsOfList> {
  neonConfig.fetchEndpoint = `http://${NEON_PROXY}/sql`
  const db = drizzle({ client: neon(DATABASE_URL) })
  return async () => {
    // A batch takes Drizzle's queries as they are, which are promises as well.
    const rows = rowsOfList(db as unknown as Db, TENANT_ID) as unknown as ReturnType<typeof db.execute>
    const [, found] = await db.batch([db.execute(scopeOf(TENANT_ID)), rows])
    return found as unknown as Awaited<ReturnType<typeof rowsOfList>>
  }
}
