import { sql } from 'drizzle-orm'
import { audit } from '../../shared/audit.ts'
import { type DataRow, httpReader, type ReadOperation } from '../../shared/datasets/reader.ts'
import { rowsOf } from '../../shared/db/db.ts'
import { AppError } from '../../shared/errors.ts'
import { type Context, inTenant } from '../context.ts'
import { type Page, type PageArgs, readPage } from '../graphql/page.ts'

/** What is read beside the page. */
export type Filter = { table?: string } & Record<string, unknown>

/**
 * A page of what a worker reads for the caller's tenant. The tenant's log says who read which table, and holds no key and
 * no value. Throws NOT_FOUND for a table that the tenant has not, and UNAVAILABLE when no worker answers.
 */
export function readData<Row extends DataRow>(
  context: Context,
  operation: ReadOperation,
  { first, after, ...given }: PageArgs & Filter,
): Promise<Page<Row>> {
  const { table = '', ...filter } = given
  return readPage<Row>(
    context,
    { first, after },
    {
      list: ['data', operation, table, filter],
      position: (row) => row.position,
      read: async (limit, after) => {
        const { tenantId, place } = await inTenant(context, async (tx, { tenantId, actor }) => {
          const { requestId } = context
          await audit(tx, {
            tenantId,
            actor,
            action: 'data.read',
            target: table,
            requestId,
            details: { what: operation },
          })
          const [found] = await rowsOf<{ o_worker: string; o_url: string }>(tx, sql`select * from app.reader_of()`)
          return { tenantId, place: found }
        })
        if (!place) throw new AppError('UNAVAILABLE', 'No worker can read tables now.')
        const read = { tenantId, operation, table, arguments: { ...filter, limit, after: after ?? null } }
        const at = { worker: place.o_worker, url: place.o_url }
        // Who knows the operation knows its rows.
        return (await httpReader(context.ports).read(at, read, context.signal)) as Row[]
      },
    },
  )
}
