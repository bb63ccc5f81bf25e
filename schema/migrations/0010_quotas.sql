-- Quotas of plans, and what belongs to a tenant's life beside them: settings with a version, features, environments, and
-- credentials that are tried out before anything uses them.

alter table app.tenant_limit
  add runs_per_month bigint not null default 1000 check (runs_per_month > 0),
  add rows_per_month bigint not null default 10000000 check (rows_per_month > 0),
  add api_points_per_minute int not null default 6000 check (api_points_per_minute > 0),
  add max_members int not null default 10 check (max_members > 0),
  add max_api_keys int not null default 20 check (max_api_keys > 0),
  add max_credentials int not null default 20 check (max_credentials > 0),
  add max_pipelines int not null default 50 check (max_pipelines > 0),
  -- What the platform allows this tenant beyond or below its plan; it outlives a change of the plan.
  add overrides jsonb not null default '{}';
--> statement-breakpoint
alter table app.tenant add version int not null default 1, add features jsonb not null default '{}';
--> statement-breakpoint
alter table app.credential
  add status text not null default 'active' check (status in ('pending', 'active', 'failed')),
  add problem jsonb,
  -- The run that tries it out; its end decides.
  add check_run text,
  add idempotency_key text;
--> statement-breakpoint
alter table app.pipeline_run add environment text;
--> statement-breakpoint
-- Values that a tenant's pipelines take in one of its surroundings: variables by name, and other credentials for those
-- that the files name.
create table app.tenant_environment (
  tenant_id text not null references app.tenant (id),
  name text not null check (name ~ '^[a-z][a-z0-9_-]{0,31}$'),
  variables jsonb not null default '{}',
  credentials jsonb not null default '{}',
  version int not null default 1,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  primary key (tenant_id, name)
);
--> statement-breakpoint
-- What is used of each quota: by month (YYYY-MM, in UTC) where it counts a month's work, else with an empty period.
create table app.tenant_usage (
  tenant_id text not null references app.tenant (id),
  quota text not null check (quota in ('runsPerMonth', 'rowsPerMonth', 'storageBytes', 'members', 'apiKeys', 'credentials', 'pipelines')),
  period text not null check (period ~ '^([0-9]{4}-[0-9]{2})?$'),
  used bigint not null default 0 check (used >= 0),
  -- The highest share in percent that was warned of, and in which month: each is said once a month.
  warned int not null default 0,
  warned_in text not null default '',
  updated_at timestamptz not null default clock_timestamp(),
  primary key (tenant_id, quota, period)
);
--> statement-breakpoint
do $$
declare t text;
begin
  foreach t in array array['tenant_environment', 'tenant_usage'] loop
    execute format('alter table app.%I enable row level security', t);
    execute format('alter table app.%I force row level security', t);
    execute format(
      'create policy tenant on app.%I to tributary_api, tributary_worker using (tenant_id = current_setting(''app.tenant_id'', true)) with check (tenant_id = current_setting(''app.tenant_id'', true) and tenant_id <> '''')', t);
  end loop;
end $$;
--> statement-breakpoint
create policy ledger on app.tenant_usage to tributary_ledger using (true) with check (true);
--> statement-breakpoint
grant select, insert, update on app.tenant_usage to tributary_ledger;
--> statement-breakpoint
grant select on app.tenant_usage to tributary_api, tributary_worker;
--> statement-breakpoint
grant select, insert, update, delete on app.tenant_environment to tributary_api;
--> statement-breakpoint
-- The ledger decides over a credential that waits for its test, and sees nothing of its value.
create policy ledger on app.credential to tributary_ledger using (true) with check (true);
--> statement-breakpoint
grant select (tenant_id, id, name, status, check_run), update (status, problem) on app.credential to tributary_ledger;
--> statement-breakpoint
-- Mail of a tenant that leaves goes with it, whoever asked for it.
drop policy api_delete on app.outbox;
--> statement-breakpoint
create policy api_delete on app.outbox as restrictive for delete to tributary_api using (dedupe_key like 'user.%'
  or exists (select from app.tenant t where t.id = outbox.tenant_id and 'secrets' = any (t.dismantled)));
--> statement-breakpoint
create function app.usage_month() returns text language sql volatile as $$
  select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM')
$$;
--> statement-breakpoint
create function app.quota_limit(p_tenant text, p_quota text) returns bigint language sql stable as $$
  select case p_quota when 'runsPerMonth' then runs_per_month when 'rowsPerMonth' then rows_per_month when 'storageBytes' then disk_bytes
      when 'members' then max_members when 'apiKeys' then max_api_keys when 'credentials' then max_credentials when 'pipelines' then max_pipelines end
  from app.tenant_limit where tenant_id = p_tenant
$$;
--> statement-breakpoint
-- A refusal as the API shows it.
create function app.quota_refusal(p_quota text, p_limit bigint, p_used bigint) returns jsonb language sql volatile as $$
  select jsonb_build_object('refused', 'QUOTA_EXCEEDED', 'quota', p_quota, 'limit', p_limit, 'used', p_used, 'resetsAt',
    case when p_quota in ('runsPerMonth', 'rowsPerMonth')
      then to_char(date_trunc('month', clock_timestamp() at time zone 'UTC') + interval '1 month', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') end)
$$;
--> statement-breakpoint
-- Adds to what is used, or says what it is (p_is_total), and answers it. At 80 and at 100 percent the tenant is told once
-- a month: a row of its audit log and a mail.
create function app.use_quota(p_tenant text, p_quota text, p_used bigint, p_is_total boolean) returns bigint language plpgsql as $$
declare v_month text := app.usage_month(); u record; t record; v_limit bigint; v_level int; v_to jsonb;
begin
  insert into app.tenant_usage as x (tenant_id, quota, period, used)
    values (p_tenant, p_quota, case when p_quota in ('runsPerMonth', 'rowsPerMonth') then v_month else '' end, greatest(0, p_used))
    on conflict (tenant_id, quota, period) do update
      set used = greatest(0, p_used + case when p_is_total then 0 else x.used end), updated_at = clock_timestamp()
    returning * into u;
  v_limit := app.quota_limit(p_tenant, p_quota);
  v_level := case when u.used >= v_limit then 100 when u.used::numeric * 100 >= v_limit::numeric * 80 then 80 else 0 end;
  if v_level <= (case when u.warned_in = v_month then u.warned else 0 end) then return u.used; end if;
  update app.tenant_usage set warned = v_level, warned_in = v_month
    where tenant_id = p_tenant and quota = p_quota and period = u.period;
  perform app.audit(p_tenant, 'system:quota', case v_level when 100 then 'quota.reached' else 'quota.warned' end, p_quota, null,
    jsonb_build_object('limit', v_limit, 'used', u.used, 'month', v_month));
  select * into t from app.tenant where id = p_tenant;
  v_to := t.configuration -> 'monitoring' -> 'alertEmails';
  if coalesce(jsonb_array_length(v_to), 0) = 0 then v_to := jsonb_build_array(t.admin_email); end if;
  if t.admin_email <> '' and coalesce((t.features ->> 'email')::boolean, true) then
    insert into app.outbox (tenant_id, id, kind, dedupe_key, payload)
      values (p_tenant, 'out_' || replace(gen_random_uuid()::text, '-', ''), 'email', format('quota.%s %s %s', p_quota, v_month, v_level),
        jsonb_build_object('to', v_to, 'subject', format('%s %% of the quota %s are used', v_level, p_quota),
          'text', format(E'The tenant %s has used %s of %s of its quota %s.\n\n%s\n', p_tenant, u.used, v_limit, p_quota,
            case when v_level = 100 then 'What would use more is refused until there is room again or the plan is raised.'
              else 'At 100 % what would use more is refused.' end)))
      on conflict (tenant_id, dedupe_key) do nothing;
  end if;
  return u.used;
end $$;
--> statement-breakpoint
-- Keeps the counters of things that a tenant has, in the transaction that makes or removes them, and refuses one too many:
-- SQLSTATE TRQ01 with the refusal as its detail.
create function app.count_quota() returns trigger language plpgsql security definer set search_path = pg_catalog, app as $$
declare v_quota text := tg_argv[0]; v_by int := 0; v_row jsonb; v_used bigint; v_limit bigint;
begin
  if tg_op <> 'INSERT' then
    v_row := to_jsonb(old);
    v_by := v_by - app.is_counted(v_quota, v_row)::int;
  end if;
  if tg_op <> 'DELETE' then
    v_row := to_jsonb(new);
    v_by := v_by + app.is_counted(v_quota, v_row)::int;
  end if;
  if v_by = 0 then return null; end if;
  v_used := app.use_quota(v_row ->> 'tenant_id', v_quota, v_by, false);
  v_limit := app.quota_limit(v_row ->> 'tenant_id', v_quota);
  if v_by > 0 and v_used > v_limit then
    raise exception 'quota %: % of % are used', v_quota, v_used - v_by, v_limit
      using errcode = 'TRQ01', detail = app.quota_refusal(v_quota, v_limit, v_used - v_by)::text;
  end if;
  return null;
end $$;
--> statement-breakpoint
create function app.is_counted(p_quota text, p_row jsonb) returns boolean language sql immutable as $$
  select case p_quota when 'members' then p_row ->> 'status' <> 'deleted' when 'apiKeys' then p_row ->> 'revoked_at' is null
    when 'pipelines' then p_row ->> 'origin' = 'tenant' else true end
$$;
--> statement-breakpoint
create trigger counted after insert or delete or update of status on app.tenant_user for each row execute function app.count_quota('members');
--> statement-breakpoint
create trigger counted after insert or delete or update of revoked_at on app.api_key for each row execute function app.count_quota('apiKeys');
--> statement-breakpoint
create trigger counted after insert or delete on app.credential for each row execute function app.count_quota('credentials');
--> statement-breakpoint
create trigger counted after insert or delete or update of origin on app.pipeline for each row execute function app.count_quota('pipelines');
--> statement-breakpoint
-- Why a tenant may have no run started or run again: a refusal, or null. Runs of the platform's own (p_is_own) count in no
-- month. A load that runs goes on to its end; the next one is refused.
create function app.refused_run(p_tenant text, p_is_own boolean) returns jsonb language plpgsql as $$
declare v_used bigint; v_limit bigint; q text;
begin
  select max_queued_runs into v_limit from app.tenant_limit where tenant_id = p_tenant;
  select count(*) into v_used from app.pipeline_run where tenant_id = p_tenant and state in ('queued', 'running', 'cancelling');
  if v_used >= coalesce(v_limit, 0) then return app.quota_refusal('queuedRuns', coalesce(v_limit, 0), v_used); end if;
  if p_is_own then return null; end if;
  foreach q in array array['runsPerMonth', 'rowsPerMonth'] loop
    v_limit := app.quota_limit(p_tenant, q);
    select used into v_used from app.tenant_usage where tenant_id = p_tenant and quota = q and period = app.usage_month();
    if v_used >= v_limit then return app.quota_refusal(q, v_limit, v_used); end if;
  end loop;
  return null;
end $$;
--> statement-breakpoint
-- The same for the transaction's tenant, before it has a run go on. Starts of the tenant wait meanwhile.
create function app.refused_retry(p_run text) returns jsonb language plpgsql security definer set search_path = pg_catalog, app as $$
declare v_tenant text := app.current_tenant(); v_refusal jsonb;
begin
  perform pg_advisory_xact_lock(hashtextextended('start_run ' || v_tenant, 0));
  v_refusal := app.refused_run(v_tenant, exists (select from app.pipeline_run
    where tenant_id = v_tenant and run_id = p_run and trigger_kind in ('provision', 'check', 'activate', 'offboard')));
  return case when v_refusal ->> 'quota' = 'runsPerMonth' then null else v_refusal end;
end $$;
--> statement-breakpoint
-- The worker's measure of what a tenant stores.
create function app.note_storage(p_tenant text, p_bytes bigint) returns void language sql security definer set search_path = pg_catalog, app as $$
  select app.use_quota(p_tenant, 'storageBytes', p_bytes, true)
$$;
--> statement-breakpoint
-- The end of the run that tried a credential out decides whether it may be used.
create function app.settle_credential() returns trigger language plpgsql as $$
declare v_result jsonb; v_is_good boolean; c record;
begin
  select result into v_result from app.run_step
    where tenant_id = new.tenant_id and run_id = new.run_id and ps_type = 'credential.check' order by position limit 1;
  v_is_good := new.state = 'succeeded' and coalesce(v_result ->> 'ok', '') = 'true';
  update app.credential set status = case when v_is_good then 'active' else 'failed' end,
      problem = case when v_is_good then null
        when v_result ->> 'ok' = 'false' then v_result - 'ok'
        else coalesce(new.error - 'step' - 'retry' - 'place', jsonb_build_object('code', case new.state when 'timed_out' then 'TIMED_OUT' else 'CANCELLED' end,
          'message', 'The test of this credential was stopped.')) end
    where tenant_id = new.tenant_id and check_run = new.run_id and status <> 'active' returning id into c;
  if found then
    perform app.audit(new.tenant_id, 'system:ledger', case when v_is_good then 'credential.activated' else 'credential.refused' end, c.id, null,
      jsonb_build_object('runId', new.run_id));
  end if;
  return null;
end $$;
--> statement-breakpoint
create trigger decides after update of state on app.pipeline_run for each row
  when (new.trigger_kind = 'activate' and new.state <> old.state and new.state in ('succeeded', 'failed', 'cancelled', 'timed_out'))
  execute function app.settle_credential();
--> statement-breakpoint
-- Tenants by id, for a transaction of the platform's own tenant; for any other there are none.
create function app.list_tenants(p_after text, p_status text, p_plan text, p_limit int) returns setof jsonb
language sql stable security definer set search_path = pg_catalog, app as $$
  select to_jsonb(t) from app.tenant t
  where app.current_tenant() = 'platform' and t.id <> 'platform' and (p_after is null or t.id > p_after)
    and (p_status is null or t.status = p_status) and (p_plan is null or t.plan = p_plan)
  order by t.id limit p_limit
$$;
--> statement-breakpoint
-- As before, within the quotas, and with the environment noted.
create or replace function app.start_run(p jsonb) returns jsonb language plpgsql security definer set search_path = pg_catalog, app as $$
declare
  v_tenant text := app.current_tenant();
  v_run text := p ->> 'runId';
  v_key text := p ->> 'idempotencyKey';
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
  if not v_is_own then perform app.use_quota(v_tenant, 'runsPerMonth', 1, false); end if;
  insert into app.pipeline_run (tenant_id, run_id, pipeline_id, pipeline_version, trigger_kind, idempotency_key, input_hash, parameters,
      requested_by, pending, timeout_ms, deadline_at, environment)
    values (v_tenant, v_run, p ->> 'pipelineId', (p ->> 'pipelineVersion')::int, p ->> 'trigger', v_key, p ->> 'inputHash',
      coalesce(p -> 'parameters', '{}'), p ->> 'requestedBy', jsonb_array_length(p -> 'steps'), (p ->> 'timeoutMs')::bigint,
      clock_timestamp() + (p ->> 'timeoutMs')::bigint * interval '1 ms', p ->> 'environment');
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
-- Rows that a step has loaded count with its success, so once for all its tries.
create function app.count_rows() returns trigger language plpgsql as $$
begin
  if jsonb_typeof(new.result -> 'rows') = 'number' then
    perform app.use_quota(new.tenant_id, 'rowsPerMonth', trunc(least(greatest((new.result ->> 'rows')::numeric, 0), 1e15))::bigint, false);
  end if;
  return null;
end $$;
--> statement-breakpoint
create trigger counted after update of state on app.run_step for each row
  when (new.state = 'succeeded' and old.state <> 'succeeded' and new.queue = 'ingest') execute function app.count_rows();
--> statement-breakpoint
-- What is there already: the limits of its plan, and counters that equal what they count. The owner of the tables obeys
-- row-level security as well, hence the pause.
do $$
declare t text;
begin
  foreach t in array array['tenant', 'tenant_limit', 'tenant_user', 'api_key', 'credential', 'pipeline', 'pipeline_run', 'tenant_usage'] loop
    execute format('alter table app.%I no force row level security', t);
  end loop;
  update app.tenant_limit l set runs_per_month = x.runs, rows_per_month = x.rows, api_points_per_minute = x.points, max_members = x.members,
      max_api_keys = x.keys, max_credentials = x.credentials, max_pipelines = x.pipelines
    from app.tenant t, (values ('SCALE', 20000, 1000000000::bigint, 30000, 100, 200, 200, 500),
      ('ENTERPRISE', 500000, 100000000000, 300000, 5000, 2000, 2000, 5000)) x (plan, runs, rows, points, members, keys, credentials, pipelines)
    where t.id = l.tenant_id and t.plan = x.plan;
  insert into app.tenant_usage (tenant_id, quota, period, used)
    select tenant_id, 'members', '', count(*) from app.tenant_user where status <> 'deleted' group by tenant_id
    union all select tenant_id, 'apiKeys', '', count(*) from app.api_key where revoked_at is null group by tenant_id
    union all select tenant_id, 'credentials', '', count(*) from app.credential group by tenant_id
    union all select tenant_id, 'pipelines', '', count(*) from app.pipeline where origin = 'tenant' group by tenant_id
    union all select tenant_id, 'runsPerMonth', app.usage_month(), count(*) from app.pipeline_run
      where trigger_kind not in ('provision', 'check', 'offboard') and to_char(created_at at time zone 'UTC', 'YYYY-MM') = app.usage_month() group by tenant_id;
  -- Whoever kept people keeps settings as well.
  update app.api_key set scopes = scopes || array['tenant:write'] where 'users:write' = any (scopes) and not 'tenant:write' = any (scopes);
  foreach t in array array['tenant', 'tenant_limit', 'tenant_user', 'api_key', 'credential', 'pipeline', 'pipeline_run', 'tenant_usage'] loop
    execute format('alter table app.%I force row level security', t);
  end loop;
end $$;
--> statement-breakpoint
grant create on schema app to tributary_ledger;
--> statement-breakpoint
do $$
declare f text;
begin
  foreach f in array array['app.usage_month()', 'app.quota_limit(text, text)', 'app.quota_refusal(text, bigint, bigint)',
      'app.use_quota(text, text, bigint, boolean)', 'app.count_quota()', 'app.count_rows()', 'app.is_counted(text, jsonb)', 'app.refused_run(text, boolean)',
      'app.refused_retry(text)', 'app.note_storage(text, bigint)', 'app.settle_credential()', 'app.list_tenants(text, text, text, int)'] loop
    execute format('alter function %s owner to tributary_ledger', f);
    execute format('revoke all on function %s from public', f);
  end loop;
end $$;
--> statement-breakpoint
revoke create on schema app from tributary_ledger;
--> statement-breakpoint
grant execute on function app.refused_retry(text), app.list_tenants(text, text, text, int) to tributary_api;
--> statement-breakpoint
grant execute on function app.note_storage(text, bigint) to tributary_worker;
