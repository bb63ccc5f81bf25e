-- The way of a step through the ledger in fewer and cheaper statements; what the functions promise is as before.
-- PL/pgSQL keeps the plans of its statements for a session, while PostgreSQL plans an SQL function anew at each call: that
-- was a third of what a step cost.

-- Drafts live within one transaction and nothing of them survives it, not even a crash: they need no write-ahead log.
alter table app.audit_draft set unlogged;
--> statement-breakpoint
-- Whether there is something ready changes far less often than when it is ready: with this in the index and not that, a
-- claim changes no index.
alter table app.tenant_queue add column has_ready boolean not null generated always as (next_ready_at < 'infinity') stored;
--> statement-breakpoint
drop index app.tenant_queue_turn;
--> statement-breakpoint
create index tenant_queue_turn on app.tenant_queue (queue) where desired = 'running' and has_ready;
--> statement-breakpoint
-- Rows that every step changes: room in their pages keeps the versions together.
alter table app.tenant_queue set (fillfactor = 50);
--> statement-breakpoint
alter table app.tenant_turn set (fillfactor = 50);
--> statement-breakpoint
alter table app.audit_head set (fillfactor = 50);
--> statement-breakpoint
alter table app.pipeline_run set (fillfactor = 70);
--> statement-breakpoint
-- What all queues of a tenant run at once, so that a claim need not add it up for each tenant that waits.
alter table app.tenant_turn add column running int not null default 0 check (running >= 0);
--> statement-breakpoint
alter table app.tenant_turn no force row level security;
--> statement-breakpoint
alter table app.tenant_queue no force row level security;
--> statement-breakpoint
insert into app.tenant_turn as t (tenant_id, running)
  select tenant_id, sum(running) from app.tenant_queue group by tenant_id having sum(running) > 0
  on conflict (tenant_id) do update set running = excluded.running;
--> statement-breakpoint
alter table app.tenant_turn force row level security;
--> statement-breakpoint
alter table app.tenant_queue force row level security;
--> statement-breakpoint
-- A slot is given back, and what the claim charged for it is set right, now that its time is known.
create or replace function app.charge(p_tenant text, p_started timestamptz, p_expected double precision) returns void language plpgsql as $$
declare v_ms float8 := greatest(0, extract(epoch from clock_timestamp() - p_started) * 1000);
begin
  update app.tenant_turn t set
      virtual_ms = t.virtual_ms + (v_ms - coalesce(p_expected, v_ms)) / l.weight,
      average_ms = t.average_ms * 0.9 + v_ms * 0.1,
      worker_ms = t.worker_ms + v_ms,
      running = t.running - 1
    from app.tenant_limit l
    where t.tenant_id = p_tenant and l.tenant_id = p_tenant;
end $$;
--> statement-breakpoint
create or replace function app.moved(p_result jsonb) returns jsonb language plpgsql immutable set search_path = pg_catalog, app as $$
begin
  if jsonb_typeof(p_result) is distinct from 'object' or not p_result ?| array['rows', 'bytes', 'files', 'recipients', 'path', 'sha256'] then
    return '{}';
  end if;
  return (
    select coalesce(jsonb_object_agg(k, case jsonb_typeof(v)
        when 'array' then to_jsonb(jsonb_array_length(v)) when 'string' then to_jsonb(left(v #>> '{}', 1024)) else v end), '{}')
    from jsonb_each(p_result) r (k, v)
    where (k in ('rows', 'bytes') and jsonb_typeof(v) = 'number') or (k in ('files', 'recipients') and jsonb_typeof(v) in ('array', 'number'))
      or (k in ('path', 'sha256') and jsonb_typeof(v) = 'string'));
end $$;
--> statement-breakpoint
create or replace function app.audit_hash(p_tenant text, p_seq bigint, p_id text, p_at timestamptz, p_actor text, p_action text, p_target text,
  p_request text, p_details jsonb, p_prev text, p_subject text default null, p_personal text default null)
returns text language plpgsql stable set search_path = pg_catalog, app as $$
declare v_all text[]; v_one text; v_text text := '';
begin
  v_all := array[case when p_subject is null and p_personal is null then 'tributary.audit.1' else 'tributary.audit.2' end, p_tenant, p_seq::text, p_id,
    to_char(p_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), p_actor, p_action, p_target, p_request, p_details::text];
  if p_subject is not null or p_personal is not null then
    v_all := v_all || array[p_subject, encode(sha256(convert_to(p_personal, 'UTF8')), 'hex')];
  end if;
  foreach v_one in array v_all || array[p_prev] loop
    v_text := v_text || ',' || coalesce(octet_length(convert_to(v_one, 'UTF8')) || ':' || v_one, '-');
  end loop;
  return encode(sha256(convert_to(substr(v_text, 2), 'UTF8')), 'hex');
end $$;
--> statement-breakpoint
create or replace function app.audit(p_tenant text, p_actor text, p_action text, p_target text, p_request text, p_details jsonb)
returns void language plpgsql as $$
begin
  perform app.audit(p_tenant, p_actor, p_action, p_target, p_request, p_details, null, null);
end $$;
--> statement-breakpoint
-- Links a draft: next number, hash of the row before, own hash. The head row stays locked until the commit is through.
create or replace function app.link_audit() returns trigger language plpgsql security definer set search_path = pg_catalog, app as $$
declare v_seq bigint; v_prev text; v_hash text; v_heads text := ltrim(coalesce(current_setting('app.audit_heads', true), ''));
begin
  -- The ledger's rounds write for many tenants; two rounds must not lock the same heads crosswise, nor make them so. A
  -- transaction of one tenant, as nearly all are, locks its only head below.
  if position(' ' in v_heads) > 0 then
    insert into app.audit_head (tenant_id, seq, hash)
      select t, 0, repeat('0', 64) from unnest(string_to_array(v_heads, ' ')) t
      where t <> '' and not exists (select from app.audit_head h where h.tenant_id = t) order by t on conflict do nothing;
    perform 1 from app.audit_head where tenant_id = any (string_to_array(v_heads, ' ')) order by tenant_id for update;
    perform set_config('app.audit_heads', '', true);
  end if;
  select seq, hash into v_seq, v_prev from app.audit_head where tenant_id = new.tenant_id for update;
  if not found then
    insert into app.audit_head (tenant_id, seq, hash) values (new.tenant_id, 0, repeat('0', 64)) on conflict do nothing;
    select seq, hash into v_seq, v_prev from app.audit_head where tenant_id = new.tenant_id for update;
  end if;
  v_seq := v_seq + 1;
  v_hash := app.audit_hash(new.tenant_id, v_seq, new.id, new.at, new.actor, new.action, new.target, new.request_id, new.details, v_prev,
    new.subject, new.personal);
  insert into app.audit_event (tenant_id, id, at, actor, action, target, request_id, details, seq, prev_hash, hash, subject, personal)
    values (new.tenant_id, new.id, new.at, new.actor, new.action, new.target, new.request_id, new.details, v_seq, v_prev, v_hash,
      new.subject, new.personal);
  update app.audit_head set seq = v_seq, hash = v_hash where tenant_id = new.tenant_id;
  delete from app.audit_draft where tenant_id = new.tenant_id and id = new.id;
  return null;
end $$;
--> statement-breakpoint
-- Carries the end of a step to the steps that wait for it and, when nothing is left, ends the run. The caller holds the
-- run row. p_release names the queue whose running count falls, if the step held a slot. Events are gathered and written
-- with one change of the run: each change of it is a version more and checks its keys anew.
create or replace function app.settle(p_tenant text, p_run text, p_step text, p_state text, p_data jsonb, p_release text) returns void language plpgsql as $$
declare
  v_work text[] := array[p_step];
  v_states text[] := array[p_state];
  v_types text[] := '{}'; v_keys text[] := '{}';
  v_key text; v_state text; r record; s record; v_bad boolean; v_failed boolean; v_error jsonb; v_waits boolean; v_starts boolean; v_cancels boolean;
  v_queues text[] := '{}';
  v_pending int; v_fail_count int; v_final text;
  d record; q text; i int := 1;
begin
  select state, cancel_reason, waiting, concurrency_group, parent_run_id, pending, failed, event_seq into r
    from app.pipeline_run where tenant_id = p_tenant and run_id = p_run;
  v_pending := r.pending;
  v_fail_count := r.failed;
  v_cancels := r.state = 'cancelling';
  -- A run that waits for its group starts nothing, and passes nothing over.
  v_waits := r.waiting and r.state = 'queued';
  v_starts := not v_waits and not v_cancels;
  while i <= array_length(v_work, 1) loop
    v_key := v_work[i]; v_state := v_states[i];
    if v_state in ('skipped', 'cancelled') then
      update app.run_step set state = v_state, finished_at = clock_timestamp()
        where tenant_id = p_tenant and run_id = p_run and step_key = v_key and state <> v_state;
    end if;
    v_types := v_types || ('step.' || v_state);
    v_keys := v_keys || v_key;
    select dependents, allow_failure into s from app.run_step where tenant_id = p_tenant and run_id = p_run and step_key = v_key;
    -- A failure that the pipeline allows counts as done for what waits on it and for the run.
    v_failed := v_state = 'failed' and not s.allow_failure;
    v_bad := v_state <> 'succeeded' and not (v_state = 'failed' and s.allow_failure);
    v_pending := v_pending - 1;
    v_fail_count := v_fail_count + v_failed::int;
    if v_failed and v_error is null then v_error := coalesce(p_data, '{}') || jsonb_build_object('step', v_key); end if;
    if s.dependents <> '{}' then
      for d in
        update app.run_step x set unmet = x.unmet - 1, up_failed = x.up_failed + v_failed::int, up_bad = x.up_bad + v_bad::int,
            state = case when x.unmet = 1 and v_starts and app.may_start(x.trigger_rule, x.up_failed + v_failed::int, x.up_bad + v_bad::int)
              then 'ready' else x.state end,
            ready_at = case when x.unmet = 1 then clock_timestamp() else x.ready_at end
          where x.tenant_id = p_tenant and x.run_id = p_run and x.step_key = any (s.dependents) and x.state = 'blocked'
          returning x.step_key, x.unmet, x.queue, x.state
      loop
        if d.state = 'ready' then
          v_queues := v_queues || d.queue;
          v_types := v_types || 'step.ready'::text;
          v_keys := v_keys || d.step_key;
        elsif d.unmet = 0 and not v_waits then
          v_work := v_work || d.step_key;
          v_states := v_states || (case when v_cancels then 'cancelled' else 'skipped' end);
        end if;
      end loop;
    end if;
    i := i + 1;
  end loop;
  if v_pending = 0 then
    v_final := case
      when v_cancels and r.cancel_reason = 'deadline' then 'timed_out'
      when v_cancels then 'cancelled'
      when v_fail_count > 0 then 'failed'
      else 'succeeded' end;
    v_types := v_types || ('run.' || v_final);
    v_keys := v_keys || null::text;
    update app.pipeline_run set event_seq = event_seq + array_length(v_types, 1), pending = 0, failed = v_fail_count, error = coalesce(error, v_error),
        state = v_final, waiting = false, finished_at = clock_timestamp()
      where tenant_id = p_tenant and run_id = p_run;
    perform app.audit(p_tenant, 'system:ledger', 'run.' || v_final, p_run, null, null);
    if r.parent_run_id is not null then insert into app.run_errand (tenant_id, run_id, kind) values (p_tenant, p_run, 'ended'); end if;
    if r.concurrency_group is not null then insert into app.run_errand (tenant_id, run_id, kind) values (p_tenant, p_run, 'room'); end if;
  else
    update app.pipeline_run set event_seq = event_seq + array_length(v_types, 1), pending = v_pending, failed = v_fail_count, error = coalesce(error, v_error)
      where tenant_id = p_tenant and run_id = p_run;
  end if;
  insert into app.run_event (tenant_id, run_id, seq, type, step_key, data)
    select p_tenant, p_run, r.event_seq + n, e.type, e.step, case when n = 1 then p_data end
    from unnest(v_types, v_keys) with ordinality e (type, step, n);
  -- One ordered pass over the queue rows: two settles of one tenant cannot lock each other out.
  for q in select distinct u from unnest(v_queues || p_release) u where u is not null order by 1 loop
    update app.tenant_queue set
        running = running - (q is not distinct from p_release)::int,
        next_ready_at = case when q = any (v_queues) then least(next_ready_at, clock_timestamp()) else next_ready_at end
      where tenant_id = p_tenant and queue = q;
  end loop;
end $$;
--> statement-breakpoint
create or replace function app.complete_step(p_tenant text, p_run text, p_step text, p_fence bigint, p_result jsonb, p_outbox jsonb) returns boolean
language plpgsql security definer set search_path = pg_catalog, app set plan_cache_mode = force_generic_plan as $$
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
  if p_outbox <> '[]' then
    for m in select value from jsonb_array_elements(p_outbox) loop
      insert into app.outbox (tenant_id, id, kind, dedupe_key, payload)
        values (p_tenant, m ->> 'id', m ->> 'kind', p_run || ' ' || p_step || ' ' || p_fence || ' ' || i, m -> 'payload');
      i := i + 1;
    end loop;
  end if;
  perform app.audit(p_tenant, 'worker:' || coalesce(s.lease_owner, 'none'), 'step.succeeded', p_run || '/' || p_step, null,
    jsonb_build_object('type', s.ps_type) || app.moved(p_result));
  perform app.settle(p_tenant, p_run, p_step, 'succeeded', p_result, case when s.holds_slot then s.queue end);
  if s.holds_slot then perform app.charge(p_tenant, s.attempt_started_at, s.expected_ms); end if;
  return true;
end $$;
--> statement-breakpoint
-- The turns in which something can be claimed, and where each starts, which is told at claim_steps. Queues have clocks of
-- their own, so their turns are compared by how far they lead them. PostgreSQL takes this function into the statements that
-- use it; nothing is planned anew.
create function app.claimable(p_queues text[], p_tenants text[])
returns table (tenant_id text, queue text, max_running_total int, weight int, average_ms float8, start float8, lead float8, turn_at timestamptz) language sql stable as $$
  select q.tenant_id, q.queue, l.max_running_total, l.weight, coalesce(u.average_ms, 1000), t.start, t.start - k.virtual_ms, q.turn_at
  from app.tenant_queue q join app.tenant_limit l on l.tenant_id = q.tenant_id join app.turn_clock k on k.queue = q.queue
    left join app.tenant_turn u on u.tenant_id = q.tenant_id,
    lateral (select least(greatest(q.turn_ms + coalesce(u.virtual_ms, 0) - q.charged_ms, k.virtual_ms), k.virtual_ms + 10000) as start) t
  where q.queue = any (p_queues) and q.desired = 'running' and q.has_ready and q.next_ready_at <= clock_timestamp()
    and q.running < q.max_running and (p_tenants is null or q.tenant_id = any (p_tenants)) and coalesce(u.running, 0) < l.max_running_total
$$;
--> statement-breakpoint
-- Hands out ready steps. Turns go to the tenant that has had the least worker time for its weight (start-time fair
-- queueing, Goyal, Vin and Cheng 1996): a queue's turn starts where its last one ended, plus what its tenant was charged
-- for elsewhere meanwhile, never before the turn served last and at most 10 s after it, so that nobody saves up turns and
-- nobody pays for ever. At most `quantum` steps a turn, never above the queue's and the tenant's limits. What is in other
-- hands is passed over, but not for a turn that starts more than a second after the first: it would be overtaken for ever.
-- The first statement locks turn rows; the later ones read with a fresh snapshot, so that a step made ready meanwhile is
-- not written out of next_ready_at.
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
    perform 1 from app.claimable(p_queues, p_tenants) c join app.tenant_queue q on q.tenant_id = c.tenant_id and q.queue = c.queue
      order by c.lead limit 1 for update of q;
    exit when not found;
    v_waited := true;
  end loop;
end $$;
--> statement-breakpoint
grant create on schema app to tributary_ledger;
--> statement-breakpoint
alter function app.claimable(text[], text[]) owner to tributary_ledger;
--> statement-breakpoint
revoke all on function app.claimable(text[], text[]) from public;
--> statement-breakpoint
revoke create on schema app from tributary_ledger;
