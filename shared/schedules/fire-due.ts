import { sql } from 'drizzle-orm'
import { rowsOf, type Side, type Tx, withLedger, withTenant } from '../db/db.ts'
import { describeError } from '../log.ts'
import type { Ports } from '../ports.ts'
import { followUp } from '../runs/follow-up.ts'
import { wakeRun } from '../runs/wake-run.ts'
import { fireSchedule } from './fire-schedule.ts'
import { runBackfill } from './run-backfill.ts'

type Due = { tenantId: string; kind: 'schedule' | 'backfill' | 'follow'; id: string; part: string }

const holdSeconds = 60

/**
 * Starts what is due, of all tenants in turns: slots of schedules, next slots of backfills, pipelines that follow a run.
 * Each is one transaction of its tenant and happens once, in however many processes this runs. What fails unexpectedly is
 * logged, held for a minute and keeps nobody else. Answers how many it looked at: `limit`, by default 100, when there may
 * be more.
 */
export async function fireDue(
  ports: Pick<Ports, 'db' | 'waker' | 'hub' | 'log'>,
  side: Side,
  { limit = 100, signal }: { limit?: number; signal?: AbortSignal } = {},
): Promise<number> {
  const due = await withLedger(ports.db, side, (tx) =>
    rowsOf<Due>(
      tx,
      sql`select o_tenant as "tenantId", o_kind as kind, o_id as id, o_part as part from app.due_triggers(${limit})`,
    ),
  )
  for (const one of due) {
    if (signal?.aborted) break
    try {
      const runs = await withTenant(ports.db, { tenantId: one.tenantId, side }, (tx) => fire(tx, one))
      for (const runId of runs) await announce(ports, { tenantId: one.tenantId, runId }, side)
    } catch (error) {
      ports.log.error('trigger.failed', { ...one, error: describeError(error) })
      await withTenant(ports.db, { tenantId: one.tenantId, side }, (tx) => hold(tx, one))
    }
  }
  return due.length
}

function fire(tx: Tx, { tenantId, kind, id, part }: Due): Promise<string[]> {
  if (kind === 'schedule') return fireSchedule(tx, tenantId, id)
  return kind === 'backfill' ? runBackfill(tx, tenantId, id) : followUp(tx, tenantId, id, part)
}

/** Says to watchers and workers that a run has started. Both are hints: whoever misses them looks again. */
export async function announce(
  ports: Pick<Ports, 'db' | 'waker' | 'hub' | 'log'>,
  run: { tenantId: string; runId: string },
  side: Side,
): Promise<void> {
  ports.hub.notify(run)
  await wakeRun(ports, run, side).catch((error: unknown) =>
    ports.log.warn('hint.lost', { runId: run.runId, error: describeError(error) }),
  )
}

// Otherwise what fails each time would come first each time.
async function hold(tx: Tx, { tenantId, kind, id, part }: Due): Promise<void> {
  const until = sql`now() + ${holdSeconds} * interval '1 second'`
  if (kind === 'schedule')
    await tx.execute(sql`update app.schedule set held_until = ${until} where tenant_id = ${tenantId} and id = ${id}`)
  if (kind === 'backfill')
    await tx.execute(sql`update app.backfill set held_until = ${until} where tenant_id = ${tenantId} and id = ${id}`)
  if (kind === 'follow')
    await tx.execute(
      sql`update app.run_follow_up set not_before = ${until} where tenant_id = ${tenantId} and run_id = ${id} and trigger_id = ${part}`,
    )
}
