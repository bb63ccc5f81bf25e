import { and, eq, inArray, sql } from 'drizzle-orm'
import { type FireState, triggerLimits } from '../../schema/config/triggers.ts'
import { pipelineRun, schedule, scheduleFire } from '../../schema/tables/index.ts'
import { audit } from '../audit.ts'
import { rowsOf, type Tx } from '../db/db.ts'
import { type Tried, tryStart } from '../runs/try-start.ts'
import { dayIn, nextTimes } from './cron.ts'
import { dueSlots } from './due-slots.ts'

/** A schedule's row. */
export type ScheduleRow = typeof schedule.$inferSelect
type Fire = typeof scheduleFire.$inferSelect

/** Who pauses what cannot start any more. */
export const scheduler = 'system:schedules'

/**
 * Fires what is due of one schedule in the transaction of its tenant: the slot that waited, and those whose time has come
 * by the clock of the database. Each slot's row, its run and the next time are one transaction. Answers the runs that it
 * started; none when somebody else fires it at this moment.
 */
export async function fireSchedule(tx: Tx, tenantId: string, id: string): Promise<string[]> {
  const [row] = await tx
    .select()
    .from(schedule)
    .where(and(eq(schedule.tenantId, tenantId), eq(schedule.id, id)))
    .for('update', { skipLocked: true })
  if (!row || row.pausedAt) return []
  const now = await databaseTime(tx)
  const outcome = { runs: [] as string[], failures: row.failures, problem: row.problem, waiting: row.waitingFireAt }
  const fire = async (fireAt: Date, isWaiting: boolean): Promise<void> => {
    const fired = await fireSlot(tx, row, { fireAt, isWaiting, hasWaiting: outcome.waiting !== null })
    if (!fired) return
    if (fired.state === 'waiting') outcome.waiting = fireAt
    if (fired.state === 'started') {
      if (fired.runId) outcome.runs.push(fired.runId)
      Object.assign(outcome, { failures: 0, problem: null })
    }
    if (fired.state === 'refused') {
      outcome.failures += fired.isFailure ? 1 : 0
      outcome.problem = fired.problem
    }
  }
  if (row.waitingFireAt && !(await isBusy(tx, row))) {
    await fire(row.waitingFireAt, true)
    outcome.waiting = null
  }
  let next = row.nextFireAt
  if (next && next <= now) {
    const slots = dueSlots(row, next, now)
    if (slots.missed) await noteMissed(tx, row, slots.missed)
    for (const slot of slots.fire) await fire(slot, false)
    next = slots.next
  }
  const isBroken = outcome.failures >= triggerLimits.failuresMax
  await tx
    .update(schedule)
    .set({
      nextFireAt: isBroken ? null : next,
      waitingFireAt: outcome.waiting,
      failures: outcome.failures,
      problem: outcome.problem,
      ...(isBroken ? { pausedBy: scheduler, pausedAt: sql`now()` } : {}),
    })
    .where(and(eq(schedule.tenantId, tenantId), eq(schedule.id, id), eq(schedule.version, row.version)))
  if (isBroken)
    await audit(tx, {
      tenantId,
      actor: scheduler,
      action: 'schedule.paused',
      target: id,
      details: { failures: outcome.failures, code: outcome.problem?.code ?? '' },
    })
  return outcome.runs
}

/** Starts a run of a schedule now, because somebody asks for it, whatever its overlap policy says; also while it is paused. */
export async function fireNow(
  tx: Tx,
  row: ScheduleRow,
  by: { actor: string; requestId: string },
): Promise<{ fire: Fire; started: Tried }> {
  const fireAt = await databaseTime(tx)
  const started = await start(tx, row, fireAt, by)
  const [fire] = await tx
    .insert(scheduleFire)
    .values({ ...keyOf(row, fireAt), source: 'manual', ...stateOf(started) })
    .returning()
  if (!fire) throw new Error('an insert answered no row')
  return { fire, started }
}

/** The moment as the database has it. Its clock alone decides what is due. */
export async function databaseTime(tx: Tx): Promise<Date> {
  const [row] = await rowsOf<{ ms: number }>(
    tx,
    sql`select floor(extract(epoch from clock_timestamp()) * 1000)::float8 as ms`,
  )
  return new Date(row?.ms ?? Number.NaN)
}

/** When a schedule that is not paused fires next. */
export const firstTime = (times: { cron: string; timezone: string }, now: Date): Date | null =>
  nextTimes(times, now, 1)[0] ?? null

type Fired = { state: FireState; runId: string | null; problem: Fire['problem']; isFailure: boolean }

// Undefined when the slot has been decided before.
async function fireSlot(
  tx: Tx,
  row: ScheduleRow,
  { fireAt, isWaiting, hasWaiting }: { fireAt: Date; isWaiting: boolean; hasWaiting: boolean },
): Promise<Fired | undefined> {
  const key = keyOf(row, fireAt)
  if (!isWaiting) {
    const [inserted] = await tx
      .insert(scheduleFire)
      .values({ ...key, source: 'schedule', state: 'started' })
      .onConflictDoNothing()
      .returning({ fireAt: scheduleFire.fireAt })
    if (!inserted) return undefined
  }
  const overlapped =
    !isWaiting && row.overlap !== 'allow' && (hasWaiting || (await isBusy(tx, row)))
      ? overlap(row, hasWaiting)
      : undefined
  const started = overlapped
    ? undefined
    : await start(tx, row, fireAt, { actor: `schedule:${row.id}`, requestId: null })
  const state = overlapped ?? (started ? stateOf(started) : { state: 'refused' as const, runId: null, problem: null })
  await tx
    .update(scheduleFire)
    .set({ ...state, at: sql`clock_timestamp()` })
    .where(
      and(
        eq(scheduleFire.tenantId, key.tenantId),
        eq(scheduleFire.scheduleId, key.scheduleId),
        eq(scheduleFire.fireAt, fireAt),
      ),
    )
  return { ...state, isFailure: started !== undefined && 'retry' in started && started.retry === 'never' }
}

function overlap({ overlap: policy }: ScheduleRow, hasWaiting: boolean): Omit<Fired, 'isFailure'> {
  if (policy === 'queue' && !hasWaiting) return { state: 'waiting', runId: null, problem: null }
  const message = hasWaiting ? 'A time before this one waits already.' : 'The run before it has not ended.'
  return { state: 'skipped', runId: null, problem: { code: 'CONFLICT', message } }
}

function stateOf(started: Tried): Omit<Fired, 'isFailure'> {
  if ('runId' in started) return { state: 'started', runId: started.runId, problem: null }
  return { state: started.retry === 'busy' ? 'skipped' : 'refused', runId: null, problem: started.problem }
}

function start(
  tx: Tx,
  row: ScheduleRow,
  fireAt: Date,
  by: { actor: string; requestId: string | null },
): Promise<Tried> {
  const { tenantId, id, pipeline: path, parameters, environment, timezone } = row
  return tryStart(tx, {
    ...by,
    tenantId,
    path,
    trigger: 'schedule',
    parameters: { date: dayIn(timezone, fireAt), ...parameters },
    idempotencyKey: `sch:${id}:${fireAt.toISOString()}`,
    inputHash: null,
    environment,
  })
}

// Runs that somebody asked for by hand count as well.
async function isBusy(tx: Tx, { tenantId, id }: ScheduleRow): Promise<boolean> {
  const [run] = await tx
    .select({ runId: pipelineRun.runId })
    .from(pipelineRun)
    .innerJoin(
      scheduleFire,
      and(eq(scheduleFire.tenantId, pipelineRun.tenantId), eq(scheduleFire.runId, pipelineRun.runId)),
    )
    .where(
      and(
        eq(pipelineRun.tenantId, tenantId),
        eq(scheduleFire.scheduleId, id),
        inArray(pipelineRun.state, ['queued', 'running', 'cancelling']),
      ),
    )
    .limit(1)
  return run !== undefined
}

async function noteMissed(tx: Tx, row: ScheduleRow, { first, last }: { first: Date; last: Date }): Promise<void> {
  const message =
    first.getTime() === last.getTime()
      ? 'The time passed while nothing could fire it.'
      : `The times until ${last.toISOString()} passed while nothing could fire them.`
  await tx
    .insert(scheduleFire)
    .values({
      ...keyOf(row, first),
      source: 'schedule',
      state: 'missed',
      problem: {
        code: 'UNAVAILABLE',
        message,
        hint: 'Its misfire policy says which are made up for; see backfills for the others.',
      },
    })
    .onConflictDoNothing()
}

const keyOf = ({ tenantId, id }: ScheduleRow, fireAt: Date) => ({ tenantId, scheduleId: id, fireAt })
