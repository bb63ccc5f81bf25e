-- Control of the fleet: one switch over all queues beside the wish for each, what workers say of themselves, and reads
-- over many queues at once.

alter table app.worker add version text not null default '', add tenants text[];
--> statement-breakpoint
-- While desired is stopped nothing is claimed, whatever each queue wants. Steps that started before release_before are
-- given back: it is infinity while everything is stopped by force, so that a claim on its way then is meant, too.
alter table app.system_control
  add paused_by text,
  add paused_at timestamptz,
  add release_before timestamptz not null default '-infinity';
--> statement-breakpoint
create index run_step_error on app.run_step (tenant_id, queue, (coalesce(finished_at, attempt_started_at)) desc) where error is not null;
--> statement-breakpoint
-- Extends a lease, never past the step's time limit. Answers ok, cancel, release, timeout; null when the fence is stale.
create or replace function app.heartbeat(p_tenant text, p_run text, p_step text, p_fence bigint, p_lease_ms int) returns text
language sql security definer set search_path = pg_catalog, app as $$
  update app.run_step x set lease_until = least(clock_timestamp() + p_lease_ms * interval '1 ms',
      x.attempt_started_at + (x.timeout_ms + p_lease_ms) * interval '1 ms')
  from app.pipeline_run r, app.tenant_queue q, app.system_control c
  where x.tenant_id = p_tenant and x.run_id = p_run and x.step_key = p_step and x.state = 'running' and x.fence = p_fence
    and r.tenant_id = p_tenant and r.run_id = p_run and q.tenant_id = p_tenant and q.queue = x.queue
  returning case
    when r.state = 'cancelling' then 'cancel'
    when q.desired = 'stopped' or q.generation <> x.generation or x.attempt_started_at < c.release_before then 'release'
    when clock_timestamp() > x.attempt_started_at + x.timeout_ms * interval '1 ms' then 'timeout'
    else 'ok' end
$$;
--> statement-breakpoint
-- A worker says that it is here. Rows of workers that went without a word are kept for a day.
create or replace function app.see_worker(p jsonb) returns void language sql security definer set search_path = pg_catalog, app as $$
  insert into app.worker (id, host, pid, version, queues, tenants, capacity, running, draining)
    values (p ->> 'id', p ->> 'host', (p ->> 'pid')::int, coalesce(p ->> 'version', ''), array(select jsonb_array_elements_text(p -> 'queues')),
      case when jsonb_typeof(p -> 'tenants') = 'array' then array(select jsonb_array_elements_text(p -> 'tenants')) end,
      (p ->> 'capacity')::int, (p ->> 'running')::int, (p ->> 'draining')::boolean)
    on conflict (id) do update set running = excluded.running, draining = excluded.draining, last_seen = now();
  delete from app.worker where last_seen < now() - interval '1 day';
$$;
--> statement-breakpoint
create function app.leave_worker(p_id text) returns void language sql security definer set search_path = pg_catalog, app as $$
  delete from app.worker where id = p_id
$$;
--> statement-breakpoint
-- A transaction sees its own tenant; that of the platform any, and with null all.
create function app.refuse_foreign(p_tenant text) returns void language plpgsql stable as $$
begin
  if app.current_tenant() <> 'platform' and p_tenant is distinct from app.current_tenant() then
    raise exception 'this transaction does not see that tenant' using errcode = 'insufficient_privilege';
  end if;
end $$;
--> statement-breakpoint
-- Queues of one tenant, or with null of all that have not left, after a place in the order of tenant and queue. Each
-- branch of the page has an index range of its own, and each queue another for its ready steps.
create function app.queue_status(p_tenant text, p_after_tenant text, p_after_queue text, p_limit int)
returns table (o_tenant text, o_queue text, o_state text, o_running int, o_max_running int, o_weight int, o_paused_by text, o_paused_ms float8,
  o_ready int, o_oldest_ms float8, o_waiting_s int, o_workers int, o_seen_ms float8)
language sql security definer set search_path = pg_catalog, app as $$
  select app.refuse_foreign(p_tenant);
  with page as (
    (select q.* from app.tenant_queue q
      where p_tenant is not null and q.tenant_id = p_tenant and (q.tenant_id, q.queue) > (p_after_tenant, p_after_queue)
      order by q.queue limit p_limit)
    union all
    (select q.* from app.tenant_queue q join app.tenant t on t.id = q.tenant_id
      where p_tenant is null and t.status <> 'offboarded' and (q.tenant_id, q.queue) > (p_after_tenant, p_after_queue)
      order by q.tenant_id, q.queue limit p_limit)
  ), live as materialized (
    select w.queues, w.tenants, w.last_seen from app.worker w where not w.draining and w.last_seen > clock_timestamp() - interval '30 seconds'
  )
  select p.tenant_id, p.queue,
    case when p.desired = 'running' and c.desired = 'running' then 'running' when p.running = 0 then 'stopped' else 'draining' end,
    p.running, p.max_running, p.quantum,
    case when c.desired = 'stopped' then 'platform' when p.desired <> 'running' then p.paused_by end,
    extract(epoch from case when c.desired = 'stopped' then c.paused_at when p.desired <> 'running' then p.paused_at end)::float8 * 1000,
    r.n, extract(epoch from r.oldest)::float8 * 1000, floor(extract(epoch from clock_timestamp() - r.oldest))::int,
    w.n, extract(epoch from w.seen)::float8 * 1000
  from page p cross join app.system_control c
  cross join lateral (
    select count(*)::int n, min(x.ready_at) filter (where x.ready_at <= clock_timestamp()) oldest
    from app.run_step x where x.tenant_id = p.tenant_id and x.queue = p.queue and x.state = 'ready') r
  cross join lateral (
    select count(*)::int n, max(l.last_seen) seen
    from live l where p.queue = any (l.queues) and (l.tenants is null or p.tenant_id = any (l.tenants))) w
  order by p.tenant_id, p.queue
$$;
--> statement-breakpoint
-- The last failures in each of these queues, those that will be tried again among them. Messages speak of a tenant's
-- work: the log of each tenant in p_note that is not the asker's own says who looked.
create function app.queue_errors(p_tenants text[], p_queues text[], p_limit int, p_note text[], p_actor text, p_request text)
returns table (o_tenant text, o_queue text, o_run text, o_step text, o_code text, o_message text, o_retries boolean, o_at_ms float8)
language sql security definer set search_path = pg_catalog, app as $$
  select app.refuse_foreign(t) from unnest(p_tenants || p_note) t;
  select app.audit(t, p_actor, 'tenant.read', t, p_request, '{"what": "errors"}'::jsonb)
    from unnest(p_note) t where t <> app.current_tenant() order by t;
  select k.t, k.q, e.run_id, e.step_key, e.error ->> 'code', e.error ->> 'message', e.state = 'ready', extract(epoch from e.at)::float8 * 1000
  from unnest(p_tenants, p_queues) k (t, q)
  cross join lateral (
    select x.run_id, x.step_key, x.error, x.state, coalesce(x.finished_at, x.attempt_started_at) at
    from app.run_step x where x.tenant_id = k.t and x.queue = k.q and x.error is not null
    order by coalesce(x.finished_at, x.attempt_started_at) desc limit p_limit) e
  order by k.t, k.q, e.at desc
$$;
--> statement-breakpoint
-- The whole fleet in figures, for the platform.
create function app.fleet_status() returns jsonb language sql security definer set search_path = pg_catalog, app as $$
  select app.refuse_foreign(null);
  select jsonb_build_object('desired', c.desired, 'pausedMs', extract(epoch from c.paused_at) * 1000, 'pausedBy', c.paused_by,
    'workers', w.n, 'capacity', w.capacity, 'running', q.running, 'tenantsWaiting', q.waiting,
    'ready', (select count(*) from app.run_step where state = 'ready'))
  from app.system_control c
  cross join (select count(*) n, coalesce(sum(capacity), 0) capacity from app.worker
    where not draining and last_seen > clock_timestamp() - interval '30 seconds') w
  cross join (select coalesce(sum(running), 0) running, count(distinct tenant_id) filter (where next_ready_at <= clock_timestamp()) waiting
    from app.tenant_queue) q
$$;
--> statement-breakpoint
-- The switch over all queues. Answers whether it moved, the tenants that have queues which the platform stopped by
-- themselves, and one claimable queue of each type: a worker that is woken looks at all tenants.
create function app.control_fleet(p_action text, p_force boolean, p_actor text, p_request text) returns jsonb
language plpgsql security definer set search_path = pg_catalog, app as $$
declare c record; v_changed boolean;
begin
  perform app.refuse_foreign(null);
  select * into strict c from app.system_control for update;
  v_changed := case p_action
    when 'stop' then c.desired = 'running' or (p_force and c.release_before < 'infinity')
    when 'start' then c.desired = 'stopped'
    when 'restart' then c.desired = 'stopped'
      or exists (select from app.run_step where state = 'running' and attempt_started_at >= c.release_before)
    end;
  if v_changed and p_action = 'stop' then
    update app.system_control set desired = 'stopped', paused_by = coalesce(paused_by, p_actor), paused_at = coalesce(paused_at, clock_timestamp()),
      release_before = case when p_force then 'infinity' else release_before end;
  elsif v_changed then
    -- What was told to stop by force, or is to restart, stays told after the switch is on again.
    update app.system_control set desired = 'running', paused_by = null, paused_at = null,
      release_before = case when p_action = 'restart' or release_before = 'infinity' then clock_timestamp() else release_before end;
  end if;
  if v_changed then
    perform app.audit('platform', p_actor, case p_action when 'stop' then 'workers.stopped' when 'start' then 'workers.started' else 'workers.restarted' end,
      'all', p_request, case when p_action = 'stop' then jsonb_build_object('force', p_force) end);
  end if;
  return jsonb_build_object('changed', v_changed,
    'held', array(select distinct tenant_id from app.tenant_queue where desired <> 'running' and paused_by = 'platform' order by 1),
    'wake', coalesce((select jsonb_agg(jsonb_build_object('tenantId', tenant_id, 'queue', queue)) from (
      select distinct on (queue) tenant_id, queue from app.tenant_queue
      where desired = 'running' and next_ready_at <= clock_timestamp() order by queue, turn_at) x), '[]'));
end $$;
--> statement-breakpoint
-- Rights of their own, for keys that had the power of which they are a part.
alter table app.api_key no force row level security;
--> statement-breakpoint
update app.api_key set scopes = scopes || array['workers:read'] where 'runs:read' = any (scopes);
--> statement-breakpoint
update app.api_key set scopes = scopes || array['workers:write'] where 'keys:write' = any (scopes);
--> statement-breakpoint
alter table app.api_key force row level security;
--> statement-breakpoint
grant delete on app.worker to tributary_ledger;
--> statement-breakpoint
grant update on app.system_control to tributary_ledger;
--> statement-breakpoint
grant create on schema app to tributary_ledger;
--> statement-breakpoint
do $$
declare f text;
begin
  foreach f in array array['app.leave_worker(text)', 'app.refuse_foreign(text)', 'app.queue_status(text, text, text, int)',
    'app.queue_errors(text[], text[], int, text[], text, text)', 'app.fleet_status()', 'app.control_fleet(text, boolean, text, text)'] loop
    execute format('alter function %s owner to tributary_ledger', f);
    execute format('revoke all on function %s from public', f);
  end loop;
end $$;
--> statement-breakpoint
revoke create on schema app from tributary_ledger;
--> statement-breakpoint
grant execute on function app.queue_status(text, text, text, int), app.queue_errors(text[], text[], int, text[], text, text), app.fleet_status(),
  app.control_fleet(text, boolean, text, text) to tributary_api;
--> statement-breakpoint
grant execute on function app.leave_worker(text) to tributary_worker;
