import { and, desc, eq, getTableColumns, sql } from 'drizzle-orm'
import { auditEvent } from '../../schema/tables/index.ts'
import { authOf, type Context } from '../context.ts'
import type { Position } from '../graphql/cursor.ts'
import { badCursor, type Page, type PageArgs, readPage } from '../graphql/page.ts'
import { lookInto } from './look-into.ts'

/** An entry; `exactAt` is its time to the microsecond, which a Date does not hold. */
export type AuditRow = typeof auditEvent.$inferSelect & { exactAt: string }

/** Which entries to list. */
export type AuditFilter = Partial<Record<'actor' | 'action' | 'target', string | null | undefined>>

/**
 * The audit log of a tenant, newest first; default: that of the key. Throws NOT_FOUND for another one, which only
 * `platform:audit` may read; that tenant's log says so.
 */
export function listAudit(
  context: Context,
  args: PageArgs,
  filter: AuditFilter,
  given?: string | null,
): Promise<Page<AuditRow>> {
  const tenantId = given ?? authOf(context).tenantId
  const { actor, action, target } = filter
  return readPage(context, args, {
    list: ['audit', tenantId, actor ?? null, action ?? null, target ?? null],
    position: (row) => [row.exactAt, row.id],
    read: (limit, after) =>
      lookInto(context, tenantId, { what: 'audit log', scopes: ['platform:audit'] }, (tx) =>
        tx
          .select({
            ...getTableColumns(auditEvent),
            exactAt: sql<string>`to_char(${auditEvent.at} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`,
          })
          .from(auditEvent)
          .where(
            and(
              eq(auditEvent.tenantId, tenantId),
              actor ? eq(auditEvent.actor, actor) : undefined,
              action ? eq(auditEvent.action, action) : undefined,
              target ? eq(auditEvent.target, target) : undefined,
              after ? older(after) : undefined,
            ),
          )
          .orderBy(desc(auditEvent.at), desc(auditEvent.id))
          .limit(limit),
      ),
  })
}

function older([at, id]: Position) {
  const isMoment = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}Z$/.test(at) && !Number.isNaN(Date.parse(at))
  if (!isMoment) throw badCursor()
  return sql`(${auditEvent.at}, ${auditEvent.id}) < (${at}::timestamptz, ${id})`
}
