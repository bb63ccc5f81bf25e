import { sql } from 'drizzle-orm'
import { rowsOf } from '../../../shared/db/db.ts'
import { makeTenant } from '../../support/database.ts'
import { housekeeper, operator, type Stage, worker } from './actors.ts'
import { type SimDatabase, simulationStart } from './database.ts'
import { brokenAtRest, brokenNow, brokenOutcomes } from './invariants.ts'
import { random } from './random.ts'
import { type Faults, schedule } from './scheduler.ts'
import { type Outcome, type WantedRun, workload } from './workload.ts'

const leaseMs = 1_000
const startAt = simulationStart
const usual = {
  lostBefore: 0.03,
  lostAfter: 0.03,
  crash: 0.03,
  pause: 0.08,
  pauseMs: [1.05 * leaseMs, 3 * leaseMs],
} satisfies Partial<Faults>

/** What one seed did: how much, and what was broken, in words. */
export type Simulated = { seed: number; runs: number; calls: number; broken: string[] }

/**
 * Two tenants, their runs, three workers and two housekeepers over the real ledger, for four disturbed seconds and up to
 * ten quiet minutes of virtual time. The same seed does the same.
 */
export async function simulate(sim: SimDatabase, seed: number): Promise<Simulated> {
  const rng = random(seed)
  sim.setTime(startAt)
  await sim.db.execute(sql`select setseed(${(seed % 1000) / 1000})`)
  const outcomes = new Map<string, Outcome>()
  const wanted: { tenantId: string; run: WantedRun }[] = []
  const tenants: string[] = []
  for (const weight of [1, 2]) {
    const tenant = await makeTenant(sim.db, { maxRunningTotal: 3, weight })
    tenants.push(tenant.tenantId)
    const load = workload(rng, tenant)
    for (const [name, outcome] of load.outcomes) outcomes.set(name, outcome)
    wanted.push(...load.runs.map((run) => ({ tenantId: tenant.tenantId, run })))
  }
  const broken: string[] = []
  let now = startAt
  const stage: Stage = {
    db: sim.db,
    random: rng,
    tenants,
    outcomes,
    leaseMs,
    now: () => now,
    held: new Map(),
    broken,
  }
  let calls = 0
  try {
    const done = await schedule(
      [
        ...[1, 2, 3].map(() => () => worker(stage)),
        ...[1, 2].map(() => () => housekeeper(stage)),
        ...wanted.map(
          ({ tenantId, run }) =>
            () =>
              operator(stage, tenantId, run),
        ),
      ],
      {
        random: rng,
        faults: { ...usual, pauseIfLate: rng.pick([0.1, 0.4]) },
        startAt,
        calmAt: startAt + 4_000,
        endAt: startAt + 600_000,
        setTime(ms) {
          now = ms
          sim.setTime(ms)
        },
        isDone: () => isAtRest(sim, wanted.length),
        async check() {
          if (!rng.chance(0.05)) return
          const found = await brokenNow(sim.db)
          if (found.length > 0) throw new Error(found.join('; '))
        },
      },
    )
    calls = done.calls
  } catch (error) {
    broken.push(wordsOf(error))
  }
  broken.push(...(await brokenNow(sim.db)), ...(await brokenAtRest(sim.db)))
  broken.push(...(await brokenOutcomes(sim.db, expectedOf(outcomes))))
  return { seed, runs: wanted.length, calls, broken: [...new Set(broken)] }
}

// A step that starts a run ends as that run does, which is judged elsewhere.
function expectedOf(outcomes: ReadonlyMap<string, Outcome>): Map<string, 'succeeded' | 'failed'> {
  const expected = new Map<string, 'succeeded' | 'failed'>()
  for (const [name, outcome] of outcomes)
    if (typeof outcome === 'string' || 'items' in outcome)
      expected.set(name, outcome === 'fail' ? 'failed' : 'succeeded')
  return expected
}

async function isAtRest(sim: SimDatabase, runs: number): Promise<boolean> {
  const [row] = await rowsOf<{ roots: number; open: number; errands: number }>(
    sim.db,
    sql`select count(*) filter (where parent_run_id is null)::int as roots,
        count(*) filter (where state not in ('succeeded', 'failed', 'cancelled', 'timed_out'))::int as open,
        (select count(*) from app.run_errand)::int as errands from app.pipeline_run`,
  )
  return row !== undefined && row.roots >= runs && row.open === 0 && row.errands === 0
}

function wordsOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const cause = error.cause instanceof Error ? `: ${error.cause.message}` : ''
  return `${error.message.split('\n')[0]}${cause}`
}
