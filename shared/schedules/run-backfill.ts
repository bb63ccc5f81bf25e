import { and, asc, count, eq, inArray, sql } from 'drizzle-orm'
import { triggerLimits } from '../../schema/config/triggers.ts'
import { backfill, backfillSlot, pipelineRun } from '../../schema/tables/index.ts'
import { audit } from '../audit.ts'
import type { Tx } from '../db/db.ts'
import { type Tried, tryStart } from '../runs/try-start.ts'
import { scheduler } from './fire-schedule.ts'

/** A backfill's row. */
export type BackfillRow = typeof backfill.$inferSelect

const holdSeconds = 30

/**
 * Starts the next slots of a backfill in the transaction of its tenant, oldest first, as many as may be active, and
 * finishes it when its last run has ended. A slot has one run, whoever brings it. Answers the runs that it started; none
 * when somebody else works on it at this moment.
 */
export async function runBackfill(tx: Tx, tenantId: string, id: string): Promise<string[]> {
  const [row] = await tx
    .select()
    .from(backfill)
    .where(and(eq(backfill.tenantId, tenantId), eq(backfill.id, id), eq(backfill.state, 'running')))
    .for('update', { skipLocked: true })
  if (!row) return []
  const active = await activeRuns(tx, row)
  const slots = await tx
    .select()
    .from(backfillSlot)
    .where(and(eq(backfillSlot.tenantId, tenantId), eq(backfillSlot.backfillId, id), eq(backfillSlot.state, 'pending')))
    .orderBy(asc(backfillSlot.slotAt))
    .limit(Math.max(1, row.maxActive - active))
  if (slots.length === 0) {
    if (active === 0) await endBackfill(tx, row, 'finished', { actor: scheduler })
    return []
  }
  const runs: string[] = []
  let { failures } = row
  for (const slot of active < row.maxActive ? slots : []) {
    const started = await start(tx, row, slot)
    if ('runId' in started) {
      runs.push(started.runId)
      failures = 0
      await settle(tx, slot, { state: 'started', runId: started.runId })
    } else if (started.retry === 'never') {
      failures++
      await settle(tx, slot, { state: 'refused', problem: started.problem })
      if (failures >= triggerLimits.failuresMax) {
        await pauseBroken(tx, row, started.problem)
        return runs
      }
    } else {
      // A full queue or a busy group is no fault of the slot: it comes again.
      await change(tx, row, { heldUntil: sql`now() + ${holdSeconds} * interval '1 second'`, problem: started.problem })
      return runs
    }
  }
  await change(tx, row, { failures, problem: null })
  return runs
}

/** Ends a backfill for good and says so in the audit log; slots that have not started never will. */
export async function endBackfill(
  tx: Tx,
  { tenantId, id }: BackfillRow,
  state: 'finished' | 'cancelled',
  by: { actor: string; requestId?: string },
): Promise<void> {
  await tx
    .update(backfill)
    .set({ state, finishedAt: sql`now()` })
    .where(and(eq(backfill.tenantId, tenantId), eq(backfill.id, id)))
  await tx
    .update(backfillSlot)
    .set({ state: 'cancelled' })
    .where(and(eq(backfillSlot.tenantId, tenantId), eq(backfillSlot.backfillId, id), eq(backfillSlot.state, 'pending')))
  await audit(tx, { tenantId, ...by, action: `backfill.${state}`, target: id })
}

/** Runs of a backfill that have not ended. */
export async function activeRuns(tx: Tx, { tenantId, id }: BackfillRow): Promise<number> {
  const [row] = await tx
    .select({ runs: count() })
    .from(pipelineRun)
    .where(
      and(
        eq(pipelineRun.tenantId, tenantId),
        eq(pipelineRun.requestedBy, `backfill:${id}`),
        inArray(pipelineRun.state, ['queued', 'running', 'cancelling']),
      ),
    )
  return row?.runs ?? 0
}

type Slot = typeof backfillSlot.$inferSelect

function start(tx: Tx, row: BackfillRow, slot: Slot): Promise<Tried> {
  const { tenantId, id, pipeline: path, parameters, environment } = row
  return tryStart(tx, {
    tenantId,
    path,
    environment,
    actor: `backfill:${id}`,
    requestId: null,
    trigger: 'backfill',
    parameters: { ...parameters, date: slot.day },
    idempotencyKey: `bkf:${id}:${slot.slotAt.toISOString()}`,
    inputHash: null,
  })
}

async function settle(tx: Tx, slot: Slot, to: Partial<Slot>): Promise<void> {
  await tx
    .update(backfillSlot)
    .set(to)
    .where(
      and(
        eq(backfillSlot.tenantId, slot.tenantId),
        eq(backfillSlot.backfillId, slot.backfillId),
        eq(backfillSlot.slotAt, slot.slotAt),
      ),
    )
}

async function pauseBroken(tx: Tx, row: BackfillRow, problem: BackfillRow['problem']): Promise<void> {
  await change(tx, row, { state: 'paused', failures: 0, problem })
  const details = { failures: triggerLimits.failuresMax, code: problem?.code ?? '' }
  await audit(tx, { tenantId: row.tenantId, actor: scheduler, action: 'backfill.paused', target: row.id, details })
}

async function change(
  tx: Tx,
  { tenantId, id }: BackfillRow,
  to: Parameters<ReturnType<typeof tx.update<typeof backfill>>['set']>[0],
): Promise<void> {
  await tx
    .update(backfill)
    .set(to)
    .where(and(eq(backfill.tenantId, tenantId), eq(backfill.id, id)))
}
