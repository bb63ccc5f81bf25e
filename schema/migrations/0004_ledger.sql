-- The run ledger. Rows are the truth and only these functions write them; whoever calls them is tributary_api (one
-- tenant, from the transaction's setting) or tributary_worker (any tenant, by fence). They run as tributary_ledger.
-- Lock order: run, then step, then the tenant's queue rows by name. claim_steps goes the other way, but never waits.

create function app.current_tenant() returns text language plpgsql stable as $$
declare v text := current_setting('app.tenant_id', true);
begin
  if v is null or v = '' then raise exception 'no tenant is set for this transaction'; end if;
  return v;
end $$;
--> statement-breakpoint
create function app.audit(p_tenant text, p_actor text, p_action text, p_target text, p_request text, p_details jsonb) returns void language sql as $$
  insert into app.audit_event (tenant_id, id, actor, action, target, request_id, details)
  values (p_tenant, 'aud_' || replace(gen_random_uuid()::text, '-', ''), p_actor, p_action, p_target, p_request, coalesce(p_details, '{}'))
$$;
--> statement-breakpoint
-- Appends an event; the caller holds the run row.
create function app.add_event(p_tenant text, p_run text, p_type text, p_step text, p_data jsonb) returns bigint language plpgsql as $$
declare v_seq bigint;
begin
  update app.pipeline_run set event_seq = event_seq + 1 where tenant_id = p_tenant and run_id = p_run returning event_seq into v_seq;
  insert into app.run_event (tenant_id, run_id, seq, type, step_key, data) values (p_tenant, p_run, v_seq, p_type, p_step, p_data);
  return v_seq;
end $$;
--> statement-breakpoint
-- Carries the end of a step to the steps that wait for it and, when nothing is left, ends the run.
-- The caller holds the run row. p_release names the queue whose running count falls, if the step held a slot.
create function app.settle(p_tenant text, p_run text, p_step text, p_state text, p_data jsonb, p_release text) returns void language plpgsql as $$
declare
  v_work text[] := array[p_step];
  v_states text[] := array[p_state];
  v_key text; v_state text; v_run_state text; v_reason text; v_bad boolean; v_failed boolean;
  v_queues text[] := '{}';
  v_pending int; v_fail_count int; v_final text;
  d record; q text; i int := 1;
begin
  select state, cancel_reason into v_run_state, v_reason from app.pipeline_run where tenant_id = p_tenant and run_id = p_run;
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
      if d.unmet = 0 then
        if v_run_state <> 'cancelling' and ((d.trigger_rule = 'on_success' and d.up_bad = 0)
            or (d.trigger_rule = 'on_failure' and d.up_failed > 0) or d.trigger_rule = 'always') then
          update app.run_step set state = 'ready', ready_at = clock_timestamp()
            where tenant_id = p_tenant and run_id = p_run and step_key = d.step_key;
          v_queues := v_queues || d.queue;
          perform app.add_event(p_tenant, p_run, 'step.ready', d.step_key, null);
        else
          v_work := v_work || d.step_key;
          v_states := v_states || (case when v_run_state = 'cancelling' then 'cancelled' else 'skipped' end);
        end if;
      end if;
    end loop;
    i := i + 1;
  end loop;
  -- One ordered pass over the queue rows: two settles of one tenant cannot lock each other out.
  for q in select distinct u from unnest(v_queues || p_release) u where u is not null order by 1 loop
    update app.tenant_queue set
        running = running - (q is not distinct from p_release)::int,
        next_ready_at = case when q = any (v_queues) then least(next_ready_at, clock_timestamp()) else next_ready_at end
      where tenant_id = p_tenant and queue = q;
  end loop;
  select pending, failed into v_pending, v_fail_count from app.pipeline_run where tenant_id = p_tenant and run_id = p_run;
  if v_pending = 0 then
    v_final := case
      when v_run_state = 'cancelling' and v_reason = 'deadline' then 'timed_out'
      when v_run_state = 'cancelling' then 'cancelled'
      when v_fail_count > 0 then 'failed'
      else 'succeeded' end;
    update app.pipeline_run set state = v_final, finished_at = clock_timestamp() where tenant_id = p_tenant and run_id = p_run;
    perform app.add_event(p_tenant, p_run, 'run.' || v_final, null, null);
    perform app.audit(p_tenant, 'system:ledger', 'run.' || v_final, p_run, null, null);
  end if;
end $$;
--> statement-breakpoint
-- Starts a run of the transaction's tenant. Answers {runId, created}; a repeat of the idempotency key answers the first
-- run, and {conflict: true} if the input differs. Refusals: {refused: TENANT_NOT_ACTIVE | QUOTA_EXCEEDED, limit, used}.
create function app.start_run(p jsonb) returns jsonb language plpgsql security definer set search_path = pg_catalog, app as $$
declare
  v_tenant text := app.current_tenant();
  v_run text := p ->> 'runId';
  v_key text := p ->> 'idempotencyKey';
  v_status text; v_limit int; v_used int; v_hash text; v_first text; q record; s record;
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
  -- Onboarding prepares lake and folders by a run of its own, before the tenant is active.
  if v_status is distinct from 'active' and not (v_status = 'provisioning' and p ->> 'trigger' = 'provision') then
    return jsonb_build_object('refused', 'TENANT_NOT_ACTIVE');
  end if;
  select max_queued_runs into v_limit from app.tenant_limit where tenant_id = v_tenant;
  select count(*) into v_used from app.pipeline_run where tenant_id = v_tenant and state in ('queued', 'running', 'cancelling');
  if v_used >= coalesce(v_limit, 0) then
    return jsonb_build_object('refused', 'QUOTA_EXCEEDED', 'limit', coalesce(v_limit, 0), 'used', v_used);
  end if;
  insert into app.pipeline_run (tenant_id, run_id, pipeline_id, pipeline_version, trigger_kind, idempotency_key, input_hash, parameters,
      requested_by, pending, timeout_ms, deadline_at)
    values (v_tenant, v_run, p ->> 'pipelineId', (p ->> 'pipelineVersion')::int, p ->> 'trigger', v_key, p ->> 'inputHash',
      coalesce(p -> 'parameters', '{}'), p ->> 'requestedBy', jsonb_array_length(p -> 'steps'), (p ->> 'timeoutMs')::bigint,
      clock_timestamp() + (p ->> 'timeoutMs')::bigint * interval '1 ms');
  insert into app.run_step (tenant_id, run_id, step_key, position, ps_type, queue, state, trigger_rule, needs, dependents, unmet,
      max_attempts, backoff_ms, backoff_cap_ms, timeout_ms, allow_failure, ready_at, settings, credential)
    select v_tenant, v_run, x ->> 'key', (x ->> 'position')::int, x ->> 'ps_type', x ->> 'queue',
      case when jsonb_array_length(x -> 'needs') = 0 and x ->> 'trigger' <> 'on_failure' then 'ready' else 'blocked' end,
      x ->> 'trigger', array(select jsonb_array_elements_text(x -> 'needs')),
      array(select y ->> 'key' from jsonb_array_elements(p -> 'steps') y where y -> 'needs' ? (x ->> 'key')),
      jsonb_array_length(x -> 'needs'), (x ->> 'max_attempts')::int, (x ->> 'backoff_ms')::int, (x ->> 'backoff_cap_ms')::int,
      (x ->> 'timeout_ms')::bigint, (x ->> 'allow_failure')::boolean,
      case when jsonb_array_length(x -> 'needs') = 0 and x ->> 'trigger' <> 'on_failure' then clock_timestamp() end,
      x -> 'settings', x ->> 'credential'
    from jsonb_array_elements(p -> 'steps') x;
  perform app.add_event(v_tenant, v_run, 'run.queued', null, null);
  perform app.audit(v_tenant, p ->> 'requestedBy', 'run.started', v_run, p ->> 'requestId',
    jsonb_build_object('pipelineId', p ->> 'pipelineId', 'version', (p ->> 'pipelineVersion')::int, 'trigger', p ->> 'trigger'));
  for q in select queue, min(ready_at) m from app.run_step where tenant_id = v_tenant and run_id = v_run and state = 'ready' group by queue order by queue loop
    update app.tenant_queue set next_ready_at = least(next_ready_at, q.m) where tenant_id = v_tenant and queue = q.queue;
    if not found then raise exception 'tenant % has no queue %', v_tenant, q.queue; end if;
  end loop;
  for s in select step_key from app.run_step where tenant_id = v_tenant and run_id = v_run and unmet = 0 and state = 'blocked' loop
    perform app.settle(v_tenant, v_run, s.step_key, 'skipped', null, null);
  end loop;
  return jsonb_build_object('runId', v_run, 'created', true, 'conflict', false);
end $$;
--> statement-breakpoint
-- Hands out ready steps: the tenant whose turn is longest ago first, at most `quantum` of each per turn, never above the
-- queue's and the tenant's limits. The first statement locks turn rows; the later ones read with a fresh snapshot, so
-- that a step made ready meanwhile is not written out of next_ready_at.
create function app.claim_steps(p_worker text, p_queues text[], p_limit int, p_lease_ms int, p_tenants text[] default null)
returns table (o_tenant text, o_run text, o_step text, o_fence bigint, o_attempt int)
language plpgsql security definer set search_path = pg_catalog, app as $$
declare t record; s record; v_n int; v_room int; v_left int := p_limit; v_fence bigint; v_seq bigint; v_first boolean := true; v_key bigint;
begin
  if exists (select from app.system_control where desired = 'stopped') then return; end if;
  for t in
    select q.tenant_id, q.queue, q.generation, least(q.quantum, q.max_running - q.running) room, l.max_running_total
    from app.tenant_queue q join app.tenant_limit l on l.tenant_id = q.tenant_id
    where q.queue = any (p_queues) and q.desired = 'running' and q.next_ready_at < 'infinity' and q.next_ready_at <= clock_timestamp()
      and q.running < q.max_running and (p_tenants is null or q.tenant_id = any (p_tenants))
    order by q.turn_at limit p_limit for update of q skip locked
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
          started_at = coalesce(started_at, clock_timestamp()), progress = null, error = null
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
    update app.tenant_queue q set running = running + v_n, turn_at = clock_timestamp(), next_ready_at = coalesce(
        (select min(x.ready_at) from app.run_step x where x.tenant_id = t.tenant_id and x.queue = t.queue and x.state = 'ready'), 'infinity')
      where q.tenant_id = t.tenant_id and q.queue = t.queue;
    v_left := v_left - v_n;
    exit when v_left <= 0;
  end loop;
end $$;
--> statement-breakpoint
-- Extends a lease, never past the step's time limit. Answers ok, cancel, release, timeout; null when the fence is stale.
create function app.heartbeat(p_tenant text, p_run text, p_step text, p_fence bigint, p_lease_ms int) returns text
language sql security definer set search_path = pg_catalog, app as $$
  update app.run_step x set lease_until = least(clock_timestamp() + p_lease_ms * interval '1 ms',
      x.attempt_started_at + (x.timeout_ms + p_lease_ms) * interval '1 ms')
  from app.pipeline_run r, app.tenant_queue q
  where x.tenant_id = p_tenant and x.run_id = p_run and x.step_key = p_step and x.state = 'running' and x.fence = p_fence
    and r.tenant_id = p_tenant and r.run_id = p_run and q.tenant_id = p_tenant and q.queue = x.queue
  returning case
    when r.state = 'cancelling' then 'cancel'
    when q.desired = 'stopped' or q.generation <> x.generation then 'release'
    when clock_timestamp() > x.attempt_started_at + x.timeout_ms * interval '1 ms' then 'timeout'
    else 'ok' end
$$;
--> statement-breakpoint
-- Progress and log lines of a running step: [{level, message}]. False when the fence is stale.
create function app.report_step(p_tenant text, p_run text, p_step text, p_fence bigint, p_progress jsonb, p_logs jsonb) returns boolean
language plpgsql security definer set search_path = pg_catalog, app as $$
declare l jsonb;
begin
  perform 1 from app.pipeline_run where tenant_id = p_tenant and run_id = p_run for update;
  update app.run_step set progress = coalesce(p_progress, progress)
    where tenant_id = p_tenant and run_id = p_run and step_key = p_step and state = 'running' and fence = p_fence;
  if not found then return false; end if;
  if p_progress is not null then perform app.add_event(p_tenant, p_run, 'step.progress', p_step, p_progress); end if;
  for l in select value from jsonb_array_elements(coalesce(p_logs, '[]')) loop
    perform app.add_event(p_tenant, p_run, 'step.log', p_step, l);
  end loop;
  return true;
end $$;
--> statement-breakpoint
-- A step's success with everything that follows from it in one transaction. False, and nothing changed, when the fence is stale.
create function app.complete_step(p_tenant text, p_run text, p_step text, p_fence bigint, p_result jsonb, p_outbox jsonb) returns boolean
language plpgsql security definer set search_path = pg_catalog, app as $$
declare s record; m jsonb; i int := 0;
begin
  perform 1 from app.pipeline_run where tenant_id = p_tenant and run_id = p_run for update;
  update app.run_step set state = 'succeeded', result = p_result, finished_at = clock_timestamp(), lease_until = null
    where tenant_id = p_tenant and run_id = p_run and step_key = p_step and state = 'running' and fence = p_fence
    returning queue, ps_type, lease_owner into s;
  if not found then return false; end if;
  insert into app.effect (tenant_id, run_id, step_key, effect_key, fence, payload)
    values (p_tenant, p_run, p_step, 'completed', p_fence, p_result)
    on conflict (tenant_id, run_id, step_key, effect_key) do update set fence = excluded.fence, payload = excluded.payload, at = clock_timestamp();
  for m in select value from jsonb_array_elements(coalesce(p_outbox, '[]')) loop
    insert into app.outbox (tenant_id, id, kind, dedupe_key, payload)
      values (p_tenant, m ->> 'id', m ->> 'kind', p_run || ' ' || p_step || ' ' || p_fence || ' ' || i, m -> 'payload');
    i := i + 1;
  end loop;
  perform app.audit(p_tenant, 'worker:' || s.lease_owner, 'step.succeeded', p_run || '/' || p_step, null, jsonb_build_object('type', s.ps_type));
  perform app.settle(p_tenant, p_run, p_step, 'succeeded', p_result, s.queue);
  return true;
end $$;
--> statement-breakpoint
-- A step's failure: retry (later, with exponential backoff and jitter), dead (it stays failed), or stale.
create function app.fail_step(p_tenant text, p_run text, p_step text, p_fence bigint, p_error jsonb, p_retryable boolean) returns text
language plpgsql security definer set search_path = pg_catalog, app as $$
declare s record; v_state text; v_next timestamptz;
begin
  select state into v_state from app.pipeline_run where tenant_id = p_tenant and run_id = p_run for update;
  select * into s from app.run_step
    where tenant_id = p_tenant and run_id = p_run and step_key = p_step and state = 'running' and fence = p_fence for update;
  if not found then return 'stale'; end if;
  if p_retryable and s.attempt < s.max_attempts and v_state <> 'cancelling' then
    v_next := clock_timestamp() + least(s.backoff_cap_ms, s.backoff_ms * power(2, s.attempt - 1)) * (0.5 + random() / 2) * interval '1 ms';
    update app.run_step set state = 'ready', ready_at = v_next, lease_until = null, error = p_error
      where tenant_id = p_tenant and run_id = p_run and step_key = p_step;
    update app.tenant_queue set running = running - 1, next_ready_at = least(next_ready_at, v_next) where tenant_id = p_tenant and queue = s.queue;
    perform app.add_event(p_tenant, p_run, 'step.retrying', p_step, p_error || jsonb_build_object('at', v_next, 'attempt', s.attempt));
    return 'retry';
  end if;
  update app.run_step set state = 'failed', error = p_error, finished_at = clock_timestamp(), lease_until = null
    where tenant_id = p_tenant and run_id = p_run and step_key = p_step;
  perform app.audit(p_tenant, 'worker:' || s.lease_owner, 'step.failed', p_run || '/' || p_step, null,
    jsonb_build_object('type', s.ps_type, 'code', p_error ->> 'code'));
  perform app.settle(p_tenant, p_run, p_step, 'failed', p_error, s.queue);
  return 'dead';
end $$;
--> statement-breakpoint
-- A running step that obeyed a cancel. False when the fence is stale or the run is not being cancelled.
create function app.cancel_step(p_tenant text, p_run text, p_step text, p_fence bigint) returns boolean
language plpgsql security definer set search_path = pg_catalog, app as $$
declare v_queue text; v_state text;
begin
  select state into v_state from app.pipeline_run where tenant_id = p_tenant and run_id = p_run for update;
  if v_state is distinct from 'cancelling' then return false; end if;
  update app.run_step set state = 'cancelled', finished_at = clock_timestamp(), lease_until = null
    where tenant_id = p_tenant and run_id = p_run and step_key = p_step and state = 'running' and fence = p_fence returning queue into v_queue;
  if not found then return false; end if;
  perform app.settle(p_tenant, p_run, p_step, 'cancelled', null, v_queue);
  return true;
end $$;
--> statement-breakpoint
-- Gives a running step back unfinished, its attempt not counted: a worker stops, restarts or died. After ten times it
-- counts, so that a step that kills its worker each time comes to an end.
create function app.release_step(p_tenant text, p_run text, p_step text, p_fence bigint, p_reason text) returns text
language plpgsql security definer set search_path = pg_catalog, app as $$
declare s record; v_state text;
begin
  select state into v_state from app.pipeline_run where tenant_id = p_tenant and run_id = p_run for update;
  select * into s from app.run_step
    where tenant_id = p_tenant and run_id = p_run and step_key = p_step and state = 'running' and fence = p_fence for update;
  if not found then return 'stale'; end if;
  if v_state = 'cancelling' then
    perform app.cancel_step(p_tenant, p_run, p_step, p_fence);
    return 'cancelled';
  end if;
  if s.release_count >= 10 then
    return app.fail_step(p_tenant, p_run, p_step, p_fence,
      jsonb_build_object('code', 'LEASE_EXPIRED', 'message', 'The step was given back ten times and did not finish.', 'retry', 'later'), true);
  end if;
  update app.run_step set state = 'ready', attempt = attempt - 1, release_count = release_count + 1, ready_at = clock_timestamp(), lease_until = null
    where tenant_id = p_tenant and run_id = p_run and step_key = p_step;
  update app.tenant_queue set running = running - 1, next_ready_at = least(next_ready_at, clock_timestamp()) where tenant_id = p_tenant and queue = s.queue;
  perform app.add_event(p_tenant, p_run, 'step.released', p_step, jsonb_build_object('reason', p_reason));
  return 'released';
end $$;
--> statement-breakpoint
-- Takes back steps whose worker went silent; past the step's own time limit that is a timeout. Answers how many.
create function app.reap(p_limit int) returns int language plpgsql security definer set search_path = pg_catalog, app as $$
declare s record; v_n int := 0;
begin
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
--> statement-breakpoint
-- At the start of an embedded process, which owns every lease: gives back at once what another owner held.
create function app.adopt(p_worker text) returns int language plpgsql security definer set search_path = pg_catalog, app as $$
declare s record; v_n int := 0;
begin
  for s in select tenant_id, run_id, step_key, fence from app.run_step where state = 'running' and lease_owner is distinct from p_worker loop
    perform app.release_step(s.tenant_id, s.run_id, s.step_key, s.fence, 'restart');
    v_n := v_n + 1;
  end loop;
  return v_n;
end $$;
--> statement-breakpoint
-- Moves a run to cancelling: ready steps end at once, running ones are told by their heartbeat, blocked ones follow.
-- Answers the run's state, null when there is no such run. Not callable from outside.
create function app.begin_cancel(p_tenant text, p_run text, p_reason text, p_actor text, p_request text) returns text
language plpgsql as $$
declare s record; v_state text;
begin
  select state into v_state from app.pipeline_run where tenant_id = p_tenant and run_id = p_run for update;
  if v_state is null or v_state not in ('queued', 'running') then return v_state; end if;
  update app.pipeline_run set state = 'cancelling', cancel_reason = p_reason where tenant_id = p_tenant and run_id = p_run;
  perform app.add_event(p_tenant, p_run, 'run.cancelling', null, jsonb_build_object('reason', p_reason));
  perform app.audit(p_tenant, p_actor, 'run.cancelling', p_run, p_request, jsonb_build_object('reason', p_reason));
  for s in select step_key from app.run_step where tenant_id = p_tenant and run_id = p_run and state = 'ready' order by position loop
    update app.run_step set state = 'cancelled', finished_at = clock_timestamp()
      where tenant_id = p_tenant and run_id = p_run and step_key = s.step_key and state = 'ready';
    if found then perform app.settle(p_tenant, p_run, s.step_key, 'cancelled', null, null); end if;
  end loop;
  select state into v_state from app.pipeline_run where tenant_id = p_tenant and run_id = p_run;
  return v_state;
end $$;
--> statement-breakpoint
-- Cancels a run of the transaction's tenant.
create function app.cancel_run(p_run text, p_reason text, p_actor text, p_request text) returns text
language sql security definer set search_path = pg_catalog, app as $$
  select app.begin_cancel(app.current_tenant(), p_run, p_reason, p_actor, p_request)
$$;
--> statement-breakpoint
-- Runs again what did not succeed and all that comes after it, or everything from p_from on. What succeeded before stays.
-- Answers {state} or {refused: NOT_FOUND | CONFLICT, state}.
create function app.retry_run(p_run text, p_from text, p_actor text, p_request text) returns jsonb
language plpgsql security definer set search_path = pg_catalog, app as $$
declare v_tenant text := app.current_tenant(); r record; v_set text[]; v_more text[]; s record; q record;
begin
  select * into r from app.pipeline_run where tenant_id = v_tenant and run_id = p_run for update;
  if not found then return jsonb_build_object('refused', 'NOT_FOUND'); end if;
  if r.state not in ('failed', 'cancelled', 'timed_out') and not (r.state = 'succeeded' and p_from is not null) then
    return jsonb_build_object('refused', 'CONFLICT', 'state', r.state);
  end if;
  if p_from is not null and not exists (select from app.run_step where tenant_id = v_tenant and run_id = p_run and step_key = p_from) then
    return jsonb_build_object('refused', 'NOT_FOUND');
  end if;
  select array_agg(step_key) into v_set from app.run_step
    where tenant_id = v_tenant and run_id = p_run and (state in ('failed', 'cancelled') or step_key = p_from);
  loop
    select array_agg(distinct d) into v_more from app.run_step x, unnest(x.dependents) d
      where x.tenant_id = v_tenant and x.run_id = p_run and x.step_key = any (v_set) and not d = any (v_set);
    exit when v_more is null;
    v_set := v_set || v_more;
  end loop;
  update app.run_step x set cycle = x.cycle + (x.state = 'succeeded')::int, attempt = 0, release_count = 0, error = null, result = null, progress = null, ready_at = null,
      started_at = null, finished_at = null, fence = null, lease_owner = null, lease_until = null, state = 'blocked',
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
  for s in select step_key, trigger_rule, up_failed, up_bad from app.run_step
    where tenant_id = v_tenant and run_id = p_run and step_key = any (v_set) and unmet = 0 order by position
  loop
    if (s.trigger_rule = 'on_success' and s.up_bad = 0) or (s.trigger_rule = 'on_failure' and s.up_failed > 0) or s.trigger_rule = 'always' then
      update app.run_step set state = 'ready', ready_at = clock_timestamp()
        where tenant_id = v_tenant and run_id = p_run and step_key = s.step_key and state = 'blocked';
      perform app.add_event(v_tenant, p_run, 'step.ready', s.step_key, null);
    else
      perform app.settle(v_tenant, p_run, s.step_key, 'skipped', null, null);
    end if;
  end loop;
  for q in select queue, min(ready_at) m from app.run_step where tenant_id = v_tenant and run_id = p_run and state = 'ready' group by queue order by queue loop
    update app.tenant_queue set next_ready_at = least(next_ready_at, q.m) where tenant_id = v_tenant and queue = q.queue;
  end loop;
  return jsonb_build_object('state', (select state from app.pipeline_run where tenant_id = v_tenant and run_id = p_run));
end $$;
--> statement-breakpoint
-- Housekeeping, safe from anywhere at any rate: lost leases, runs past their deadline, a missed next_ready_at.
-- Answers the queues in which something can be claimed now, so that whoever ticks can wake them.
create function app.tick(p_limit int) returns table (o_tenant text, o_queue text)
language plpgsql security definer set search_path = pg_catalog, app as $$
declare r record;
begin
  perform app.reap(p_limit);
  for r in select tenant_id, run_id from app.pipeline_run
    where state in ('queued', 'running') and deadline_at < clock_timestamp() order by deadline_at limit p_limit for update skip locked
  loop
    perform app.begin_cancel(r.tenant_id, r.run_id, 'deadline', 'system:ledger', null);
  end loop;
  update app.tenant_queue q set next_ready_at = x.m
    from (select tenant_id, queue, min(ready_at) m from app.run_step where state = 'ready' group by tenant_id, queue) x
    where q.tenant_id = x.tenant_id and q.queue = x.queue and q.next_ready_at > x.m;
  return query select q.tenant_id, q.queue from app.tenant_queue q
    where q.desired = 'running' and q.next_ready_at <= clock_timestamp() and q.running < q.max_running;
end $$;
--> statement-breakpoint
-- An API key by its public id, before the tenant is known.
create function app.find_api_key(p_id text) returns table (tenant_id text, secret_hash text, scopes text[], expires_at timestamptz, revoked_at timestamptz, tenant_status text)
language sql stable security definer set search_path = pg_catalog, app as $$
  select k.tenant_id, k.secret_hash, k.scopes, k.expires_at, k.revoked_at, t.status from app.api_key k join app.tenant t on t.id = k.tenant_id where k.id = p_id
$$;
--> statement-breakpoint
-- Due messages, each for p_lease_ms to the one who asked.
create function app.claim_outbox(p_limit int, p_lease_ms int) returns table (tenant_id text, id text, kind text, payload jsonb, attempts int)
language sql security definer set search_path = pg_catalog, app as $$
  update app.outbox o set claimed_until = clock_timestamp() + p_lease_ms * interval '1 ms', attempts = o.attempts + 1
  where (o.tenant_id, o.id) in (
    select x.tenant_id, x.id from app.outbox x
    where x.sent_at is null and x.attempts < 10 and x.not_before <= clock_timestamp() and (x.claimed_until is null or x.claimed_until < clock_timestamp())
    order by x.not_before limit p_limit for update skip locked)
  returning o.tenant_id, o.id, o.kind, o.payload, o.attempts
$$;
--> statement-breakpoint
-- The outcome of a message: sent, or to be tried again after p_retry_ms with the reason kept.
create function app.finish_outbox(p_tenant text, p_id text, p_error jsonb, p_retry_ms int) returns void
language sql security definer set search_path = pg_catalog, app as $$
  update app.outbox set sent_at = case when p_error is null then clock_timestamp() end, last_error = p_error, claimed_until = null,
      not_before = clock_timestamp() + p_retry_ms * interval '1 ms'
    where tenant_id = p_tenant and id = p_id and sent_at is null;
  insert into app.audit_event (tenant_id, id, actor, action, target, details)
    values (p_tenant, 'aud_' || replace(gen_random_uuid()::text, '-', ''), 'system:outbox',
      case when p_error is null then 'message.sent' else 'message.failed' end, p_id, coalesce(p_error, '{}'))
$$;
--> statement-breakpoint
create function app.see_worker(p jsonb) returns void language sql security definer set search_path = pg_catalog, app as $$
  insert into app.worker (id, host, pid, queues, capacity, running, draining)
    values (p ->> 'id', p ->> 'host', (p ->> 'pid')::int, array(select jsonb_array_elements_text(p -> 'queues')), (p ->> 'capacity')::int,
      (p ->> 'running')::int, (p ->> 'draining')::boolean)
    on conflict (id) do update set running = excluded.running, draining = excluded.draining, last_seen = now()
$$;
--> statement-breakpoint
grant create on schema app to tributary_ledger;
--> statement-breakpoint
do $$
declare f record;
begin
  for f in select p.oid::regprocedure::text as name from pg_proc p where p.pronamespace = 'app'::regnamespace loop
    execute format('alter function %s owner to tributary_ledger', f.name);
    execute format('revoke all on function %s from public', f.name);
  end loop;
end $$;
--> statement-breakpoint
revoke create on schema app from tributary_ledger;
--> statement-breakpoint
grant execute on function app.current_tenant(), app.start_run(jsonb), app.cancel_run(text, text, text, text), app.retry_run(text, text, text, text), app.find_api_key(text) to tributary_api;
--> statement-breakpoint
grant execute on function
  app.claim_steps(text, text[], int, int, text[]), app.heartbeat(text, text, text, bigint, int), app.report_step(text, text, text, bigint, jsonb, jsonb),
  app.complete_step(text, text, text, bigint, jsonb, jsonb), app.fail_step(text, text, text, bigint, jsonb, boolean), app.cancel_step(text, text, text, bigint),
  app.release_step(text, text, text, bigint, text), app.reap(int), app.adopt(text), app.tick(int), app.claim_outbox(int, int),
  app.finish_outbox(text, text, jsonb, int), app.see_worker(jsonb) to tributary_worker;
--> statement-breakpoint
grant execute on function app.tick(int) to tributary_api;
