import { sql } from 'drizzle-orm'
import { type Db, rowsOf } from '../../../shared/db/db.ts'
import type { Landed } from './lakes.ts'

/** Runs that did not succeed, and successes without exactly one effect. */
export async function brokenEnds(db: Db, runs: readonly Landed[]): Promise<string[]> {
  const rows = await rowsOf<{ broken: string }>(
    db,
    sql`select format('run %s ended as %s: %s', run_id, state, error) as broken from app.pipeline_run where state <> 'succeeded'
      union all
      select format('step %s of %s is %s and has %s effects', s.step_key, s.run_id, s.state, n)
        from app.run_step s, lateral (select count(*) n from app.effect e
          where e.tenant_id = s.tenant_id and e.run_id = s.run_id and e.step_key = s.step_key) c
        where n <> (s.state = 'succeeded')::int
      union all
      select format('step %s of %s succeeded by fence %s, its effect is of %s', s.step_key, s.run_id, s.fence, e.fence)
        from app.run_step s join app.effect e using (tenant_id, run_id, step_key) where e.fence <> s.fence`,
  )
  const [count] = await rowsOf<{ n: number }>(
    db,
    sql`select count(*)::int as n from app.pipeline_run r join app.pipeline p on p.tenant_id = r.tenant_id and p.id = r.pipeline_id
      where p.path like 'chaos/land/%'`,
  )
  return [
    ...rows.map((row) => row.broken),
    ...(count?.n === runs.length ? [] : [`${runs.length} runs were started, there are ${count?.n}`]),
  ]
}
