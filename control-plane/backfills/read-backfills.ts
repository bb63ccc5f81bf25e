import { and, asc, desc, eq, gt, inArray, lt, sql } from 'drizzle-orm'
import { backfill, backfillSlot } from '../../schema/tables/index.ts'
import { AppError } from '../../shared/errors.ts'
import type { BackfillRow } from '../../shared/schedules/run-backfill.ts'
import { authOf, type Context, readInTenant, rowsInTenant } from '../context.ts'
import { loaderOf } from '../graphql/batch.ts'
import { type Page, type PageArgs, readPage } from '../graphql/page.ts'

/** A slot of a backfill. */
export type SlotRow = typeof backfillSlot.$inferSelect
/** How far a backfill is: its slots by what became of them, and of their runs. */
export type Progress = {
  pending: number
  active: number
  succeeded: number
  failed: number
  refused: number
  cancelled: number
}

/** The backfill of this id. Throws NOT_FOUND when there is none, and alike when it is another tenant's. */
export async function readBackfill(context: Context, id: string): Promise<BackfillRow> {
  const { tenantId } = authOf(context)
  const [row] = await readInTenant(context, (db) =>
    db
      .select()
      .from(backfill)
      .where(and(eq(backfill.tenantId, tenantId), eq(backfill.id, id))),
  )
  if (!row) throw noSuchBackfill()
  return row
}

/** A backfill that is missing, or another tenant's. */
export const noSuchBackfill = (): AppError =>
  new AppError('NOT_FOUND', 'There is no such backfill.', { place: { path: 'id' } })

/** Backfills of the tenant, newest first. */
export function listBackfills(context: Context, args: PageArgs): Promise<Page<BackfillRow>> {
  const { tenantId } = authOf(context)
  return readPage(context, args, {
    list: ['backfills', tenantId],
    position: (row) => [row.id, ''],
    read: (limit, after) =>
      readInTenant(context, (db) =>
        db
          .select()
          .from(backfill)
          .where(and(eq(backfill.tenantId, tenantId), after ? lt(backfill.id, after[0]) : undefined))
          .orderBy(desc(backfill.id))
          .limit(limit),
      ),
  })
}

/** Slots of a backfill, oldest first. */
export function listSlots(context: Context, backfillId: string, args: PageArgs): Promise<Page<SlotRow>> {
  const { tenantId } = authOf(context)
  return readPage(context, args, {
    list: ['slots', tenantId, backfillId],
    position: (row) => [row.slotAt.toISOString(), ''],
    read: (limit, after) =>
      readInTenant(context, (db) =>
        db
          .select()
          .from(backfillSlot)
          .where(
            and(
              eq(backfillSlot.tenantId, tenantId),
              eq(backfillSlot.backfillId, backfillId),
              after ? gt(backfillSlot.slotAt, sql`${after[0]}::timestamptz`) : undefined,
            ),
          )
          .orderBy(asc(backfillSlot.slotAt))
          .limit(limit),
      ),
  })
}

/** How far a backfill is; those of one answer are counted together. */
export function progressOf(context: Context, id: string): Promise<Progress> {
  const { tenantId } = authOf(context)
  const read = async (ids: string[]): Promise<Map<string, Progress>> => {
    const rows = await rowsInTenant<{ id: string; state: keyof Progress; n: number }>(
      context,
      sql`select s.backfill_id as id, count(*)::int as n,
            case when s.state <> 'started' then s.state when r.state = 'succeeded' then 'succeeded'
              when r.state in ('queued', 'running', 'cancelling') then 'active' else 'failed' end as state
          from app.backfill_slot s left join app.pipeline_run r on r.tenant_id = s.tenant_id and r.run_id = s.run_id
          where s.tenant_id = ${tenantId} and ${inArray(sql`s.backfill_id`, ids)} group by 1, 3`,
    )
    const progress = new Map(ids.map((each) => [each, nothing()]))
    for (const row of rows) Object.assign(progress.get(row.id) ?? {}, { [row.state]: row.n })
    return progress
  }
  return loaderOf(context, 'progress of backfills', read, nothing)(id)
}

const nothing = (): Progress => ({ pending: 0, active: 0, succeeded: 0, failed: 0, refused: 0, cancelled: 0 })
