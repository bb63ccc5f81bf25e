import { sql } from 'drizzle-orm'
import { quantile } from '../../../bench/dispatch/quantile.ts'
import { result } from '../../../bench/result.ts'
import { systemClock } from '../../../shared/clock.ts'
import { type Db, rowsOf } from '../../../shared/db/db.ts'
import type { Fleet } from './fleet.ts'

type Started = { owner: string; startedAt: number; fence: number }

/**
 * Kills the worker of a running step, so many times, while nothing else goes wrong, and measures how long after the kill
 * another has begun the step anew: at most the lease and a second. `start` starts a run of one step that lasts.
 */
export async function proveTakeovers(
  db: Db,
  fleet: Fleet,
  { leaseMs, count }: { leaseMs: number; count: number },
  start: () => Promise<string>,
): Promise<boolean> {
  const times: number[] = []
  for (let n = 0; n < count; n++) {
    const runId = await start()
    const { owner, fence } = await startOf(db, runId, 0)
    const victim = fleet.running().find(({ id }) => id === owner)
    if (!victim) throw new Error(`${owner} has the step of ${runId} and is none of the workers`)
    const killedAt = Date.now()
    await fleet.kill(victim, 0)
    times.push((await startOf(db, runId, fence)).startedAt - killedAt)
  }
  result('chaos.pg.kill-to-rerun.p50', quantile(times, 0.5) / 1000, 's')
  const most = Math.max(...times) / 1000
  return result('chaos.pg.kill-to-rerun.max', most, 's', { op: '<=', value: leaseMs / 1000 + 1 })
}

// The first start by a fence after that one, by the database's clock, which is this machine's.
async function startOf(db: Db, runId: string, after: number): Promise<Started> {
  for (const until = performance.now() + 60_000; performance.now() < until; await systemClock.sleep(50)) {
    const [row] = await rowsOf<Started & { state: string }>(
      db,
      sql`select lease_owner as owner, state, fence::float8 as fence, (extract(epoch from attempt_started_at) * 1000)::float8 as "startedAt"
        from app.run_step where run_id = ${runId}`,
    )
    if (row?.state === 'running' && row.fence > after) return row
    if (row?.state === 'succeeded') throw new Error(`the step of ${runId} ended before its worker was killed`)
  }
  throw new Error(`the step of ${runId} did not start anew within a minute`)
}
