import { sql } from 'drizzle-orm'
import { type LogLevel, logLevels, type RunState } from '../../schema/states.ts'
import { rowsOf, type Tx } from '../../shared/db/db.ts'
import { authOf, type Context, inTenant } from '../context.ts'
import { loaderOf } from '../graphql/batch.ts'
import { numberAfter, numberedPage, type Page, type PageArgs, pageSize } from '../graphql/page.ts'

/** Something that happened in a run. */
export type EventRow = {
  runId: string
  seq: number
  at: Date
  type: string
  stepKey: string | null
  data: Record<string, unknown> | null
}

/** Which events of a run: all, or its log lines; of one step if it is named, of one level or worse. */
export type EventFilter = {
  kind: 'events' | 'logs'
  stepKey?: string | null | undefined
  level?: LogLevel | null | undefined
}

/** A page of a run's events. Runs that ask for the same page, as all of a list do, are read in one statement. */
export async function listEvents(
  context: Context,
  runId: string,
  args: PageArgs,
  filter: EventFilter,
): Promise<Page<EventRow>> {
  const list = [filter.kind, runId, filter.stepKey ?? null, filter.level ?? null]
  const after = await numberAfter(context, args, list)
  const limit = pageSize(args) + 1
  const { tenantId } = authOf(context)
  const read = async (runIds: string[]) =>
    Map.groupBy(
      await inTenant(context, (tx) => readEvents(tx, { tenantId, runIds, after, limit, filter })),
      (row) => row.runId,
    )
  const name = `events ${JSON.stringify([filter.kind, filter.stepKey ?? null, filter.level ?? null, after, limit])}`
  const rows = await loaderOf<EventRow[]>(context, name, read, () => [])(runId)
  return numberedPage(context, args, list, rows, (row) => row.seq)
}

/** Events after a number, and whether the run has ended and how many events it has in all. */
export async function readAfter(
  tx: Tx,
  run: { tenantId: string; runId: string },
  after: number,
  limit: number,
): Promise<{ events: EventRow[]; state: RunState; eventSeq: number } | undefined> {
  // In one statement: streams do nothing else, and what it says of the run is of the same moment as the events.
  const rows = await rowsOf<{ state: RunState; event_seq: number } & (EventColumns | { seq: null })>(
    tx,
    sql`
      select r.state, r.event_seq::float8 as event_seq, e.*
      from app.pipeline_run r left join lateral (
        select run_id, seq::float8 as seq, (extract(epoch from at) * 1000)::float8 as at_ms, type, step_key, data
        from app.run_event where tenant_id = r.tenant_id and run_id = r.run_id and seq > ${after} order by seq limit ${limit}
      ) e on true
      where r.tenant_id = ${run.tenantId} and r.run_id = ${run.runId} order by e.seq`,
  )
  const [row] = rows
  if (!row) return undefined
  const events = rows.flatMap((one) => (one.seq === null ? [] : [eventOf(one)]))
  return { events, state: row.state, eventSeq: row.event_seq }
}

type Range = { tenantId: string; runIds: readonly string[]; after: number; limit: number; filter: EventFilter }

async function readEvents(tx: Tx, { tenantId, runIds, after, limit, filter }: Range): Promise<EventRow[]> {
  const { kind, stepKey, level } = filter
  const levels = logLevels.slice(logLevels.indexOf(level ?? 'info'))
  const rows = await rowsOf<EventColumns>(
    tx,
    // One index range per run, however many events it has.
    sql`
      select e.* from (values ${sql.join(
        runIds.map((id) => sql`(${id})`),
        sql`, `,
      )}) as r (run_id)
      cross join lateral (
        select run_id, seq::float8 as seq, (extract(epoch from at) * 1000)::float8 as at_ms, type, step_key, data
        from app.run_event
        where tenant_id = ${tenantId} and run_id = r.run_id and seq > ${after}
          ${kind === 'logs' ? sql`and type = 'step.log'` : sql``}
          ${
            levels.length === logLevels.length
              ? sql``
              : sql`and data ->> 'level' in (${sql.join(
                  levels.map((one) => sql`${one}`),
                  sql`, `,
                )})`
          }
          ${stepKey === null || stepKey === undefined ? sql`` : sql`and step_key = ${stepKey}`}
        order by seq limit ${limit}
      ) e order by e.run_id, e.seq`,
  )
  return rows.map(eventOf)
}

/** An event as a statement gives it: `seq` as float8, `at_ms` since 1970. */
export type EventColumns = {
  run_id: string
  seq: number
  at_ms: number
  type: string
  step_key: string | null
  data: Record<string, unknown> | null
}

/** The event of a row. */
export const eventOf = (row: EventColumns): EventRow => ({
  runId: row.run_id,
  seq: row.seq,
  at: new Date(row.at_ms),
  type: row.type,
  stepKey: row.step_key,
  data: row.data,
})
