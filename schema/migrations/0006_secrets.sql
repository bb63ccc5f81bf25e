-- When each value of a credential came and who brought it; never a value.
create table app.credential_version (
  tenant_id text not null,
  credential_id text not null,
  version int not null,
  provider text not null,
  created_by text not null,
  created_at timestamptz not null default now(),
  primary key (tenant_id, credential_id, version),
  foreign key (tenant_id, credential_id) references app.credential (tenant_id, id) on delete cascade
);
--> statement-breakpoint
-- The current version of what is stored already. Its owner reads no row of a table with forced row-level security.
alter table app.credential no force row level security;
--> statement-breakpoint
insert into app.credential_version (tenant_id, credential_id, version, provider, created_by, created_at)
  select tenant_id, id, version, provider, created_by, updated_at from app.credential;
--> statement-breakpoint
alter table app.credential force row level security;
--> statement-breakpoint
alter table app.credential_version enable row level security;
--> statement-breakpoint
alter table app.credential_version force row level security;
--> statement-breakpoint
create policy tenant on app.credential_version to tributary_api, tributary_worker
  using (tenant_id = current_setting('app.tenant_id', true))
  with check (tenant_id = current_setting('app.tenant_id', true) and tenant_id <> '');
--> statement-breakpoint
grant select, insert on app.credential_version to tributary_api;
--> statement-breakpoint
create unique index tenant_key_current on app.tenant_key (tenant_id) where state = 'current';
--> statement-breakpoint
-- Steps of offboarding that are done; a repeat goes on after them, and a tenant with any is not resumed.
alter table app.tenant add dismantled text[] not null default '{}';
--> statement-breakpoint
-- As before, and lets a suspended tenant's offboarding start its run.
create or replace function app.start_run(p jsonb) returns jsonb language plpgsql security definer set search_path = pg_catalog, app as $$
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
  -- Onboarding prepares lake and folders by a run of its own before the tenant is active; offboarding removes them by
  -- one when it is no more.
  if v_status is distinct from 'active' and not (v_status = 'provisioning' and p ->> 'trigger' = 'provision')
      and not (v_status = 'suspended' and p ->> 'trigger' = 'offboard') then
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
