-- What starts runs without a caller: times, ranges of times, files, the end of other runs, signed requests.

-- A schedule of a pipeline, by its path. next_fire_at is null while it is paused. Held ones are looked at again later.
create table app.schedule (
  tenant_id text not null references app.tenant (id),
  id text not null,
  pipeline text not null,
  name text not null,
  source text not null check (source in ('yaml', 'api')),
  cron text not null,
  timezone text not null,
  parameters jsonb not null default '{}',
  environment text,
  misfire text not null default 'latest' check (misfire in ('skip', 'latest', 'all')),
  catchup_max int not null default 100 check (catchup_max between 1 and 1000),
  overlap text not null default 'allow' check (overlap in ('allow', 'skip', 'queue')),
  paused_by text,
  paused_at timestamptz,
  next_fire_at timestamptz,
  -- The slot that waits for the end of the run before it.
  waiting_fire_at timestamptz,
  held_until timestamptz not null default 'epoch',
  -- Fires in a row that its pipeline's configuration kept from starting, and why the last one.
  failures int not null default 0,
  problem jsonb,
  version int not null default 1,
  created_by text not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  primary key (tenant_id, id),
  unique (tenant_id, pipeline, name)
);
--> statement-breakpoint
create index schedule_due on app.schedule (next_fire_at) where next_fire_at is not null;
--> statement-breakpoint
create index schedule_waiting on app.schedule (tenant_id, id) where waiting_fire_at is not null;
--> statement-breakpoint
-- What became of each slot. The key makes a slot fire once, whoever brings it.
create table app.schedule_fire (
  tenant_id text not null,
  schedule_id text not null,
  fire_at timestamptz not null,
  source text not null check (source in ('schedule', 'manual')),
  state text not null check (state in ('started', 'waiting', 'skipped', 'missed', 'refused')),
  run_id text,
  problem jsonb,
  at timestamptz not null default clock_timestamp(),
  primary key (tenant_id, schedule_id, fire_at),
  foreign key (tenant_id, schedule_id) references app.schedule (tenant_id, id) on delete cascade
);
--> statement-breakpoint
create index schedule_fire_run on app.schedule_fire (tenant_id, run_id) where run_id is not null;
--> statement-breakpoint
create table app.backfill (
  tenant_id text not null references app.tenant (id),
  id text not null,
  pipeline text not null,
  from_day date not null,
  to_day date not null,
  every text not null check (every in ('DAY', 'WEEK', 'MONTH', 'SCHEDULE')),
  schedule_id text,
  parameters jsonb not null default '{}',
  environment text,
  max_active int not null check (max_active between 1 and 50),
  state text not null default 'running' check (state in ('running', 'paused', 'cancelled', 'finished')),
  total int not null,
  held_until timestamptz not null default 'epoch',
  failures int not null default 0,
  problem jsonb,
  created_by text not null,
  created_at timestamptz not null default now(),
  finished_at timestamptz,
  primary key (tenant_id, id)
);
--> statement-breakpoint
create index backfill_open on app.backfill (held_until) where state = 'running';
--> statement-breakpoint
create table app.backfill_slot (
  tenant_id text not null,
  backfill_id text not null,
  slot_at timestamptz not null,
  day date not null,
  state text not null default 'pending' check (state in ('pending', 'started', 'refused', 'cancelled')),
  run_id text,
  problem jsonb,
  primary key (tenant_id, backfill_id, slot_at),
  foreign key (tenant_id, backfill_id) references app.backfill (tenant_id, id)
);
--> statement-breakpoint
-- What a saved pipeline's file says under `triggers`: a folder to watch (target: <credential>:<pattern>), or a pipeline
-- whose successful runs it follows (target: its path).
create table app.pipeline_trigger (
  tenant_id text not null references app.tenant (id),
  id text not null,
  pipeline text not null,
  kind text not null check (kind in ('file', 'pipeline')),
  target text not null,
  settings jsonb not null,
  enabled boolean not null default true,
  next_look_at timestamptz not null default now(),
  claimed_until timestamptz not null default 'epoch',
  looked_at timestamptz,
  -- When the audit log last said that its credential was opened.
  opened_at timestamptz,
  -- Looks in a row that failed, and why the last one.
  failures int not null default 0,
  problem jsonb,
  created_at timestamptz not null default now(),
  primary key (tenant_id, id),
  unique (tenant_id, pipeline, kind, target)
);
--> statement-breakpoint
create index pipeline_trigger_look on app.pipeline_trigger (next_look_at) where kind = 'file' and enabled;
--> statement-breakpoint
create index pipeline_trigger_after on app.pipeline_trigger (tenant_id, target) where kind = 'pipeline' and enabled;
--> statement-breakpoint
-- Files that a trigger saw. One that changed is another one; the key makes each count once.
create table app.seen_file (
  tenant_id text not null,
  trigger_id text not null,
  name text not null,
  size bigint not null,
  modified_at timestamptz not null,
  first_seen_at timestamptz not null default clock_timestamp(),
  last_seen_at timestamptz not null default clock_timestamp(),
  state text not null default 'pending' check (state in ('pending', 'started', 'refused')),
  run_id text,
  problem jsonb,
  primary key (tenant_id, trigger_id, name, size, modified_at),
  foreign key (tenant_id, trigger_id) references app.pipeline_trigger (tenant_id, id) on delete cascade
);
--> statement-breakpoint
-- A run that succeeded, and a pipeline that follows it. Written with the success; the key makes it follow once.
create table app.run_follow_up (
  tenant_id text not null,
  run_id text not null,
  trigger_id text not null,
  state text not null default 'pending' check (state in ('pending', 'started', 'refused')),
  follower_run text,
  attempts int not null default 0,
  not_before timestamptz not null default now(),
  problem jsonb,
  created_at timestamptz not null default now(),
  primary key (tenant_id, run_id, trigger_id),
  foreign key (tenant_id, run_id) references app.pipeline_run (tenant_id, run_id),
  foreign key (tenant_id, trigger_id) references app.pipeline_trigger (tenant_id, id)
);
--> statement-breakpoint
create index run_follow_up_due on app.run_follow_up (not_before) where state = 'pending';
--> statement-breakpoint
create table app.webhook (
  tenant_id text not null references app.tenant (id),
  id text not null,
  name text not null,
  pipeline text not null,
  parameters jsonb not null default '{}',
  mapping jsonb not null default '{}',
  environment text,
  version int not null default 1,
  sealed jsonb not null,
  -- The secret before a rotation, good until then.
  previous_sealed jsonb,
  previous_until timestamptz,
  rate_max int not null check (rate_max between 1 and 600),
  rate_minute timestamptz,
  rate_count int not null default 0,
  last_used_at timestamptz,
  created_by text not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  primary key (tenant_id, id),
  unique (tenant_id, name)
);
--> statement-breakpoint
-- A request names the hook alone; whose it is follows from it.
create unique index webhook_lookup on app.webhook (id);
--> statement-breakpoint
-- Messages that were taken, by the id that their sender signed.
create table app.webhook_message (
  tenant_id text not null,
  webhook_id text not null,
  id text not null,
  run_id text not null,
  received_at timestamptz not null default clock_timestamp(),
  primary key (tenant_id, webhook_id, id),
  foreign key (tenant_id, webhook_id) references app.webhook (tenant_id, id) on delete cascade
);
--> statement-breakpoint
do $$
declare t text;
begin
  foreach t in array array['schedule', 'schedule_fire', 'backfill', 'backfill_slot', 'pipeline_trigger', 'seen_file', 'run_follow_up', 'webhook', 'webhook_message'] loop
    execute format('alter table app.%I enable row level security', t);
    execute format('alter table app.%I force row level security', t);
    execute format(
      'create policy tenant on app.%I to tributary_api, tributary_worker using (tenant_id = current_setting(''app.tenant_id'', true)) with check (tenant_id = current_setting(''app.tenant_id'', true) and tenant_id <> '''')', t);
    execute format('create policy ledger on app.%I to tributary_ledger using (true) with check (true)', t);
  end loop;
end $$;
--> statement-breakpoint
grant select, insert, update, delete on app.schedule, app.webhook to tributary_api;
--> statement-breakpoint
grant select, insert, update on app.schedule_fire, app.backfill, app.backfill_slot, app.pipeline_trigger, app.run_follow_up, app.webhook_message to tributary_api;
--> statement-breakpoint
grant select on app.seen_file to tributary_api;
--> statement-breakpoint
grant select, update on app.schedule, app.backfill, app.backfill_slot, app.pipeline_trigger, app.run_follow_up to tributary_worker;
--> statement-breakpoint
grant select, insert, update on app.schedule_fire to tributary_worker;
--> statement-breakpoint
grant select, insert, update, delete on app.seen_file to tributary_worker;
--> statement-breakpoint
grant select, update on app.schedule, app.pipeline_trigger, app.run_follow_up, app.backfill to tributary_ledger;
--> statement-breakpoint
grant insert, delete on app.run_follow_up to tributary_ledger;
--> statement-breakpoint
grant select, delete on app.schedule_fire, app.seen_file, app.webhook_message to tributary_ledger;
--> statement-breakpoint
grant select on app.backfill_slot, app.webhook to tributary_ledger;
--> statement-breakpoint
-- A worker starts runs too: it reads what a start needs, and keeps the template that it starts as a version of the
-- tenant. What a tenant saved itself it cannot write.
grant select on app.tenant_environment to tributary_worker;
--> statement-breakpoint
grant insert, update on app.pipeline to tributary_worker;
--> statement-breakpoint
grant insert on app.pipeline_version to tributary_worker;
--> statement-breakpoint
create policy worker_insert on app.pipeline as restrictive for insert to tributary_worker with check (origin = 'template');
--> statement-breakpoint
create policy worker_update on app.pipeline as restrictive for update to tributary_worker using (origin = 'template') with check (origin = 'template');
--> statement-breakpoint
create policy worker_insert on app.pipeline_version as restrictive for insert to tributary_worker with check (exists (
  select from app.pipeline p where p.tenant_id = pipeline_version.tenant_id and p.id = pipeline_version.pipeline_id and p.origin = 'template'));
--> statement-breakpoint
create policy ledger on app.pipeline for select to tributary_ledger using (true);
--> statement-breakpoint
grant select (tenant_id, id, path) on app.pipeline to tributary_ledger;
--> statement-breakpoint
-- The success of a run, and in its transaction one row for each pipeline that follows. A run that is retried and succeeds
-- again is the same run.
create function app.queue_followers() returns trigger language plpgsql as $$
begin
  insert into app.run_follow_up (tenant_id, run_id, trigger_id)
    select t.tenant_id, new.run_id, t.id
    from app.pipeline p join app.pipeline_trigger t on t.tenant_id = p.tenant_id and t.target = p.path
    where p.tenant_id = new.tenant_id and p.id = new.pipeline_id and t.kind = 'pipeline' and t.enabled
    on conflict (tenant_id, run_id, trigger_id) do nothing;
  return null;
end $$;
--> statement-breakpoint
create trigger followed after update of state on app.pipeline_run for each row
  when (new.state = 'succeeded' and old.state <> 'succeeded') execute function app.queue_followers();
--> statement-breakpoint
-- What is due, of active tenants, each tenant's oldest first and tenants in turns. What somebody fires at this moment is
-- left out. It is locked and judged again by whoever fires it.
create function app.due_triggers(p_limit int) returns table (o_tenant text, o_kind text, o_id text, o_part text)
language sql security definer set search_path = pg_catalog, app as $$
  with slots as (
    select s.tenant_id, s.id, s.next_fire_at as at from app.schedule s join app.tenant t on t.id = s.tenant_id
    where s.next_fire_at <= now() and s.held_until <= now() and t.status = 'active'
    order by s.next_fire_at limit 10 * p_limit for update of s skip locked
  ), waiting as (
    select s.tenant_id, s.id, s.waiting_fire_at as at from app.schedule s join app.tenant t on t.id = s.tenant_id
    where s.waiting_fire_at is not null and s.paused_at is null and s.held_until <= now() and t.status = 'active'
      and not exists (select from app.pipeline_run r join app.schedule_fire f on f.tenant_id = r.tenant_id and f.run_id = r.run_id
        where r.tenant_id = s.tenant_id and r.state in ('queued', 'running', 'cancelling') and f.schedule_id = s.id)
    order by s.waiting_fire_at limit 10 * p_limit for update of s skip locked
  ), ranges as (
    select b.tenant_id, b.id, b.held_until as at from app.backfill b join app.tenant t on t.id = b.tenant_id
    where b.state = 'running' and b.held_until <= now() and t.status = 'active'
      and (select count(*) from app.pipeline_run r where r.tenant_id = b.tenant_id and r.requested_by = 'backfill:' || b.id
        and r.state in ('queued', 'running', 'cancelling'))
        < case when exists (select from app.backfill_slot x where x.tenant_id = b.tenant_id and x.backfill_id = b.id and x.state = 'pending')
            then b.max_active else 1 end
    order by b.held_until limit 10 * p_limit for update of b skip locked
  ), followers as (
    select f.tenant_id, f.run_id, f.trigger_id, f.not_before as at from app.run_follow_up f join app.tenant t on t.id = f.tenant_id
    where f.state = 'pending' and f.not_before <= now() and t.status = 'active'
    order by f.not_before limit 10 * p_limit for update of f skip locked
  ), due as (
    select tenant_id, 'schedule' as kind, id, '' as part, at from slots
    union select tenant_id, 'schedule', id, '', at from waiting
    union all select tenant_id, 'backfill', id, '', at from ranges
    union all select tenant_id, 'follow', run_id, trigger_id, at from followers
  )
  select tenant_id, kind, id, part from (
    select *, row_number() over (partition by tenant_id order by at) as turn from due) d
  order by turn, at limit p_limit
$$;
--> statement-breakpoint
-- Watched folders whose turn it is, each for p_lease_ms to the one who asked.
create function app.claim_watches(p_limit int, p_lease_ms int, p_tenants text[]) returns table (o_tenant text, o_id text)
language sql security definer set search_path = pg_catalog, app as $$
  update app.pipeline_trigger w set claimed_until = clock_timestamp() + p_lease_ms * interval '1 ms'
  where (w.tenant_id, w.id) in (
    select x.tenant_id, x.id from app.pipeline_trigger x join app.tenant t on t.id = x.tenant_id
    where x.kind = 'file' and x.enabled and x.next_look_at <= now() and x.claimed_until <= now() and t.status = 'active'
      and (p_tenants is null or x.tenant_id = any (p_tenants))
    order by x.next_look_at limit p_limit for update of x skip locked)
  returning w.tenant_id, w.id
$$;
--> statement-breakpoint
-- Whose hook this is, before the tenant is known.
create function app.find_webhook(p_id text) returns table (o_tenant text, o_status text)
language sql stable security definer set search_path = pg_catalog, app as $$
  select h.tenant_id, t.status from app.webhook h join app.tenant t on t.id = h.tenant_id where h.id = p_id
$$;
--> statement-breakpoint
-- Forgets what decides nothing any more: what became of slots and of follow-ups after 90 days, files gone for 30, messages
-- after a day (their time stamps have been refused since 5 minutes). At most p_limit rows of each kind.
create function app.sweep_triggers(p_limit int) returns int language plpgsql security definer set search_path = pg_catalog, app as $$
declare v_n int; v_all int := 0;
begin
  delete from app.schedule_fire where ctid = any (array(
    select ctid from app.schedule_fire where at < now() - interval '90 days' and state <> 'waiting' limit p_limit));
  get diagnostics v_n = row_count; v_all := v_all + v_n;
  delete from app.run_follow_up where ctid = any (array(
    select ctid from app.run_follow_up where created_at < now() - interval '90 days' and state <> 'pending' limit p_limit));
  get diagnostics v_n = row_count; v_all := v_all + v_n;
  delete from app.seen_file where ctid = any (array(
    select ctid from app.seen_file where last_seen_at < now() - interval '30 days' limit p_limit));
  get diagnostics v_n = row_count; v_all := v_all + v_n;
  delete from app.webhook_message where ctid = any (array(
    select ctid from app.webhook_message where received_at < now() - interval '1 day' limit p_limit));
  get diagnostics v_n = row_count; v_all := v_all + v_n;
  return v_all;
end $$;
--> statement-breakpoint
-- Rights of their own, for keys that had the power of which they are a part.
alter table app.api_key no force row level security;
--> statement-breakpoint
update app.api_key set scopes = scopes || array['schedules:read'] where 'pipelines:read' = any (scopes);
--> statement-breakpoint
update app.api_key set scopes = scopes || array['schedules:write'] where 'pipelines:write' = any (scopes) and 'runs:write' = any (scopes);
--> statement-breakpoint
alter table app.api_key force row level security;
--> statement-breakpoint
grant create on schema app to tributary_ledger;
--> statement-breakpoint
do $$
declare f text;
begin
  foreach f in array array['app.queue_followers()', 'app.due_triggers(int)', 'app.claim_watches(int, int, text[])', 'app.find_webhook(text)', 'app.sweep_triggers(int)'] loop
    execute format('alter function %s owner to tributary_ledger', f);
    execute format('revoke all on function %s from public', f);
  end loop;
end $$;
--> statement-breakpoint
revoke create on schema app from tributary_ledger;
--> statement-breakpoint
grant execute on function app.due_triggers(int), app.sweep_triggers(int) to tributary_api, tributary_worker;
--> statement-breakpoint
grant execute on function app.claim_watches(int, int, text[]) to tributary_worker;
--> statement-breakpoint
grant execute on function app.find_webhook(text) to tributary_api;
