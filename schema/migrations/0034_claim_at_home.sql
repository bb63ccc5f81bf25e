-- A worker claims and makes the tenant its own in one call, and may do so in the transaction that ends its last step.
--
-- take_homes stays for workers of the release before, which run on while tables are migrated.
--
-- Tenants whose lakes are in another folder, or open in another worker, are left to that one.
drop function app.claimable(text[], text[]);
--> statement-breakpoint
create function app.claimable(p_queues text[], p_tenants text[], p_worker text, p_folder text)
returns table (tenant_id text, queue text, max_running_total int, weight int, average_ms float8, start float8, lead float8, turn_at timestamptz) language sql stable as $$
  select q.tenant_id, q.queue, l.max_running_total, l.weight, coalesce(u.average_ms, 1000), t.start, t.start - k.virtual_ms, q.turn_at
  from app.tenant_queue q join app.tenant_limit l on l.tenant_id = q.tenant_id join app.turn_clock k on k.queue = q.queue
    left join app.tenant_turn u on u.tenant_id = q.tenant_id,
    lateral (select least(greatest(q.turn_ms + coalesce(u.virtual_ms, 0) - q.charged_ms, k.virtual_ms), k.virtual_ms + 10000) as start) t
  where q.queue = any (p_queues) and q.desired = 'running' and q.has_ready and q.next_ready_at <= clock_timestamp()
    and q.running < q.max_running and (p_tenants is null or q.tenant_id = any (p_tenants)) and coalesce(u.running, 0) < l.max_running_total
    and (p_folder is null or not exists (select from app.tenant_home h where h.tenant_id = q.tenant_id
      and not (h.folder = p_folder and (h.worker = p_worker or h.until < clock_timestamp()))))
$$;
--> statement-breakpoint
-- Makes a tenant the worker's own, or says that it is another's. It waits for nobody who holds more than this one row: two
-- claims of one tenant take turns before they come here.
create function app.enter_home(p_tenant text, p_worker text, p_folder text, p_lease_ms int) returns boolean language plpgsql as $$
begin
  perform 1 from app.tenant_home where tenant_id = p_tenant and folder = p_folder and (worker = p_worker or until < clock_timestamp())
    for update skip locked;
  if found then
    update app.tenant_home set worker = p_worker, settled = true, until = clock_timestamp() + p_lease_ms * interval '1 ms'
      where tenant_id = p_tenant;
    return true;
  end if;
  insert into app.tenant_home (tenant_id, folder, worker, until, settled)
    values (p_tenant, p_folder, p_worker, clock_timestamp() + p_lease_ms * interval '1 ms', true) on conflict do nothing;
  return found;
end $$;
--> statement-breakpoint
drop function app.claim_steps(text, text[], int, int, text[]);
--> statement-breakpoint
-- With p_folder it claims for tenants only that are this worker's, or may become so, and makes them so. Without p_waits it
-- takes what it gets without waiting for any lock, and leaves errands to others: a transaction that holds rows of one
-- tenant can then claim for another, and is in no cycle.
create function app.claim_steps(p_worker text, p_queues text[], p_limit int, p_lease_ms int, p_tenants text[] default null,
  p_folder text default null, p_waits boolean default true)
returns table (o_tenant text, o_run text, o_step text, o_fence bigint, o_attempt int)
language plpgsql security definer set search_path = pg_catalog, app set plan_cache_mode = force_generic_plan as $$
declare
  t record; s record; v_n int; v_room int; v_left int := p_limit; v_fence bigint; v_key bigint; v_charged float8;
  v_first boolean := true; v_errand boolean; v_waited boolean := false;
begin
  if exists (select from app.system_control where desired = 'stopped') then return; end if;
  v_errand := exists (select from app.run_errand);
  if v_errand then
    if not p_waits then return; end if;
    perform app.run_errands(1);
  end if;
  loop
    for t in
      select q.tenant_id, q.queue, q.generation, least(q.quantum, q.max_running - q.running) room, c.max_running_total, c.weight, c.start, c.earliest, c.average_ms
      from (select *, min(start) over (partition by queue) as earliest from app.claimable(p_queues, p_tenants, p_worker, p_folder)) c
        join app.tenant_queue q on q.tenant_id = c.tenant_id and q.queue = c.queue
      where c.start <= c.earliest + 1000 and q.desired = 'running' and q.next_ready_at <= clock_timestamp() and q.running < q.max_running
      order by c.lead, c.turn_at limit p_limit for update of q skip locked
    loop
      -- The total of a tenant spans its queues: two claims of one tenant take turns. Only the first may wait, so no cycle.
      v_key := hashtextextended('claim ' || t.tenant_id, 0);
      if v_first and p_waits then perform pg_advisory_xact_lock(v_key); elsif not pg_try_advisory_xact_lock(v_key) then continue; end if;
      v_first := false;
      if not p_waits then
        -- Its first row is made by a claim, and of those this is the only one now.
        perform 1 from app.tenant_turn where tenant_id = t.tenant_id for update skip locked;
        if not found then
          insert into app.tenant_turn (tenant_id, virtual_ms, running) values (t.tenant_id, 0, 0) on conflict do nothing;
          if not found then continue; end if;
        end if;
      end if;
      v_room := least(t.room, t.max_running_total - coalesce((select running from app.tenant_turn where tenant_id = t.tenant_id), 0));
      if v_room <= 0 then continue; end if;
      v_n := 0;
      for s in
        select x.run_id, x.step_key, x.attempt
        from app.run_step x join app.pipeline_run r on r.tenant_id = x.tenant_id and r.run_id = x.run_id
        where x.tenant_id = t.tenant_id and x.queue = t.queue and x.state = 'ready' and x.ready_at <= clock_timestamp()
        order by x.priority desc, x.ready_at limit least(v_room, v_left) for update of x, r skip locked
      loop
        if v_n = 0 and p_folder is not null and not app.enter_home(t.tenant_id, p_worker, p_folder, p_lease_ms) then exit; end if;
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
    exit when not p_waits or not v_first or v_errand or v_waited;
    -- A turn that was over by the time its row was locked is not taken, but its row stays locked to the end, and who waits
    -- with that in hand can be waited for by the one it waits for. A transaction has a number once it holds a row.
    if pg_current_xact_id_if_assigned() is not null then
      raise exception 'the turns changed hands while they were looked at' using errcode = 'serialization_failure';
    end if;
    perform 1 from app.claimable(p_queues, p_tenants, p_worker, p_folder) c join app.tenant_queue q on q.tenant_id = c.tenant_id and q.queue = c.queue
      order by c.lead limit 1 for update of q;
    exit when not found;
    v_waited := true;
  end loop;
end $$;
--> statement-breakpoint
-- Ends a step in success, and claims the next one for the slot that is free by it: one transaction, where two would each
-- wait for the log to be flushed. o_done is false when the fence is stale; then, and when there is nothing to be had
-- without waiting, the rest is null.
create function app.complete_and_claim(p_tenant text, p_run text, p_step text, p_fence bigint, p_result jsonb, p_outbox jsonb,
  p_worker text, p_queues text[], p_lease_ms int, p_tenants text[] default null, p_folder text default null)
returns table (o_done boolean, o_tenant text, o_run text, o_step text, o_fence bigint, o_attempt int)
language plpgsql security definer set search_path = pg_catalog, app set plan_cache_mode = force_generic_plan as $$
begin
  o_done := app.complete_step(p_tenant, p_run, p_step, p_fence, p_result, p_outbox);
  if o_done then
    select c.o_tenant, c.o_run, c.o_step, c.o_fence, c.o_attempt into o_tenant, o_run, o_step, o_fence, o_attempt
      from app.claim_steps(p_worker, p_queues, 1, p_lease_ms, p_tenants, p_folder, false) c;
  end if;
  return next;
end $$;
--> statement-breakpoint
grant create on schema app to tributary_ledger;
--> statement-breakpoint
do $$
declare f text;
begin
  foreach f in array array['app.claimable(text[], text[], text, text)', 'app.enter_home(text, text, text, int)',
    'app.claim_steps(text, text[], int, int, text[], text, boolean)',
    'app.complete_and_claim(text, text, text, bigint, jsonb, jsonb, text, text[], int, text[], text)'] loop
    execute format('alter function %s owner to tributary_ledger', f);
    execute format('revoke all on function %s from public', f);
  end loop;
end $$;
--> statement-breakpoint
revoke create on schema app from tributary_ledger;
--> statement-breakpoint
grant execute on function app.claim_steps(text, text[], int, int, text[], text, boolean),
  app.complete_and_claim(text, text, text, bigint, jsonb, jsonb, text, text[], int, text[], text) to tributary_worker;
