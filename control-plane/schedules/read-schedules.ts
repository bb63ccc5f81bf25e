import { and, asc, desc, eq, gt, inArray, lt, or, sql } from 'drizzle-orm'
import { pipelineTrigger, runFollowUp, schedule, scheduleFire, seenFile } from '../../schema/tables/index.ts'
import { AppError } from '../../shared/errors.ts'
import { nextTimes } from '../../shared/schedules/cron.ts'
import type { ScheduleRow } from '../../shared/schedules/fire-schedule.ts'
import { authOf, type Context, readInTenant } from '../context.ts'
import { loaderOf } from '../graphql/batch.ts'
import { type Page, type PageArgs, readPage } from '../graphql/page.ts'

/** What became of a slot. */
export type FireRow = typeof scheduleFire.$inferSelect
/** A trigger of a pipeline's file. */
export type TriggerRow = typeof pipelineTrigger.$inferSelect
/** A file that a trigger saw. */
export type SeenFileRow = typeof seenFile.$inferSelect
/** A run that is followed. */
export type FollowUpRow = typeof runFollowUp.$inferSelect

/** The schedule of this id. Throws NOT_FOUND when there is none, and alike when it is another tenant's. */
export async function readSchedule(context: Context, id: string): Promise<ScheduleRow> {
  const { tenantId } = authOf(context)
  const [row] = await readInTenant(context, (db) =>
    db
      .select()
      .from(schedule)
      .where(and(eq(schedule.tenantId, tenantId), eq(schedule.id, id))),
  )
  if (!row) throw noSuchSchedule()
  return row
}

/** A schedule that is missing, or another tenant's. */
export const noSuchSchedule = (path = 'id'): AppError =>
  new AppError('NOT_FOUND', 'There is no such schedule.', { place: { path } })

/** Schedules of the tenant, by pipeline and name; those of one pipeline when it is named. */
export function listSchedules(
  context: Context,
  args: PageArgs,
  pipeline: string | null | undefined,
): Promise<Page<ScheduleRow>> {
  const { tenantId } = authOf(context)
  return readPage(context, args, {
    list: ['schedules', tenantId, pipeline ?? null],
    position: (row) => [row.pipeline, row.name],
    read: (limit, after) =>
      readInTenant(context, (db) =>
        db
          .select()
          .from(schedule)
          .where(
            and(
              eq(schedule.tenantId, tenantId),
              pipeline ? eq(schedule.pipeline, pipeline) : undefined,
              after
                ? or(gt(schedule.pipeline, after[0]), and(eq(schedule.pipeline, after[0]), gt(schedule.name, after[1])))
                : undefined,
            ),
          )
          .orderBy(asc(schedule.pipeline), asc(schedule.name))
          .limit(limit),
      ),
  })
}

/** Schedules of a pipeline by name; those of all pipelines of an answer are read together. */
export function schedulesOf(context: Context, pipeline: string): Promise<ScheduleRow[]> {
  const { tenantId } = authOf(context)
  const read = async (paths: string[]): Promise<Map<string, ScheduleRow[]>> => {
    const rows = await readInTenant(context, (db) =>
      db
        .select()
        .from(schedule)
        .where(and(eq(schedule.tenantId, tenantId), inArray(schedule.pipeline, paths)))
        .orderBy(asc(schedule.name)),
    )
    return Map.groupBy(rows, (row) => row.pipeline)
  }
  return loaderOf(context, 'schedules of pipelines', read, () => [])(pipeline)
}

/** What a pipeline's file says under `triggers`, now; those of all pipelines of an answer are read together. */
export function triggersOf(context: Context, pipeline: string): Promise<TriggerRow[]> {
  const { tenantId } = authOf(context)
  const read = async (paths: string[]): Promise<Map<string, TriggerRow[]>> => {
    const rows = await readInTenant(context, (db) =>
      db
        .select()
        .from(pipelineTrigger)
        .where(
          and(
            eq(pipelineTrigger.tenantId, tenantId),
            inArray(pipelineTrigger.pipeline, paths),
            eq(pipelineTrigger.enabled, true),
          ),
        )
        .orderBy(asc(pipelineTrigger.kind), asc(pipelineTrigger.target)),
    )
    return Map.groupBy(rows, (row) => row.pipeline)
  }
  return loaderOf(context, 'triggers of pipelines', read, () => [])(pipeline)
}

/** The files that a trigger saw last, newest first. */
export function recentFiles(context: Context, triggerId: string, first: number): Promise<SeenFileRow[]> {
  const { tenantId } = authOf(context)
  return readInTenant(context, (db) =>
    db
      .select()
      .from(seenFile)
      .where(and(eq(seenFile.tenantId, tenantId), eq(seenFile.triggerId, triggerId)))
      .orderBy(desc(seenFile.firstSeenAt), asc(seenFile.name))
      .limit(first),
  )
}

/** The runs that a trigger followed last, newest first. */
export function recentFollowUps(context: Context, triggerId: string, first: number): Promise<FollowUpRow[]> {
  const { tenantId } = authOf(context)
  return readInTenant(context, (db) =>
    db
      .select()
      .from(runFollowUp)
      .where(and(eq(runFollowUp.tenantId, tenantId), eq(runFollowUp.triggerId, triggerId)))
      .orderBy(desc(runFollowUp.createdAt))
      .limit(first),
  )
}

/** What became of the slots of a schedule, latest first. */
export function listFires(context: Context, scheduleId: string, args: PageArgs): Promise<Page<FireRow>> {
  const { tenantId } = authOf(context)
  return readPage(context, args, {
    list: ['fires', tenantId, scheduleId],
    position: (row) => [row.fireAt.toISOString(), ''],
    read: (limit, after) =>
      readInTenant(context, (db) =>
        db
          .select()
          .from(scheduleFire)
          .where(
            and(
              eq(scheduleFire.tenantId, tenantId),
              eq(scheduleFire.scheduleId, scheduleId),
              after ? lt(scheduleFire.fireAt, sql`${after[0]}::timestamptz`) : undefined,
            ),
          )
          .orderBy(desc(scheduleFire.fireAt))
          .limit(limit),
      ),
  })
}

/** When a schedule fires next, at most 50 times; never while it is paused. */
export function timesAhead(row: ScheduleRow, first: number): Date[] {
  if (first < 1 || first > 50) throw new AppError('BAD_INPUT', 'first must be 1 to 50.')
  if (!row.nextFireAt) return []
  return [row.nextFireAt, ...nextTimes(row, row.nextFireAt, first - 1)]
}
