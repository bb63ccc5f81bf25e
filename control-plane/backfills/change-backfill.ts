import { and, eq, inArray, sql } from 'drizzle-orm'
import { backfill, backfillSlot, pipelineRun } from '../../schema/tables/index.ts'
import { audit } from '../../shared/audit.ts'
import type { Tx } from '../../shared/db/db.ts'
import { AppError } from '../../shared/errors.ts'
import { cancelRun } from '../../shared/runs/ledger.ts'
import { type BackfillRow, endBackfill } from '../../shared/schedules/run-backfill.ts'
import { type Auth, type Context, inTenant } from '../context.ts'
import { wakeQueues } from '../runs/wake-queues.ts'
import { noSuchBackfill, readBackfill } from './read-backfills.ts'

/** Starts no further slot of a backfill; runs go on. A repeat changes nothing. Throws NOT_FOUND, CONFLICT for one that has ended. */
export function pauseBackfill(context: Context, id: string): Promise<BackfillRow> {
  return changed(context, id, 'paused', async (tx, row, { actor }) => {
    await set(tx, row, { state: 'paused' })
    await note(context, tx, row, actor, 'backfill.paused')
  })
}

/**
 * Goes on with the slots of a paused backfill that have no run yet, those that were refused among them. A repeat changes
 * nothing. Throws NOT_FOUND, CONFLICT for one that has ended.
 */
export function resumeBackfill(context: Context, id: string): Promise<BackfillRow> {
  return changed(context, id, 'running', async (tx, row, { actor }) => {
    await set(tx, row, { state: 'running', failures: 0, problem: null, heldUntil: sql`now()` })
    await tx
      .update(backfillSlot)
      .set({ state: 'pending', problem: null })
      .where(
        and(
          eq(backfillSlot.tenantId, row.tenantId),
          eq(backfillSlot.backfillId, row.id),
          eq(backfillSlot.state, 'refused'),
        ),
      )
    await note(context, tx, row, actor, 'backfill.resumed')
  })
}

/**
 * Ends a backfill: no further slot starts, and with `cancelRuns` the runs that are unfinished are asked to stop. A repeat
 * changes nothing. Throws NOT_FOUND, CONFLICT for one that has finished.
 */
export async function cancelBackfill(context: Context, id: string, cancelRuns: boolean): Promise<BackfillRow> {
  const stopped: string[] = []
  const row = await changed(context, id, 'cancelled', async (tx, held, { actor }) => {
    const { requestId } = context
    await endBackfill(tx, held, 'cancelled', { actor, requestId })
    for (const runId of cancelRuns ? await unfinishedRuns(tx, held) : []) {
      await cancelRun(tx, { runId, reason: `backfill ${id}`, actor, requestId })
      stopped.push(runId)
    }
  })
  for (const runId of stopped) wakeQueues(context, runId)
  return row
}

async function changed(
  context: Context,
  id: string,
  to: BackfillRow['state'],
  work: (tx: Tx, row: BackfillRow, auth: Auth) => Promise<void>,
): Promise<BackfillRow> {
  await inTenant(context, async (tx, auth) => {
    const [row] = await tx
      .select()
      .from(backfill)
      .where(and(eq(backfill.tenantId, auth.tenantId), eq(backfill.id, id)))
      .for('update')
    if (!row) throw noSuchBackfill()
    if (row.state === to) return
    if (row.state === 'finished' || row.state === 'cancelled')
      throw new AppError('CONFLICT', `This backfill is ${row.state}.`, { place: { path: 'id' } })
    await work(tx, row, auth)
  })
  return readBackfill(context, id)
}

async function unfinishedRuns(tx: Tx, { tenantId, id }: BackfillRow): Promise<string[]> {
  const rows = await tx
    .select({ runId: pipelineRun.runId })
    .from(pipelineRun)
    .where(
      and(
        eq(pipelineRun.tenantId, tenantId),
        eq(pipelineRun.requestedBy, `backfill:${id}`),
        inArray(pipelineRun.state, ['queued', 'running']),
      ),
    )
    .orderBy(pipelineRun.runId)
  return rows.map(({ runId }) => runId)
}

async function set(
  tx: Tx,
  { tenantId, id }: BackfillRow,
  to: Parameters<ReturnType<typeof tx.update<typeof backfill>>['set']>[0],
): Promise<void> {
  await tx
    .update(backfill)
    .set(to)
    .where(and(eq(backfill.tenantId, tenantId), eq(backfill.id, id)))
}

function note(context: Context, tx: Tx, row: BackfillRow, actor: string, action: string): Promise<void> {
  const { requestId } = context
  return audit(tx, { tenantId: row.tenantId, actor, requestId, action, target: row.id, details: {} })
}
