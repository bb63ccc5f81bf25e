import { sql } from 'drizzle-orm'
import type { QueueState, QueueType } from '../../schema/states.ts'
import { type Db, rowsOf, textArray, type Tx, withLedger } from '../db/db.ts'
import type { WakeTarget } from '../waking/waker.ts'

/** How a queue stands: `draining` when nothing new is taken and something still runs, `stopped` when nothing runs. */
export type QueueStanding = {
  tenantId: string
  queue: QueueType
  state: QueueState
  running: number
  maxRunning: number
  weight: number
  pausedBy: string | null
  pausedAt: Date | null
  /** Steps that are ready, those that wait for their next try among them. */
  ready: number
  /** Since when the one that could start for longest could. */
  oldestAt: Date | null
  waitingSeconds: number | null
  /** Live workers that take steps of it, and when one of them was last seen. */
  workers: number
  seenAt: Date | null
}

/**
 * Queues of one tenant, or with null of all that have not left, in the order of tenant and queue, after a place in it. The
 * transaction is bound to that tenant or to the platform.
 */
export async function queueStandings(
  tx: Tx,
  of: { tenantId: string | null; limit: number; after?: { tenantId: string; queue: string } | undefined },
): Promise<QueueStanding[]> {
  const rows = await rowsOf<StandingRow>(
    tx,
    sql`select * from app.queue_status(${of.tenantId}, ${of.after?.tenantId ?? ''}, ${of.after?.queue ?? ''}, ${of.limit})`,
  )
  return rows.map((row) => ({
    tenantId: row.o_tenant,
    queue: row.o_queue,
    state: row.o_state,
    running: row.o_running,
    maxRunning: row.o_max_running,
    weight: row.o_weight,
    pausedBy: row.o_paused_by,
    pausedAt: moment(row.o_paused_ms),
    ready: row.o_ready,
    oldestAt: moment(row.o_oldest_ms),
    waitingSeconds: row.o_waiting_s,
    workers: row.o_workers,
    seenAt: moment(row.o_seen_ms),
  }))
}

/** A failure of a step, as the tenant may see it. */
export type QueueFailure = {
  tenantId: string
  queue: QueueType
  runId: string
  stepKey: string
  code: string
  message: string
  willRetry: boolean
  at: Date
}

/**
 * The last `limit` failures in each of these queues, newest first. For the tenants of `note` that are not the
 * transaction's own, their logs say that `actor` looked.
 */
export async function queueFailures(
  tx: Tx,
  of: {
    queues: readonly { tenantId: string; queue: string }[]
    limit: number
    note: readonly string[]
    actor: string
    requestId: string
  },
): Promise<QueueFailure[]> {
  const tenants = of.queues.map(({ tenantId }) => tenantId)
  const queues = of.queues.map(({ queue }) => queue)
  const rows = await rowsOf<FailureRow>(
    tx,
    sql`select * from app.queue_errors(${textArray(tenants)}, ${textArray(queues)}, ${of.limit}, ${textArray(of.note)},
          ${of.actor}, ${of.requestId})`,
  )
  return rows.map((row) => ({
    tenantId: row.o_tenant,
    queue: row.o_queue,
    runId: row.o_run,
    stepKey: row.o_step,
    code: row.o_code,
    message: row.o_message,
    willRetry: row.o_retries,
    at: new Date(row.o_at_ms),
  }))
}

/** The whole fleet in figures. */
export type FleetStanding = {
  desired: 'running' | 'stopped'
  pausedBy: string | null
  pausedMs: number | null
  workers: number
  capacity: number
  running: number
  ready: number
  tenantsWaiting: number
}

/** Reads them; the transaction is bound to the platform. */
export const fleetStanding = (tx: Tx): Promise<FleetStanding> => single(tx, sql`select app.fleet_status() as value`)

/** What is asked of queues. */
export type WorkerAction = 'start' | 'stop' | 'restart'

/** What the switch over all queues answers: `held` are tenants of which the platform stopped queues by themselves. */
export type FleetControl = { changed: boolean; held: string[]; wake: WakeTarget[] }

/** Turns the switch over all queues, with its audit row; the transaction is bound to the platform. */
export function controlFleet(
  tx: Tx,
  input: { action: WorkerAction; force: boolean; actor: string; requestId: string },
): Promise<FleetControl> {
  const { action, force, actor, requestId } = input
  return single(tx, sql`select app.control_fleet(${action}, ${force}, ${actor}, ${requestId}) as value`)
}

/** What a worker says of itself; `tenants` null when it serves all. */
export type SeenWorker = {
  id: string
  host: string
  pid: number
  version: string
  queues: readonly QueueType[]
  tenants: readonly string[] | null
  capacity: number
  running: number
  draining: boolean
  /** Where it takes reads, and what names its folder, if it is not the only worker. Default: it takes none. */
  reader?: { url: string; folder: string | undefined } | undefined
}

/** Says that a worker is here; for status views. Rows of workers that went without a word are removed after a day. */
export async function seeWorker(db: Db, { reader, ...worker }: SeenWorker): Promise<void> {
  await withLedger(db, 'worker', async (tx) => {
    await tx.execute(sql`select app.see_worker(${JSON.stringify(worker)}::jsonb)`)
    if (reader) await tx.execute(sql`select app.offer_reader(${worker.id}, ${reader.url}, ${reader.folder ?? null})`)
  })
}

/** A worker that has stopped is here no more. */
export async function leaveWorker(db: Db, id: string): Promise<void> {
  await withLedger(db, 'worker', (tx) => tx.execute(sql`select app.leave_worker(${id})`))
}

type StandingRow = {
  o_tenant: string
  o_queue: QueueType
  o_state: QueueState
  o_running: number
  o_max_running: number
  o_weight: number
  o_paused_by: string | null
  o_paused_ms: number | null
  o_ready: number
  o_oldest_ms: number | null
  o_waiting_s: number | null
  o_workers: number
  o_seen_ms: number | null
}

type FailureRow = {
  o_tenant: string
  o_queue: QueueType
  o_run: string
  o_step: string
  o_code: string
  o_message: string
  o_retries: boolean
  o_at_ms: number
}

const moment = (ms: number | null): Date | null => (ms === null ? null : new Date(ms))

async function single<T>(tx: Tx, statement: ReturnType<typeof sql>): Promise<T> {
  const [row] = await rowsOf<{ value: T }>(tx, statement)
  if (!row) throw new Error('a function of the fleet answered no row')
  return row.value
}
