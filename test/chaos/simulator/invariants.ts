import { sql } from 'drizzle-orm'
import { type Db, rowsOf } from '../../../shared/db/db.ts'

/** What must hold between any two calls, as words about what does not; nothing when all holds. */
export async function brokenNow(db: Db): Promise<string[]> {
  const rows = await rowsOf<{ broken: string }>(
    db,
    sql`
    select format('queue %s of %s counts %s running steps, there are %s', q.queue, q.tenant_id, q.running, n) as broken
      from app.tenant_queue q, lateral (select count(*) n from app.run_step s
        where s.tenant_id = q.tenant_id and s.queue = q.queue and s.state = 'running' and s.holds_slot) c
      where q.running <> n or q.running > q.max_running
    union all
    select format('tenant %s runs %s steps at once', l.tenant_id, n)
      from app.tenant_limit l, lateral (select sum(running) n from app.tenant_queue q where q.tenant_id = l.tenant_id) c
      where n > l.max_running_total
    union all
    select format('tenant %s counts %s running steps, its queues %s', q.tenant_id, coalesce(u.running, 0), n)
      from (select tenant_id, sum(running) n from app.tenant_queue group by tenant_id) q left join app.tenant_turn u using (tenant_id)
      where coalesce(u.running, 0) <> n
    union all
    select format('queue %s of %s has a ready step that nobody will look for', q.queue, q.tenant_id)
      from app.tenant_queue q, lateral (select min(ready_at) m from app.run_step s
        where s.tenant_id = q.tenant_id and s.queue = q.queue and s.state = 'ready') c
      where q.next_ready_at > m
    union all
    select format('run %s counts %s open steps, there are %s', r.run_id, r.pending, n)
      from app.pipeline_run r, lateral (select count(*) n from app.run_step s
        where s.tenant_id = r.tenant_id and s.run_id = r.run_id and s.state in ('blocked', 'ready', 'running')) c
      where r.pending <> n
    union all
    select format('run %s is %s with open steps', r.run_id, r.state)
      from app.pipeline_run r where r.state in ('succeeded', 'failed', 'cancelled', 'timed_out') and exists (
        select from app.run_step s
        where s.tenant_id = r.tenant_id and s.run_id = r.run_id and s.state in ('blocked', 'ready', 'running'))
    union all
    select format('group %s has %s runs at once', concurrency_group, count(*)) from app.pipeline_run
      where concurrency_group is not null and not waiting and state in ('queued', 'running', 'cancelling')
      group by tenant_id, concurrency_group having count(*) > min(concurrency_limit)
    union all
    select format('step %s of %s has no lease and waits for no run', step_key, run_id) from app.run_step
      where state = 'running' and lease_until is null and child_run is null`,
  )
  return rows.map((row) => row.broken)
}

/** What must hold when everything has come to rest. */
export async function brokenAtRest(db: Db): Promise<string[]> {
  const rows = await rowsOf<{ broken: string }>(
    db,
    sql`
    with ends (tenant_id, run_id, seq) as (
      select tenant_id, run_id, seq from app.run_event
      where type in ('run.succeeded', 'run.failed', 'run.cancelled', 'run.timed_out')),
    step_ends (tenant_id, run_id, step_key, seq) as (
      select tenant_id, run_id, step_key, seq from app.run_event
      where type in ('step.succeeded', 'step.failed', 'step.skipped', 'step.cancelled'))
    select format('run %s is still %s', run_id, state) as broken from app.pipeline_run
      where state not in ('succeeded', 'failed', 'cancelled', 'timed_out') or waiting
    union all
    select format('run %s has %s events numbered up to %s', run_id, count(*), max(seq)) from app.run_event
      group by tenant_id, run_id having count(*) <> max(seq) or min(seq) <> 1
    union all
    select format('run %s ended %s times', run_id, count(*)) from ends group by tenant_id, run_id having count(*) <> 1
    union all
    select format('run %s went on after its end with %s', e.run_id, e.type) from app.run_event e
      join ends f on f.tenant_id = e.tenant_id and f.run_id = e.run_id and f.seq < e.seq
    union all
    select format('step %s of %s started before %s had ended', s.step_key, s.run_id, n)
      from app.run_step s, unnest(s.needs) n
      where (select min(seq) from app.run_event e
          where e.tenant_id = s.tenant_id and e.run_id = s.run_id and e.step_key = s.step_key and e.type = 'step.started')
        < (select max(seq) from step_ends e where e.tenant_id = s.tenant_id and e.run_id = s.run_id and e.step_key = n)
    union all
    select format('step %s of %s ended %s times', step_key, run_id, count(*)) from step_ends
      group by tenant_id, run_id, step_key having count(*) <> 1
    union all
    select format('step %s of %s is %s although its trigger %s says otherwise', s.step_key, s.run_id, s.state, s.trigger_rule)
      from app.run_step s join app.pipeline_run r on r.tenant_id = s.tenant_id and r.run_id = s.run_id, lateral (
        select coalesce(case s.trigger_rule
          when 'on_success' then bool_and(u.state = 'succeeded' or (u.state = 'failed' and u.allow_failure))
          when 'on_failure' then bool_or(u.state = 'failed' and not u.allow_failure)
          else true end, s.trigger_rule <> 'on_failure') as holds
        from app.run_step u where u.tenant_id = s.tenant_id and u.run_id = s.run_id and u.step_key = any (s.needs)) h
      where r.state in ('succeeded', 'failed') and (s.state = 'skipped') = holds
    union all
    select format('run %s is %s, its steps say otherwise', r.run_id, r.state) from app.pipeline_run r, lateral (
        select coalesce(bool_or(s.state = 'failed' and not s.allow_failure), false) as bad
        from app.run_step s where s.tenant_id = r.tenant_id and s.run_id = r.run_id) b
      where r.state in ('succeeded', 'failed') and (r.state = 'failed') <> bad
    union all
    select format('the run %s of step %s is %s, the step %s', c.run_id, s.step_key, c.state, s.state)
      from app.run_step s join app.pipeline_run c on c.tenant_id = s.tenant_id and c.run_id = s.child_run
      where (s.state = 'succeeded') <> (c.state = 'succeeded')
    union all
    select format('run %s has %s entries of its start in the audit log', run_id, n) from app.pipeline_run r, lateral (
        select count(*) n from app.audit_event a
        where a.tenant_id = r.tenant_id and a.action = 'run.started' and a.target = r.run_id) c
      where n <> 1
    union all
    select format('an errand for %s is left', run_id) from app.run_errand`,
  )
  return rows.map((row) => row.broken)
}

/** Steps that ended otherwise than what they did says. A cancelled run may end its steps in any state. */
export async function brokenOutcomes(db: Db, expected: ReadonlyMap<string, 'succeeded' | 'failed'>): Promise<string[]> {
  const rows = await rowsOf<{ name: string; state: string }>(
    db,
    sql`select s.run_id || '/' || s.step_key as name, s.state from app.run_step s
        join app.pipeline_run r on r.tenant_id = s.tenant_id and r.run_id = s.run_id
        where r.state in ('succeeded', 'failed') and s.state in ('succeeded', 'failed')`,
  )
  return rows
    .filter(({ name, state }) => expected.has(name) && expected.get(name) !== state)
    .map(({ name, state }) => `step ${name} ended ${state}, its work ${expected.get(name)}`)
}
