-- Fair turns by the time that workers spend, concurrency groups, steps that fan out, runs inside runs, dead letters.

alter table app.tenant_limit add column weight int not null default 1 check (weight between 1 and 1000);
--> statement-breakpoint
-- How much worker time a tenant has had, over all its queues: however it spreads its work, it is charged once. virtual_ms
-- is that time over its weight; average_ms what a step of it takes, charged at the claim and set right at the end.
create table app.tenant_turn (
  tenant_id text primary key references app.tenant (id),
  virtual_ms double precision not null default 0,
  average_ms double precision not null default 1000,
  worker_ms double precision not null default 0
);
--> statement-breakpoint
alter table app.tenant_turn enable row level security;
--> statement-breakpoint
alter table app.tenant_turn force row level security;
--> statement-breakpoint
create policy tenant on app.tenant_turn to tributary_api, tributary_worker
  using (tenant_id = current_setting('app.tenant_id', true))
  with check (tenant_id = current_setting('app.tenant_id', true) and tenant_id <> '');
--> statement-breakpoint
create policy ledger on app.tenant_turn to tributary_ledger using (true) with check (true);
--> statement-breakpoint
grant select, insert, update on app.tenant_turn to tributary_ledger;
--> statement-breakpoint
grant select on app.tenant_turn to tributary_api;
--> statement-breakpoint
-- The start of the turn served last, per queue: who comes back after a pause starts here and not at what it saved up.
create table app.turn_clock (queue text primary key, virtual_ms double precision not null default 0);
--> statement-breakpoint
insert into app.turn_clock (queue) values ('ingest'), ('transform'), ('export'), ('delivery');
--> statement-breakpoint
grant select, update on app.turn_clock to tributary_ledger;
--> statement-breakpoint
-- Where the queue stands in the order of turns, and the tenant's virtual_ms when that was reckoned.
alter table app.tenant_queue add column turn_ms double precision not null default 0, add column charged_ms double precision not null default 0;
--> statement-breakpoint
-- A run that waits for a place in its concurrency group is queued, its first steps blocked. A run started by a step of
-- another one knows its parent; depth counts the ancestors.
alter table app.pipeline_run
  add column priority smallint not null default 0,
  add column concurrency_group text,
  add column concurrency_limit int,
  add column on_conflict text check (on_conflict in ('queue', 'skip', 'cancel_running')),
  add column waiting boolean not null default false,
  add column parent_run_id text,
  add column parent_step text,
  add column depth int not null default 0;
--> statement-breakpoint
create index pipeline_run_group on app.pipeline_run (tenant_id, concurrency_group) where concurrency_group is not null and state in ('queued', 'running', 'cancelling');
--> statement-breakpoint
create index pipeline_run_waiting on app.pipeline_run (tenant_id, concurrency_group) where waiting;
--> statement-breakpoint
-- for_each makes a step fan out into children `<step>[0]`, `<step>[1]` …, each with its item. child_run is the run that a
-- step waits for: it then holds no slot of its queue and no lease.
alter table app.run_step
  add column for_each jsonb,
  add column item jsonb,
  add column parent_step text,
  add column child_run text,
  add column holds_slot boolean not null default false,
  add column expected_ms double precision,
  add column discarded_at timestamptz,
  add column discarded_by text;
--> statement-breakpoint
alter table app.run_step no force row level security;
--> statement-breakpoint
update app.run_step set holds_slot = true where state = 'running';
--> statement-breakpoint
alter table app.run_step force row level security;
--> statement-breakpoint
create index run_step_dead on app.run_step (tenant_id, finished_at desc, run_id, step_key) where state = 'failed' and discarded_at is null;
--> statement-breakpoint
-- What the end or the cancelling of a run asks of other runs. It is done in a transaction of its own, so that no two runs
-- are ever locked one after the other.
create table app.run_errand (
  tenant_id text not null,
  id bigint generated always as identity,
  run_id text not null,
  kind text not null check (kind in ('ended', 'cancel', 'room')),
  primary key (tenant_id, id),
  foreign key (tenant_id, run_id) references app.pipeline_run (tenant_id, run_id)
);
--> statement-breakpoint
alter table app.run_errand enable row level security;
--> statement-breakpoint
alter table app.run_errand force row level security;
--> statement-breakpoint
create policy tenant on app.run_errand to tributary_api, tributary_worker
  using (tenant_id = current_setting('app.tenant_id', true))
  with check (tenant_id = current_setting('app.tenant_id', true) and tenant_id <> '');
--> statement-breakpoint
create policy ledger on app.run_errand to tributary_ledger using (true) with check (true);
--> statement-breakpoint
grant select, insert, update, delete on app.run_errand to tributary_ledger;
--> statement-breakpoint
grant delete on app.run_step to tributary_ledger;
--> statement-breakpoint
create function app.group_key(p_tenant text, p_group text) returns bigint language sql immutable as $$
  select hashtextextended('group ' || p_tenant || ' ' || p_group, 0)
$$;
--> statement-breakpoint
-- Whether a blocked step may start, judged over how the steps ended that it waited for.
create function app.may_start(p_rule text, p_up_failed int, p_up_bad int) returns boolean language sql immutable as $$
  select (p_rule = 'on_success' and p_up_bad = 0) or (p_rule = 'on_failure' and p_up_failed > 0) or p_rule = 'always'
$$;
--> statement-breakpoint
-- Sets right what the claim charged for a step, now that its time is known.
create function app.charge(p_tenant text, p_started timestamptz, p_expected double precision) returns void language sql as $$
  update app.tenant_turn t set
      virtual_ms = t.virtual_ms + (a.ms - coalesce(p_expected, a.ms)) / l.weight,
      average_ms = t.average_ms * 0.9 + a.ms * 0.1,
      worker_ms = t.worker_ms + a.ms
    from (select greatest(0, extract(epoch from clock_timestamp() - p_started) * 1000)::float8 as ms) a, app.tenant_limit l
    where t.tenant_id = p_tenant and l.tenant_id = p_tenant
$$;
--> statement-breakpoint
-- As before, and: a run that waits for its group starts nothing, and the end of a run leaves an errand where another waits.
create or replace function app.settle(p_tenant text, p_run text, p_step text, p_state text, p_data jsonb, p_release text) returns void language plpgsql as $$
declare
  v_work text[] := array[p_step];
  v_states text[] := array[p_state];
  v_key text; v_state text; r record; v_bad boolean; v_failed boolean;
  v_queues text[] := '{}';
  v_pending int; v_fail_count int; v_final text;
  d record; q text; i int := 1;
begin
  select state, cancel_reason, waiting, concurrency_group, parent_run_id into r from app.pipeline_run where tenant_id = p_tenant and run_id = p_run;
  while i <= array_length(v_work, 1) loop
    v_key := v_work[i]; v_state := v_states[i];
    update app.run_step set state = v_state, finished_at = clock_timestamp()
      where tenant_id = p_tenant and run_id = p_run and step_key = v_key and state <> v_state;
    perform app.add_event(p_tenant, p_run, 'step.' || v_state, v_key, case when i = 1 then p_data end);
    -- A failure that the pipeline allows counts as done for what waits on it and for the run.
    select v_state = 'failed' and not allow_failure, v_state <> 'succeeded' and not (v_state = 'failed' and allow_failure)
      into v_failed, v_bad from app.run_step where tenant_id = p_tenant and run_id = p_run and step_key = v_key;
    update app.pipeline_run set pending = pending - 1, failed = failed + v_failed::int,
        error = case when v_failed then coalesce(error, coalesce(p_data, '{}') || jsonb_build_object('step', v_key)) else error end
      where tenant_id = p_tenant and run_id = p_run;
    for d in
      update app.run_step x set unmet = x.unmet - 1, up_failed = x.up_failed + v_failed::int, up_bad = x.up_bad + v_bad::int
      from app.run_step src
      where src.tenant_id = p_tenant and src.run_id = p_run and src.step_key = v_key
        and x.tenant_id = p_tenant and x.run_id = p_run and x.step_key = any (src.dependents) and x.state = 'blocked'
      returning x.step_key, x.unmet, x.up_failed, x.up_bad, x.trigger_rule, x.queue
    loop
      if d.unmet = 0 and not (r.waiting and r.state = 'queued') then
        if r.state <> 'cancelling' and app.may_start(d.trigger_rule, d.up_failed, d.up_bad) then
          update app.run_step set state = 'ready', ready_at = clock_timestamp()
            where tenant_id = p_tenant and run_id = p_run and step_key = d.step_key;
          v_queues := v_queues || d.queue;
          perform app.add_event(p_tenant, p_run, 'step.ready', d.step_key, null);
        else
          v_work := v_work || d.step_key;
          v_states := v_states || (case when r.state = 'cancelling' then 'cancelled' else 'skipped' end);
        end if;
      end if;
    end loop;
    i := i + 1;
  end loop;
  select pending, failed into v_pending, v_fail_count from app.pipeline_run where tenant_id = p_tenant and run_id = p_run;
  if v_pending = 0 then
    v_final := case
      when r.state = 'cancelling' and r.cancel_reason = 'deadline' then 'timed_out'
      when r.state = 'cancelling' then 'cancelled'
      when v_fail_count > 0 then 'failed'
      else 'succeeded' end;
    update app.pipeline_run set state = v_final, waiting = false, finished_at = clock_timestamp() where tenant_id = p_tenant and run_id = p_run;
    perform app.add_event(p_tenant, p_run, 'run.' || v_final, null, null);
    perform app.audit(p_tenant, 'system:ledger', 'run.' || v_final, p_run, null, null);
    if r.parent_run_id is not null then insert into app.run_errand (tenant_id, run_id, kind) values (p_tenant, p_run, 'ended'); end if;
    if r.concurrency_group is not null then insert into app.run_errand (tenant_id, run_id, kind) values (p_tenant, p_run, 'room'); end if;
  end if;
  -- One ordered pass over the queue rows: two settles of one tenant cannot lock each other out.
  for q in select distinct u from unnest(v_queues || p_release) u where u is not null order by 1 loop
    update app.tenant_queue set
        running = running - (q is not distinct from p_release)::int,
        next_ready_at = case when q = any (v_queues) then least(next_ready_at, clock_timestamp()) else next_ready_at end
      where tenant_id = p_tenant and queue = q;
  end loop;
end $$;
--> statement-breakpoint
-- Starts or passes over the steps of a run that wait for nothing any more: all of them, or those in p_set.
create function app.open_steps(p_tenant text, p_run text, p_set text[]) returns void language plpgsql as $$
declare s record; q record;
begin
  for s in select step_key, trigger_rule, up_failed, up_bad from app.run_step
    where tenant_id = p_tenant and run_id = p_run and (p_set is null or step_key = any (p_set)) and unmet = 0 and state = 'blocked' order by position
  loop
    if app.may_start(s.trigger_rule, s.up_failed, s.up_bad) then
      update app.run_step set state = 'ready', ready_at = clock_timestamp()
        where tenant_id = p_tenant and run_id = p_run and step_key = s.step_key and state = 'blocked';
      perform app.add_event(p_tenant, p_run, 'step.ready', s.step_key, null);
    else
      perform app.settle(p_tenant, p_run, s.step_key, 'skipped', null, null);
    end if;
  end loop;
  for q in select queue, min(ready_at) m from app.run_step where tenant_id = p_tenant and run_id = p_run and state = 'ready' group by queue order by queue loop
    update app.tenant_queue set next_ready_at = least(next_ready_at, q.m) where tenant_id = p_tenant and queue = q.queue;
  end loop;
end $$;
--> statement-breakpoint
-- As before, and a run that waits for its group ends at once; the runs that its steps wait for are asked to end.
create or replace function app.begin_cancel(p_tenant text, p_run text, p_reason text, p_actor text, p_request text) returns text
language plpgsql as $$
declare s record; v_state text; v_waiting boolean;
begin
  select state, waiting into v_state, v_waiting from app.pipeline_run where tenant_id = p_tenant and run_id = p_run for update;
  if v_state is null or v_state not in ('queued', 'running') then return v_state; end if;
  update app.pipeline_run set state = 'cancelling', waiting = false, cancel_reason = p_reason where tenant_id = p_tenant and run_id = p_run;
  perform app.add_event(p_tenant, p_run, 'run.cancelling', null, jsonb_build_object('reason', p_reason));
  perform app.audit(p_tenant, p_actor, 'run.cancelling', p_run, p_request, jsonb_build_object('reason', p_reason));
  insert into app.run_errand (tenant_id, run_id, kind)
    select tenant_id, child_run, 'cancel' from app.run_step
    where tenant_id = p_tenant and run_id = p_run and state = 'running' and child_run is not null;
  for s in select step_key, state from app.run_step where tenant_id = p_tenant and run_id = p_run
    and (state = 'ready' or (v_waiting and state = 'blocked' and unmet = 0)) order by position
  loop
    update app.run_step set state = 'cancelled', finished_at = clock_timestamp()
      where tenant_id = p_tenant and run_id = p_run and step_key = s.step_key and state = s.state;
    if found then perform app.settle(p_tenant, p_run, s.step_key, 'cancelled', null, null); end if;
  end loop;
  select state into v_state from app.pipeline_run where tenant_id = p_tenant and run_id = p_run;
  return v_state;
end $$;
--> statement-breakpoint
-- Lets the next waiting run of a group start if there is room: the oldest of the highest priority. With cancel_running the
-- newest run ends those before it and starts when they are gone. True when no other run can start now; one at a time, since
-- each takes rows of the tenant's queues.
create function app.admit_run(p_tenant text, p_group text) returns boolean language plpgsql as $$
declare r record; a record; v_active int;
begin
  if not pg_try_advisory_xact_lock(app.group_key(p_tenant, p_group)) then return false; end if;
  select * into r from app.pipeline_run where tenant_id = p_tenant and concurrency_group = p_group and waiting
    order by priority desc, created_at, run_id limit 1 for update skip locked;
  if not found then
    return not exists (select from app.pipeline_run where tenant_id = p_tenant and concurrency_group = p_group and waiting);
  end if;
  if r.on_conflict = 'cancel_running' and exists (select from app.pipeline_run w where w.tenant_id = p_tenant and w.concurrency_group = p_group
      and w.waiting and (w.created_at, w.run_id) > (r.created_at, r.run_id)) then
    perform app.begin_cancel(p_tenant, r.run_id, 'replaced', 'system:ledger', null);
    return false;
  end if;
  select count(*) into v_active from app.pipeline_run
    where tenant_id = p_tenant and concurrency_group = p_group and not waiting and state in ('queued', 'running', 'cancelling');
  if v_active >= r.concurrency_limit then
    if r.on_conflict = 'cancel_running' then
      for a in select run_id from app.pipeline_run
        where tenant_id = p_tenant and concurrency_group = p_group and not waiting and state in ('queued', 'running')
        order by created_at, run_id for update skip locked
      loop
        perform app.begin_cancel(p_tenant, a.run_id, 'replaced', 'system:ledger', null);
      end loop;
    end if;
    return true;
  end if;
  update app.pipeline_run set waiting = false, deadline_at = clock_timestamp() + timeout_ms * interval '1 ms'
    where tenant_id = p_tenant and run_id = r.run_id;
  perform app.add_event(p_tenant, r.run_id, 'run.admitted', null, null);
  perform app.open_steps(p_tenant, r.run_id, null);
  return false;
end $$;
--> statement-breakpoint
-- Tells the step that waits for this run how it ended. False when its own run is in other hands; then once more later.
create function app.end_child(p_tenant text, p_child text) returns boolean language plpgsql as $$
declare c record; s record; v_state text; v_code text;
begin
  select run_id, state, error, parent_run_id, parent_step into c from app.pipeline_run where tenant_id = p_tenant and run_id = p_child;
  if c.parent_run_id is null then return true; end if;
  select state into v_state from app.pipeline_run where tenant_id = p_tenant and run_id = c.parent_run_id for update skip locked;
  if not found then return false; end if;
  select fence into s from app.run_step
    where tenant_id = p_tenant and run_id = c.parent_run_id and step_key = c.parent_step and state = 'running' and child_run = p_child;
  if not found then return true; end if;
  if c.state = 'succeeded' then
    perform app.complete_step(p_tenant, c.parent_run_id, c.parent_step, s.fence, jsonb_build_object('run_id', p_child, 'state', c.state), '[]');
  elsif v_state = 'cancelling' then
    perform app.cancel_step(p_tenant, c.parent_run_id, c.parent_step, s.fence);
  else
    v_code := case c.state when 'timed_out' then 'TIMED_OUT' when 'cancelled' then 'CANCELLED' else coalesce(c.error ->> 'code', 'INTERNAL') end;
    perform app.fail_step(p_tenant, c.parent_run_id, c.parent_step, s.fence, jsonb_build_object('code', v_code, 'retry', 'later', 'runId', p_child,
      'message', format('Run %s ended as %s%s.', p_child, c.state, coalesce(' at ' || (c.error ->> 'step') || ': ' || (c.error ->> 'message'), ''))), true);
  end if;
  return true;
end $$;
--> statement-breakpoint
-- Does up to p_limit errands; what is in other hands stays for the next call.
create function app.run_errands(p_limit int) returns void language plpgsql as $$
declare e record; r record; v_done boolean;
begin
  for e in select tenant_id, id, run_id, kind from app.run_errand order by id limit p_limit for update skip locked loop
    if e.kind = 'cancel' then
      perform 1 from app.pipeline_run where tenant_id = e.tenant_id and run_id = e.run_id for update skip locked;
      v_done := found;
      if v_done then perform app.begin_cancel(e.tenant_id, e.run_id, 'parent', 'system:ledger', null); end if;
    elsif e.kind = 'ended' then
      v_done := app.end_child(e.tenant_id, e.run_id);
    else
      select concurrency_group into r from app.pipeline_run where tenant_id = e.tenant_id and run_id = e.run_id;
      v_done := app.admit_run(e.tenant_id, r.concurrency_group);
    end if;
    if v_done then delete from app.run_errand where tenant_id = e.tenant_id and id = e.id; end if;
  end loop;
end $$;
--> statement-breakpoint
-- Hands out ready steps. Turns go to the tenant that has had the least worker time for its weight (start-time fair
-- queueing, Goyal, Vin and Cheng 1996): a queue's turn starts where its last one ended, plus what its tenant was charged
-- for elsewhere meanwhile, never before the turn served last and at most 10 s after it, so that nobody saves up turns and
-- nobody pays for ever. At most `quantum` steps a turn, never above the queue's and the tenant's limits. The first
-- statement locks turn rows; the later ones read with a fresh snapshot, so that a step made ready meanwhile is not
-- written out of next_ready_at.
create or replace function app.claim_steps(p_worker text, p_queues text[], p_limit int, p_lease_ms int, p_tenants text[] default null)
returns table (o_tenant text, o_run text, o_step text, o_fence bigint, o_attempt int)
language plpgsql security definer set search_path = pg_catalog, app as $$
declare t record; s record; v_n int; v_room int; v_left int := p_limit; v_fence bigint; v_seq bigint; v_first boolean := true; v_key bigint; v_charged float8;
begin
  if exists (select from app.system_control where desired = 'stopped') then return; end if;
  perform app.run_errands(1);
  for t in
    select q.tenant_id, q.queue, q.generation, least(q.quantum, q.max_running - q.running) room, l.max_running_total, l.weight,
      least(greatest(q.turn_ms + coalesce(u.virtual_ms, 0) - q.charged_ms, k.virtual_ms), k.virtual_ms + 10000) as start,
      coalesce(u.average_ms, 1000) as average_ms
    from app.tenant_queue q join app.tenant_limit l on l.tenant_id = q.tenant_id join app.turn_clock k on k.queue = q.queue
      left join app.tenant_turn u on u.tenant_id = q.tenant_id
    where q.queue = any (p_queues) and q.desired = 'running' and q.next_ready_at < 'infinity' and q.next_ready_at <= clock_timestamp()
      and q.running < q.max_running and (p_tenants is null or q.tenant_id = any (p_tenants))
      and l.max_running_total > (select sum(o.running) from app.tenant_queue o where o.tenant_id = q.tenant_id)
    order by start, q.turn_at limit p_limit for update of q skip locked
  loop
    -- The total of a tenant spans its queues: two claims of one tenant take turns. Only the first may wait, so no cycle.
    v_key := hashtextextended('claim ' || t.tenant_id, 0);
    if v_first then perform pg_advisory_xact_lock(v_key); elsif not pg_try_advisory_xact_lock(v_key) then continue; end if;
    v_first := false;
    select least(t.room, t.max_running_total - coalesce(sum(running), 0)) into v_room from app.tenant_queue where tenant_id = t.tenant_id;
    if v_room <= 0 then continue; end if;
    v_n := 0;
    for s in
      select x.run_id, x.step_key, x.attempt
      from app.run_step x join app.pipeline_run r on r.tenant_id = x.tenant_id and r.run_id = x.run_id
      where x.tenant_id = t.tenant_id and x.queue = t.queue and x.state = 'ready' and x.ready_at <= clock_timestamp()
      order by x.priority desc, x.ready_at limit least(v_room, v_left) for update of x, r skip locked
    loop
      v_fence := nextval('app.fence_seq');
      update app.run_step set state = 'running', attempt = s.attempt + 1, fence = v_fence, lease_owner = p_worker, generation = t.generation,
          lease_until = clock_timestamp() + p_lease_ms * interval '1 ms', attempt_started_at = clock_timestamp(),
          started_at = coalesce(started_at, clock_timestamp()), progress = null, error = null, holds_slot = true, expected_ms = t.average_ms
        where tenant_id = t.tenant_id and run_id = s.run_id and step_key = s.step_key;
      update app.pipeline_run set event_seq = event_seq + 1, state = case when state = 'queued' then 'running' else state end,
          started_at = coalesce(started_at, clock_timestamp())
        where tenant_id = t.tenant_id and run_id = s.run_id returning event_seq into v_seq;
      insert into app.run_event (tenant_id, run_id, seq, type, step_key, data)
        values (t.tenant_id, s.run_id, v_seq, 'step.started', s.step_key, jsonb_build_object('attempt', s.attempt + 1));
      o_tenant := t.tenant_id; o_run := s.run_id; o_step := s.step_key; o_fence := v_fence; o_attempt := s.attempt + 1;
      v_n := v_n + 1;
      return next;
    end loop;
    if v_n > 0 then
      insert into app.tenant_turn as u (tenant_id, virtual_ms) values (t.tenant_id, v_n * t.average_ms / t.weight)
        on conflict (tenant_id) do update set virtual_ms = u.virtual_ms + v_n * t.average_ms / t.weight returning u.virtual_ms into v_charged;
      -- The clock may lag by 50 ms of turns: a row that every claim writes would make claims wait for each other.
      perform 1 from app.turn_clock where queue = t.queue and virtual_ms < t.start - 50 for update skip locked;
      if found then update app.turn_clock set virtual_ms = t.start where queue = t.queue and virtual_ms < t.start; end if;
    end if;
    update app.tenant_queue q set running = running + v_n,
        turn_at = case when v_n > 0 then clock_timestamp() else turn_at end,
        turn_ms = case when v_n > 0 then t.start + v_n * t.average_ms / t.weight else turn_ms end,
        charged_ms = case when v_n > 0 then v_charged else charged_ms end,
        next_ready_at = coalesce(
          (select min(x.ready_at) from app.run_step x where x.tenant_id = t.tenant_id and x.queue = t.queue and x.state = 'ready'), 'infinity')
      where q.tenant_id = t.tenant_id and q.queue = t.queue;
    v_left := v_left - v_n;
    exit when v_left <= 0;
  end loop;
end $$;
--> statement-breakpoint
create or replace function app.complete_step(p_tenant text, p_run text, p_step text, p_fence bigint, p_result jsonb, p_outbox jsonb) returns boolean
language plpgsql security definer set search_path = pg_catalog, app as $$
declare s record; m jsonb; i int := 0;
begin
  perform 1 from app.pipeline_run where tenant_id = p_tenant and run_id = p_run for update;
  select queue, ps_type, lease_owner, holds_slot, attempt_started_at, expected_ms into s from app.run_step
    where tenant_id = p_tenant and run_id = p_run and step_key = p_step and state = 'running' and fence = p_fence for update;
  if not found then return false; end if;
  update app.run_step set state = 'succeeded', result = p_result, finished_at = clock_timestamp(), lease_until = null, holds_slot = false
    where tenant_id = p_tenant and run_id = p_run and step_key = p_step;
  insert into app.effect (tenant_id, run_id, step_key, effect_key, fence, payload)
    values (p_tenant, p_run, p_step, 'completed', p_fence, p_result)
    on conflict (tenant_id, run_id, step_key, effect_key) do update set fence = excluded.fence, payload = excluded.payload, at = clock_timestamp();
  for m in select value from jsonb_array_elements(coalesce(p_outbox, '[]')) loop
    insert into app.outbox (tenant_id, id, kind, dedupe_key, payload)
      values (p_tenant, m ->> 'id', m ->> 'kind', p_run || ' ' || p_step || ' ' || p_fence || ' ' || i, m -> 'payload');
    i := i + 1;
  end loop;
  perform app.audit(p_tenant, 'worker:' || coalesce(s.lease_owner, 'none'), 'step.succeeded', p_run || '/' || p_step, null,
    jsonb_build_object('type', s.ps_type) || app.moved(p_result));
  perform app.settle(p_tenant, p_run, p_step, 'succeeded', p_result, case when s.holds_slot then s.queue end);
  if s.holds_slot then perform app.charge(p_tenant, s.attempt_started_at, s.expected_ms); end if;
  return true;
end $$;
--> statement-breakpoint
create or replace function app.fail_step(p_tenant text, p_run text, p_step text, p_fence bigint, p_error jsonb, p_retryable boolean) returns text
language plpgsql security definer set search_path = pg_catalog, app as $$
declare s record; v_state text; v_next timestamptz;
begin
  select state into v_state from app.pipeline_run where tenant_id = p_tenant and run_id = p_run for update;
  select * into s from app.run_step
    where tenant_id = p_tenant and run_id = p_run and step_key = p_step and state = 'running' and fence = p_fence for update;
  if not found then return 'stale'; end if;
  if p_retryable and s.attempt < s.max_attempts and v_state <> 'cancelling' then
    v_next := clock_timestamp() + least(s.backoff_cap_ms, s.backoff_ms * power(2, s.attempt - 1)) * (0.5 + random() / 2) * interval '1 ms';
    update app.run_step set state = 'ready', ready_at = v_next, lease_until = null, error = p_error, holds_slot = false, child_run = null
      where tenant_id = p_tenant and run_id = p_run and step_key = p_step;
    perform app.add_event(p_tenant, p_run, 'step.retrying', p_step, p_error || jsonb_build_object('at', v_next, 'attempt', s.attempt));
    update app.tenant_queue set running = running - s.holds_slot::int, next_ready_at = least(next_ready_at, v_next) where tenant_id = p_tenant and queue = s.queue;
    if s.holds_slot then perform app.charge(p_tenant, s.attempt_started_at, s.expected_ms); end if;
    return 'retry';
  end if;
  update app.run_step set state = 'failed', error = p_error, finished_at = clock_timestamp(), lease_until = null, holds_slot = false
    where tenant_id = p_tenant and run_id = p_run and step_key = p_step;
  perform app.audit(p_tenant, 'worker:' || coalesce(s.lease_owner, 'none'), 'step.failed', p_run || '/' || p_step, null,
    jsonb_build_object('type', s.ps_type, 'code', p_error ->> 'code'));
  perform app.settle(p_tenant, p_run, p_step, 'failed', p_error, case when s.holds_slot then s.queue end);
  if s.holds_slot then perform app.charge(p_tenant, s.attempt_started_at, s.expected_ms); end if;
  return 'dead';
end $$;
--> statement-breakpoint
create or replace function app.cancel_step(p_tenant text, p_run text, p_step text, p_fence bigint) returns boolean
language plpgsql security definer set search_path = pg_catalog, app as $$
declare s record; v_state text;
begin
  select state into v_state from app.pipeline_run where tenant_id = p_tenant and run_id = p_run for update;
  if v_state is distinct from 'cancelling' then return false; end if;
  select queue, holds_slot, attempt_started_at, expected_ms into s from app.run_step
    where tenant_id = p_tenant and run_id = p_run and step_key = p_step and state = 'running' and fence = p_fence for update;
  if not found then return false; end if;
  update app.run_step set state = 'cancelled', finished_at = clock_timestamp(), lease_until = null, holds_slot = false
    where tenant_id = p_tenant and run_id = p_run and step_key = p_step;
  perform app.settle(p_tenant, p_run, p_step, 'cancelled', null, case when s.holds_slot then s.queue end);
  if s.holds_slot then perform app.charge(p_tenant, s.attempt_started_at, s.expected_ms); end if;
  return true;
end $$;
--> statement-breakpoint
-- As before; what an operator's stop or restart gives back counts towards no limit.
create or replace function app.release_step(p_tenant text, p_run text, p_step text, p_fence bigint, p_reason text) returns text
language plpgsql security definer set search_path = pg_catalog, app as $$
declare s record; v_state text;
begin
  select state into v_state from app.pipeline_run where tenant_id = p_tenant and run_id = p_run for update;
  select * into s from app.run_step
    where tenant_id = p_tenant and run_id = p_run and step_key = p_step and state = 'running' and holds_slot and fence = p_fence for update;
  if not found then return 'stale'; end if;
  if v_state = 'cancelling' then
    perform app.cancel_step(p_tenant, p_run, p_step, p_fence);
    return 'cancelled';
  end if;
  if s.release_count >= 10 then
    return app.fail_step(p_tenant, p_run, p_step, p_fence,
      jsonb_build_object('code', 'LEASE_EXPIRED', 'message', 'The step was given back ten times and did not finish.', 'retry', 'later'), true);
  end if;
  update app.run_step set state = 'ready', attempt = attempt - 1, release_count = release_count + (p_reason <> 'stop')::int, ready_at = clock_timestamp(), lease_until = null, holds_slot = false
    where tenant_id = p_tenant and run_id = p_run and step_key = p_step;
  perform app.add_event(p_tenant, p_run, 'step.released', p_step, jsonb_build_object('reason', p_reason));
  update app.tenant_queue set running = running - 1, next_ready_at = least(next_ready_at, clock_timestamp()) where tenant_id = p_tenant and queue = s.queue;
  perform app.charge(p_tenant, s.attempt_started_at, s.expected_ms);
  return 'released';
end $$;
--> statement-breakpoint
create or replace function app.adopt(p_worker text) returns int language plpgsql security definer set search_path = pg_catalog, app as $$
declare s record; v_n int := 0;
begin
  for s in select tenant_id, run_id, step_key, fence from app.run_step where state = 'running' and holds_slot and lease_owner is distinct from p_worker loop
    perform app.release_step(s.tenant_id, s.run_id, s.step_key, s.fence, 'restart');
    v_n := v_n + 1;
  end loop;
  return v_n;
end $$;
--> statement-breakpoint
-- Starts a run of the transaction's tenant. Answers {runId, created}; a repeat of the idempotency key answers the first
-- run, and {conflict: true} if the input differs. Refusals: {refused: TENANT_NOT_ACTIVE | QUOTA_EXCEEDED | GROUP_BUSY,
-- limit, used, runId}. A run whose group is full waits, or is refused as its pipeline says.
create or replace function app.start_run(p jsonb) returns jsonb language plpgsql security definer set search_path = pg_catalog, app as $$
declare
  v_tenant text := app.current_tenant();
  v_run text := p ->> 'runId';
  v_key text := p ->> 'idempotencyKey';
  v_group text := p -> 'concurrency' ->> 'group';
  v_max int := (p -> 'concurrency' ->> 'limit')::int;
  v_waiting boolean := false; v_busy text;
  v_is_own boolean := p ->> 'trigger' in ('provision', 'check', 'activate', 'offboard');
  v_status text; v_refusal jsonb; v_hash text; v_first text; q record; s record;
begin
  -- Counting unfinished runs against the quota must not race with another start of the same tenant.
  perform pg_advisory_xact_lock(hashtextextended('start_run ' || v_tenant, 0));
  if v_key is not null then
    select run_id, input_hash into v_first, v_hash from app.pipeline_run where tenant_id = v_tenant and idempotency_key = v_key;
    if found then
      return jsonb_build_object('runId', v_first, 'created', false, 'conflict', v_hash is distinct from (p ->> 'inputHash'));
    end if;
  end if;
  select status into v_status from app.tenant where id = v_tenant;
  -- Onboarding prepares lake and folders by a run of its own before the tenant is active; offboarding removes them by
  -- one when it is no more.
  if v_status is distinct from 'active' and not (v_status = 'provisioning' and p ->> 'trigger' = 'provision')
      and not (v_status = 'suspended' and p ->> 'trigger' = 'offboard') then
    return jsonb_build_object('refused', 'TENANT_NOT_ACTIVE');
  end if;
  v_refusal := app.refused_run(v_tenant, v_is_own);
  if v_refusal is not null then return v_refusal; end if;
  if v_group is not null then
    perform pg_advisory_xact_lock(app.group_key(v_tenant, v_group));
    select run_id into v_busy from app.pipeline_run
      where tenant_id = v_tenant and concurrency_group = v_group and not waiting and state in ('queued', 'running', 'cancelling')
      order by created_at offset v_max - 1 limit 1;
    -- Who comes later does not overtake who waits already.
    if v_busy is null then
      select run_id into v_busy from app.pipeline_run where tenant_id = v_tenant and concurrency_group = v_group and waiting order by created_at limit 1;
    end if;
    if v_busy is not null and p -> 'concurrency' ->> 'onConflict' = 'skip' then
      return jsonb_build_object('refused', 'GROUP_BUSY', 'runId', v_busy);
    end if;
    v_waiting := v_busy is not null;
  end if;
  if not v_is_own then perform app.use_quota(v_tenant, 'runsPerMonth', 1, false); end if;
  insert into app.pipeline_run (tenant_id, run_id, pipeline_id, pipeline_version, trigger_kind, idempotency_key, input_hash, parameters,
      requested_by, pending, timeout_ms, deadline_at, priority, concurrency_group, concurrency_limit, on_conflict, waiting, parent_run_id, parent_step, depth,
      environment)
    values (v_tenant, v_run, p ->> 'pipelineId', (p ->> 'pipelineVersion')::int, p ->> 'trigger', v_key, p ->> 'inputHash',
      coalesce(p -> 'parameters', '{}'), p ->> 'requestedBy', jsonb_array_length(p -> 'steps'), (p ->> 'timeoutMs')::bigint,
      case when not v_waiting then clock_timestamp() + (p ->> 'timeoutMs')::bigint * interval '1 ms' end,
      coalesce((p ->> 'priority')::smallint, 0), v_group, v_max, p -> 'concurrency' ->> 'onConflict', v_waiting,
      p ->> 'parentRunId', p ->> 'parentStep', coalesce((p ->> 'depth')::int, 0), p ->> 'environment');
  insert into app.run_step (tenant_id, run_id, step_key, position, ps_type, queue, state, trigger_rule, needs, dependents, unmet,
      max_attempts, backoff_ms, backoff_cap_ms, timeout_ms, allow_failure, ready_at, settings, credential, priority, for_each)
    select v_tenant, v_run, x ->> 'key', (x ->> 'position')::int, x ->> 'ps_type', x ->> 'queue',
      case when opens then 'ready' else 'blocked' end,
      x ->> 'trigger', array(select jsonb_array_elements_text(x -> 'needs')),
      array(select y ->> 'key' from jsonb_array_elements(p -> 'steps') y where y -> 'needs' ? (x ->> 'key')),
      jsonb_array_length(x -> 'needs'), (x ->> 'max_attempts')::int, (x ->> 'backoff_ms')::int, (x ->> 'backoff_cap_ms')::int,
      (x ->> 'timeout_ms')::bigint, (x ->> 'allow_failure')::boolean,
      case when opens then clock_timestamp() end,
      x -> 'settings', x ->> 'credential', coalesce((p ->> 'priority')::smallint, 0), nullif(x -> 'for_each', 'null')
    from jsonb_array_elements(p -> 'steps') x,
      lateral (select jsonb_array_length(x -> 'needs') = 0 and x ->> 'trigger' <> 'on_failure' and not v_waiting as opens) o;
  perform app.add_event(v_tenant, v_run, 'run.queued', null, case when v_waiting then jsonb_build_object('waitsFor', v_busy) end);
  perform app.audit(v_tenant, p ->> 'requestedBy', 'run.started', v_run, p ->> 'requestId',
    jsonb_build_object('pipelineId', p ->> 'pipelineId', 'version', (p ->> 'pipelineVersion')::int, 'trigger', p ->> 'trigger'));
  for q in select queue, min(ready_at) m from app.run_step where tenant_id = v_tenant and run_id = v_run and state = 'ready' group by queue order by queue loop
    update app.tenant_queue set next_ready_at = least(next_ready_at, q.m) where tenant_id = v_tenant and queue = q.queue;
    if not found then raise exception 'tenant % has no queue %', v_tenant, q.queue; end if;
  end loop;
  if not v_waiting then
    for s in select step_key from app.run_step where tenant_id = v_tenant and run_id = v_run and unmet = 0 and state = 'blocked' loop
      perform app.settle(v_tenant, v_run, s.step_key, 'skipped', null, null);
    end loop;
  end if;
  -- What should end the runs before it asks for that; they are locked by whoever does the errand.
  if v_waiting and p -> 'concurrency' ->> 'onConflict' = 'cancel_running' then
    insert into app.run_errand (tenant_id, run_id, kind) values (v_tenant, v_run, 'room');
  end if;
  return jsonb_build_object('runId', v_run, 'created', true, 'conflict', false);
end $$;
--> statement-breakpoint
-- A running step starts a run of the same tenant and waits for its end without a slot and without a lease. Answers as
-- start_run, or {refused: STALE | CANCELLED | TOO_DEEP}.
create function app.start_child(p_tenant text, p_run text, p_step text, p_fence bigint, p jsonb) returns jsonb
language plpgsql security definer set search_path = pg_catalog, app as $$
declare r record; s record; v_answer jsonb; v_group text := p -> 'concurrency' ->> 'group'; v_busy text;
begin
  if p_tenant is distinct from app.current_tenant() then raise exception 'the transaction is bound to another tenant'; end if;
  select * into r from app.pipeline_run where tenant_id = p_tenant and run_id = p_run for update;
  select * into s from app.run_step
    where tenant_id = p_tenant and run_id = p_run and step_key = p_step and state = 'running' and holds_slot and fence = p_fence for update;
  if not found then return jsonb_build_object('refused', 'STALE'); end if;
  if r.state = 'cancelling' then return jsonb_build_object('refused', 'CANCELLED'); end if;
  if r.depth >= 5 then return jsonb_build_object('refused', 'TOO_DEEP'); end if;
  -- A run that waits for a place which its own ancestor holds would wait for ever.
  with recursive above as (
    select run_id, parent_run_id, concurrency_group from app.pipeline_run where tenant_id = p_tenant and run_id = p_run
    union all
    select a.run_id, a.parent_run_id, a.concurrency_group from app.pipeline_run a join above b on a.tenant_id = p_tenant and a.run_id = b.parent_run_id)
  select run_id into v_busy from above where concurrency_group = v_group limit 1;
  if v_busy is not null then return jsonb_build_object('refused', 'GROUP_BUSY', 'runId', v_busy); end if;
  v_answer := app.start_run(p || jsonb_build_object('parentRunId', p_run, 'parentStep', p_step, 'depth', r.depth + 1, 'priority', r.priority,
    'timeoutMs', least(s.timeout_ms, (p ->> 'timeoutMs')::bigint)));
  if v_answer ? 'refused' then return v_answer; end if;
  update app.run_step set child_run = v_answer ->> 'runId', holds_slot = false, lease_until = null
    where tenant_id = p_tenant and run_id = p_run and step_key = p_step;
  perform app.add_event(p_tenant, p_run, 'step.waiting', p_step, jsonb_build_object('runId', v_answer ->> 'runId'));
  update app.tenant_queue set running = running - 1 where tenant_id = p_tenant and queue = s.queue;
  perform app.charge(p_tenant, s.attempt_started_at, s.expected_ms);
  return v_answer;
end $$;
--> statement-breakpoint
-- A running step becomes one child per item, [{settings, item}], each a step of its own after it; what waited for the
-- step waits for all of them too. False when the fence is stale. The caller keeps to the limits of items and steps.
create function app.expand_step(p_tenant text, p_run text, p_step text, p_fence bigint, p_items jsonb) returns boolean
language plpgsql security definer set search_path = pg_catalog, app as $$
declare s record; v_children text[];
begin
  perform 1 from app.pipeline_run where tenant_id = p_tenant and run_id = p_run for update;
  select * into s from app.run_step
    where tenant_id = p_tenant and run_id = p_run and step_key = p_step and state = 'running' and fence = p_fence for update;
  if not found then return false; end if;
  select array_agg(p_step || '[' || (n - 1) || ']' order by n) into v_children from jsonb_array_elements(p_items) with ordinality x(item, n);
  if v_children is not null then
    insert into app.run_step (tenant_id, run_id, step_key, position, ps_type, queue, state, trigger_rule, needs, dependents, unmet, max_attempts,
        backoff_ms, backoff_cap_ms, timeout_ms, allow_failure, priority, cycle, settings, credential, item, parent_step)
      select p_tenant, p_run, p_step || '[' || (n - 1) || ']', s.position, s.ps_type, s.queue, 'blocked', 'on_success', array[p_step], s.dependents, 1,
        s.max_attempts, s.backoff_ms, s.backoff_cap_ms, s.timeout_ms, s.allow_failure, s.priority, s.cycle, s.settings, s.credential, x.item, p_step
      from jsonb_array_elements(p_items) with ordinality x(item, n);
    update app.run_step set needs = needs || v_children, unmet = unmet + array_length(v_children, 1)
      where tenant_id = p_tenant and run_id = p_run and step_key = any (s.dependents);
    update app.run_step set dependents = dependents || v_children where tenant_id = p_tenant and run_id = p_run and step_key = p_step;
    update app.pipeline_run set pending = pending + array_length(v_children, 1) where tenant_id = p_tenant and run_id = p_run;
  end if;
  return app.complete_step(p_tenant, p_run, p_step, p_fence, jsonb_build_object('count', coalesce(array_length(v_children, 1), 0)), '[]');
end $$;
--> statement-breakpoint
-- As before; a step that fans out again makes its children anew, and a run whose group is full stays as it is: GROUP_BUSY.
create or replace function app.retry_run(p_run text, p_from text, p_actor text, p_request text) returns jsonb
language plpgsql security definer set search_path = pg_catalog, app as $$
declare v_tenant text := app.current_tenant(); r record; v_set text[]; v_more text[]; v_gone text[]; v_busy text;
begin
  select * into r from app.pipeline_run where tenant_id = v_tenant and run_id = p_run for update;
  if not found then return jsonb_build_object('refused', 'NOT_FOUND'); end if;
  if r.state not in ('failed', 'cancelled', 'timed_out') and not (r.state = 'succeeded' and p_from is not null) then
    return jsonb_build_object('refused', 'CONFLICT', 'state', r.state);
  end if;
  if p_from is not null and not exists (select from app.run_step where tenant_id = v_tenant and run_id = p_run and step_key = p_from) then
    return jsonb_build_object('refused', 'NOT_FOUND');
  end if;
  if r.concurrency_group is not null then
    perform pg_advisory_xact_lock(app.group_key(v_tenant, r.concurrency_group));
    select run_id into v_busy from app.pipeline_run
      where tenant_id = v_tenant and concurrency_group = r.concurrency_group and state in ('queued', 'running', 'cancelling')
      order by created_at offset r.concurrency_limit - 1 limit 1;
    if v_busy is not null then return jsonb_build_object('refused', 'GROUP_BUSY', 'runId', v_busy); end if;
  end if;
  select array_agg(step_key) into v_set from app.run_step
    where tenant_id = v_tenant and run_id = p_run and (state in ('failed', 'cancelled') or step_key = p_from);
  loop
    select array_agg(distinct d) into v_more from app.run_step x, unnest(x.dependents) d
      where x.tenant_id = v_tenant and x.run_id = p_run and x.step_key = any (v_set) and not d = any (v_set);
    exit when v_more is null;
    v_set := v_set || v_more;
  end loop;
  select array_agg(step_key) into v_gone from app.run_step where tenant_id = v_tenant and run_id = p_run and parent_step = any (v_set);
  if v_gone is not null then
    delete from app.run_step where tenant_id = v_tenant and run_id = p_run and step_key = any (v_gone);
    update app.run_step set needs = array(select n from unnest(needs) n where not n = any (v_gone)),
        dependents = array(select d from unnest(dependents) d where not d = any (v_gone))
      where tenant_id = v_tenant and run_id = p_run and (needs && v_gone or dependents && v_gone);
    v_set := array(select k from unnest(v_set) k where not k = any (v_gone));
  end if;
  update app.run_step x set cycle = x.cycle + (x.state = 'succeeded')::int, attempt = 0, release_count = 0, error = null, result = null, progress = null, ready_at = null,
      started_at = null, finished_at = null, fence = null, lease_owner = null, lease_until = null, child_run = null, discarded_at = null, discarded_by = null, state = 'blocked',
      unmet = (select count(*) from unnest(x.needs) n where n = any (v_set)),
      up_failed = (select count(*) from app.run_step u where u.tenant_id = v_tenant and u.run_id = p_run and u.step_key = any (x.needs)
        and not u.step_key = any (v_set) and u.state = 'failed' and not u.allow_failure),
      up_bad = (select count(*) from app.run_step u where u.tenant_id = v_tenant and u.run_id = p_run and u.step_key = any (x.needs)
        and not u.step_key = any (v_set) and u.state <> 'succeeded' and not (u.state = 'failed' and u.allow_failure))
    where x.tenant_id = v_tenant and x.run_id = p_run and x.step_key = any (v_set);
  update app.pipeline_run set state = 'running', pending = coalesce(array_length(v_set, 1), 0), failed = 0, error = null, cancel_reason = null,
      finished_at = null, deadline_at = clock_timestamp() + timeout_ms * interval '1 ms'
    where tenant_id = v_tenant and run_id = p_run;
  perform app.add_event(v_tenant, p_run, 'run.retrying', null, jsonb_build_object('steps', to_jsonb(v_set)));
  perform app.audit(v_tenant, p_actor, 'run.retrying', p_run, p_request, jsonb_build_object('steps', to_jsonb(v_set)));
  perform app.open_steps(v_tenant, p_run, v_set);
  return jsonb_build_object('state', (select state from app.pipeline_run where tenant_id = v_tenant and run_id = p_run));
end $$;
--> statement-breakpoint
-- A failed step that nobody will run again leaves the list of dead letters; its run stays failed. False when there is no
-- such step, or it has been discarded, or its run goes on.
create function app.discard_step(p_run text, p_step text, p_reason text, p_actor text, p_request text) returns boolean
language plpgsql security definer set search_path = pg_catalog, app as $$
declare v_tenant text := app.current_tenant();
begin
  perform 1 from app.pipeline_run where tenant_id = v_tenant and run_id = p_run and state in ('succeeded', 'failed', 'cancelled', 'timed_out') for update;
  if not found then return false; end if;
  update app.run_step set discarded_at = clock_timestamp(), discarded_by = p_actor
    where tenant_id = v_tenant and run_id = p_run and step_key = p_step and state = 'failed' and discarded_at is null;
  if not found then return false; end if;
  perform app.add_event(v_tenant, p_run, 'step.discarded', p_step, jsonb_build_object('reason', p_reason));
  perform app.audit(v_tenant, p_actor, 'step.discarded', p_run || '/' || p_step, p_request, jsonb_build_object('reason', p_reason));
  return true;
end $$;
--> statement-breakpoint
-- As before, and: errands, and groups whose errand was lost to somebody else's lock.
create or replace function app.tick(p_limit int) returns table (o_tenant text, o_queue text)
language plpgsql security definer set search_path = pg_catalog, app as $$
declare r record;
begin
  perform app.reap(p_limit);
  for r in select tenant_id, run_id from app.pipeline_run
    where state in ('queued', 'running') and deadline_at < clock_timestamp() order by deadline_at limit p_limit for update skip locked
  loop
    perform app.begin_cancel(r.tenant_id, r.run_id, 'deadline', 'system:ledger', null);
  end loop;
  perform app.run_errands(p_limit);
  for r in select distinct tenant_id, concurrency_group from app.pipeline_run where waiting loop
    perform app.admit_run(r.tenant_id, r.concurrency_group);
  end loop;
  update app.tenant_queue q set next_ready_at = x.m
    from (select tenant_id, queue, min(ready_at) m from app.run_step where state = 'ready' group by tenant_id, queue) x
    where q.tenant_id = x.tenant_id and q.queue = x.queue and q.next_ready_at > x.m;
  return query select q.tenant_id, q.queue from app.tenant_queue q
    where q.desired = 'running' and q.next_ready_at <= clock_timestamp() and q.running < q.max_running;
end $$;
--> statement-breakpoint
grant create on schema app to tributary_ledger;
--> statement-breakpoint
do $$
declare f record;
begin
  for f in select p.oid::regprocedure::text as name from pg_proc p
    where p.pronamespace = 'app'::regnamespace and p.proname in ('group_key', 'may_start', 'charge', 'open_steps', 'admit_run', 'end_child', 'run_errands', 'start_child', 'expand_step', 'discard_step')
  loop
    execute format('alter function %s owner to tributary_ledger', f.name);
    execute format('revoke all on function %s from public', f.name);
  end loop;
end $$;
--> statement-breakpoint
revoke create on schema app from tributary_ledger;
--> statement-breakpoint
grant execute on function app.discard_step(text, text, text, text, text) to tributary_api;
--> statement-breakpoint
grant execute on function app.start_child(text, text, text, bigint, jsonb), app.expand_step(text, text, text, bigint, jsonb), app.start_run(jsonb) to tributary_worker;
