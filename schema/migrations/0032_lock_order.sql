-- Locks of the ledger in one order: two transactions that take rows of a tenant's queues crosswise end in one of them
-- being given up by PostgreSQL, which costs a second and a step's last word.
create or replace function app.claim_steps(p_worker text, p_queues text[], p_limit int, p_lease_ms int, p_tenants text[] default null)
returns table (o_tenant text, o_run text, o_step text, o_fence bigint, o_attempt int)
language plpgsql security definer set search_path = pg_catalog, app set plan_cache_mode = force_generic_plan as $$
declare
  t record; s record; v_n int; v_room int; v_left int := p_limit; v_fence bigint; v_key bigint; v_charged float8;
  v_first boolean := true; v_errand boolean; v_waited boolean := false;
begin
  if exists (select from app.system_control where desired = 'stopped') then return; end if;
  v_errand := exists (select from app.run_errand);
  if v_errand then perform app.run_errands(1); end if;
  loop
    for t in
      select q.tenant_id, q.queue, q.generation, least(q.quantum, q.max_running - q.running) room, c.max_running_total, c.weight, c.start, c.earliest, c.average_ms
      from (select *, min(start) over (partition by queue) as earliest from app.claimable(p_queues, p_tenants)) c
        join app.tenant_queue q on q.tenant_id = c.tenant_id and q.queue = c.queue
      where c.start <= c.earliest + 1000 and q.desired = 'running' and q.next_ready_at <= clock_timestamp() and q.running < q.max_running
      order by c.lead, c.turn_at limit p_limit for update of q skip locked
    loop
      -- The total of a tenant spans its queues: two claims of one tenant take turns. Only the first may wait, so no cycle.
      v_key := hashtextextended('claim ' || t.tenant_id, 0);
      if v_first then perform pg_advisory_xact_lock(v_key); elsif not pg_try_advisory_xact_lock(v_key) then continue; end if;
      v_first := false;
      v_room := least(t.room, t.max_running_total - coalesce((select running from app.tenant_turn where tenant_id = t.tenant_id), 0));
      if v_room <= 0 then continue; end if;
      v_n := 0;
      for s in
        select x.run_id, x.step_key, x.attempt
        from app.run_step x join app.pipeline_run r on r.tenant_id = x.tenant_id and r.run_id = x.run_id
        where x.tenant_id = t.tenant_id and x.queue = t.queue and x.state = 'ready' and x.ready_at <= clock_timestamp()
        order by x.priority desc, x.ready_at limit least(v_room, v_left) for update of x, r skip locked
      loop
        v_fence := nextval('app.fence_seq');
        with taken as (
          update app.run_step set state = 'running', attempt = s.attempt + 1, fence = v_fence, lease_owner = p_worker, generation = t.generation,
              lease_until = clock_timestamp() + p_lease_ms * interval '1 ms', attempt_started_at = clock_timestamp(),
              started_at = coalesce(started_at, clock_timestamp()), progress = null, error = null, holds_slot = true, expected_ms = t.average_ms
            where tenant_id = t.tenant_id and run_id = s.run_id and step_key = s.step_key
        ), run as (
          update app.pipeline_run set event_seq = event_seq + 1, state = case when state = 'queued' then 'running' else state end,
              started_at = coalesce(started_at, clock_timestamp())
            where tenant_id = t.tenant_id and run_id = s.run_id returning event_seq
        )
        insert into app.run_event (tenant_id, run_id, seq, type, step_key, data)
          select t.tenant_id, s.run_id, event_seq, 'step.started', s.step_key, jsonb_build_object('attempt', s.attempt + 1) from run;
        o_tenant := t.tenant_id; o_run := s.run_id; o_step := s.step_key; o_fence := v_fence; o_attempt := s.attempt + 1;
        v_n := v_n + 1;
        return next;
      end loop;
      if v_n > 0 then
        insert into app.tenant_turn as u (tenant_id, virtual_ms, running) values (t.tenant_id, v_n * t.average_ms / t.weight, v_n)
          on conflict (tenant_id) do update set virtual_ms = u.virtual_ms + v_n * t.average_ms / t.weight, running = u.running + v_n
          returning u.virtual_ms into v_charged;
        -- By the first turn and not by one that passed it over: what is before the clock is forgotten. The clock may lag by
        -- 50 ms of turns: a row that every claim writes would make claims wait for each other.
        perform 1 from app.turn_clock where queue = t.queue and virtual_ms < t.earliest - 50 for update skip locked;
        if found then update app.turn_clock set virtual_ms = t.earliest where queue = t.queue and virtual_ms < t.earliest; end if;
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
    -- All that could be claimed may be in other hands for the moment of a commit; a worker that leaves empty-handed looks
    -- again only when it is woken. Who holds nothing may wait for it, once.
    exit when not v_first or v_errand or v_waited;
    -- A turn that was over by the time its row was locked is not taken, but its row stays locked to the end, and who waits
    -- with that in hand can be waited for by the one it waits for. A transaction has a number once it holds a row.
    if pg_current_xact_id_if_assigned() is not null then
      raise exception 'the turns changed hands while they were looked at' using errcode = 'serialization_failure';
    end if;
    perform 1 from app.claimable(p_queues, p_tenants) c join app.tenant_queue q on q.tenant_id = c.tenant_id and q.queue = c.queue
      order by c.lead limit 1 for update of q;
    exit when not found;
    v_waited := true;
  end loop;
end $$;
--> statement-breakpoint
create or replace function app.start_child(p_tenant text, p_run text, p_step text, p_fence bigint, p jsonb) returns jsonb
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
  -- The run takes rows of its queues, and this step then gives back its own: in one order, or it meets a settle crosswise.
  perform 1 from app.tenant_queue where tenant_id = p_tenant order by queue for update;
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
create or replace function app.reap(p_limit int) returns int language plpgsql security definer set search_path = pg_catalog, app as $$
declare s record; v_n int := 0;
begin
  -- Several steps of a tenant in one transaction: the rows of its queues come before what the first of them charges.
  perform 1 from app.tenant_queue where tenant_id in (
      select tenant_id from app.run_step where state = 'running' and lease_until < clock_timestamp() order by lease_until limit p_limit)
    order by tenant_id, queue for update;
  for s in select tenant_id, run_id, step_key, fence from app.run_step where state = 'running' and lease_until < clock_timestamp() order by lease_until limit p_limit loop
    -- A run that someone works on is left for the next round; one renewed or completed meanwhile is left alone.
    perform 1 from app.pipeline_run where tenant_id = s.tenant_id and run_id = s.run_id for update skip locked;
    if not found then continue; end if;
    select * into s from app.run_step
      where tenant_id = s.tenant_id and run_id = s.run_id and step_key = s.step_key and state = 'running' and fence = s.fence and lease_until < clock_timestamp() for update;
    if not found then continue; end if;
    if clock_timestamp() > s.attempt_started_at + s.timeout_ms * interval '1 ms' then
      perform app.fail_step(s.tenant_id, s.run_id, s.step_key, s.fence,
        jsonb_build_object('code', 'TIMED_OUT', 'message', format('The step took longer than its timeout of %s s.', s.timeout_ms / 1000), 'retry', 'later'), true);
    else
      perform app.release_step(s.tenant_id, s.run_id, s.step_key, s.fence, 'lease_expired');
    end if;
    v_n := v_n + 1;
  end loop;
  return v_n;
end $$;
