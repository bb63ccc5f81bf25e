import { sql } from 'drizzle-orm'
import { rowsOf, type Tx } from '../../shared/db/db.ts'
import { AppError } from '../../shared/errors.ts'
import { authOf, type Context, inTenant } from '../context.ts'
import { eventTypes } from './event-message.ts'
import { type EventColumns, type EventRow, eventOf } from './read-events.ts'
import { type Batch, follow } from './shared-tail.ts'

/** An event of any run, and its place among all of the tenant. */
export type TenantEventRow = EventRow & { xid: bigint }

type Place = { xid: bigint; runId: string; seq: number }

const kindsMax = 50

/** The place of an event, for whoever resumes after it. */
export const cursorOf = ({ xid, runId, seq }: Place): string => `${xid}.${runId}.${seq}`

/**
 * Events of all runs of the caller's tenant after a place, each once, as they come: in the order of the transactions that
 * wrote them, those of one run in their own. `after` is the cursor of an event, `0` for all there are, `now` for those to
 * come; that of an interrupted stream goes before it. `kinds` are types of events or what they begin with, `run` or `step`. An event waits until no older transaction is
 * on its way, else that one's would slip in behind the reader. Throws as `watchRun` does, BAD_CURSOR and BAD_INPUT.
 */
export async function* watchTenant(
  context: Context,
  after: string,
  kinds: readonly string[] | null | undefined,
): AsyncGenerator<TenantEventRow> {
  const { tenantId } = authOf(context)
  const fits = kindFilter(kinds)
  const given = context.lastEventId || after
  const from = given === 'now' ? await inTenant(context, placeNow) : placeOfCursor(given)
  const events = follow<TenantEventRow, Place>(
    context,
    {
      name: `tenant ${tenantId}`,
      topic: { tenantId },
      read: (tx, seen, limit) => readFeed(tx, tenantId, seen, limit),
      placeOf: (event) => event,
      compare,
    },
    from,
  )
  for await (const event of events) if (fits(event.type)) yield event
}

async function readFeed(
  tx: Tx,
  tenantId: string,
  { xid, runId, seq }: Place,
  limit: number,
): Promise<Batch<TenantEventRow, Place>> {
  // In one statement, so that what is held and what is not are told apart at one moment.
  const rows = await rowsOf<EventColumns & { xid: string; is_held: boolean }>(
    tx,
    sql`
      select xid::text as xid, xid >= pg_snapshot_xmin(pg_current_snapshot()) as is_held,
        run_id, seq::float8 as seq, (extract(epoch from at) * 1000)::float8 as at_ms, type, step_key, data
      from app.run_event
      where tenant_id = ${tenantId} and (xid, run_id, seq) > (${xid.toString()}::text::xid8, ${runId}, ${seq}::bigint)
      order by app.run_event.xid, run_id, seq limit ${limit}`,
  )
  const shown = rows.filter(({ is_held }) => !is_held)
  return {
    events: shown.map((row) => ({ ...eventOf(row), xid: BigInt(row.xid) })),
    isHeld: shown.length < rows.length,
  }
}

// Before everything that no transaction has committed yet.
async function placeNow(tx: Tx): Promise<Place> {
  const [row] = await rowsOf<{ xid: string }>(tx, sql`select pg_snapshot_xmin(pg_current_snapshot())::text as xid`)
  return { xid: BigInt(row?.xid ?? 0), runId: '', seq: 0 }
}

function placeOfCursor(text: string): Place {
  if (text === '0') return { xid: 0n, runId: '', seq: 0 }
  const [, xid, runId, seq] = /^(\d{1,19})\.(run_[0-9a-f]{32})\.(\d{1,15})$/.exec(text) ?? []
  if (xid === undefined || runId === undefined || seq === undefined)
    throw new AppError('BAD_CURSOR', 'This cursor is of no event of this stream.')
  return { xid: BigInt(xid), runId, seq: Number(seq) }
}

function compare(a: Place, b: Place): number {
  if (a.xid !== b.xid) return a.xid < b.xid ? -1 : 1
  if (a.runId !== b.runId) return a.runId < b.runId ? -1 : 1
  return a.seq - b.seq
}

function kindFilter(kinds: readonly string[] | null | undefined): (type: string) => boolean {
  if (!kinds) return () => true
  if (kinds.length > kindsMax) throw new AppError('TOO_LARGE', `At most ${kindsMax} kinds at once.`)
  const wanted = new Set(kinds)
  for (const kind of wanted)
    if (!['run', 'step', ...eventTypes].includes(kind))
      throw new AppError('BAD_INPUT', `There are no events of the kind ${JSON.stringify(kind.slice(0, 60))}.`, {
        place: { path: 'kinds' },
        hint: `Use run, step, or one of ${eventTypes.join(', ')}.`,
      })
  return (type) => wanted.has(type) || wanted.has(type.split('.')[0] ?? '')
}
