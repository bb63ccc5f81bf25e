create table app.tenant (
  id text primary key check (id ~ '^[a-z][a-z0-9_]{1,47}$'),
  name text not null,
  company_name text not null,
  admin_email text not null,
  plan text not null,
  status text not null default 'provisioning' check (status in ('provisioning', 'active', 'suspended', 'offboarded')),
  configuration jsonb not null,
  provisioned text[] not null default '{}',
  created_at timestamptz not null default now(),
  activated_at timestamptz
);
--> statement-breakpoint
create table app.tenant_user (
  tenant_id text not null references app.tenant (id),
  id text not null,
  email text not null,
  username text not null,
  first_name text not null default '',
  last_name text not null default '',
  status text not null default 'invited' check (status in ('invited', 'active', 'deactivated')),
  created_at timestamptz not null default now(),
  primary key (tenant_id, id),
  unique (tenant_id, email)
);
--> statement-breakpoint
create table app.user_role (
  tenant_id text not null,
  user_id text not null,
  role text not null check (role in ('TENANT_ADMIN', 'DATA_ENGINEER', 'DATA_ANALYST', 'DATA_STEWARD', 'POWER_USER')),
  primary key (tenant_id, user_id, role),
  foreign key (tenant_id, user_id) references app.tenant_user (tenant_id, id) on delete cascade
);
--> statement-breakpoint
create table app.api_key (
  tenant_id text not null references app.tenant (id),
  id text not null,
  name text not null,
  secret_hash text not null,
  scopes text[] not null,
  created_by text not null,
  created_at timestamptz not null default now(),
  expires_at timestamptz,
  revoked_at timestamptz,
  last_used_at timestamptz,
  primary key (tenant_id, id)
);
--> statement-breakpoint
-- Keys are looked up before the tenant is known: by id alone, through find_api_key.
create unique index api_key_lookup on app.api_key (id);
--> statement-breakpoint
create table app.tenant_key (
  tenant_id text not null references app.tenant (id),
  version int not null,
  platform_key_id text not null,
  wrapped_key text not null,
  state text not null default 'current' check (state in ('current', 'retired', 'destroyed')),
  created_at timestamptz not null default now(),
  primary key (tenant_id, version)
);
--> statement-breakpoint
create table app.credential (
  tenant_id text not null references app.tenant (id),
  id text not null,
  name text not null,
  provider text not null,
  version int not null,
  sealed jsonb not null,
  created_by text not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  primary key (tenant_id, id),
  unique (tenant_id, name)
);
--> statement-breakpoint
create table app.pipeline (
  tenant_id text not null references app.tenant (id),
  id text not null,
  path text not null,
  origin text not null check (origin in ('tenant', 'template')),
  current_version int not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  primary key (tenant_id, id),
  unique (tenant_id, path)
);
--> statement-breakpoint
create table app.pipeline_version (
  tenant_id text not null,
  pipeline_id text not null,
  version int not null,
  yaml text not null,
  sha256 text not null,
  created_by text not null,
  created_at timestamptz not null default now(),
  primary key (tenant_id, pipeline_id, version),
  foreign key (tenant_id, pipeline_id) references app.pipeline (tenant_id, id)
);
--> statement-breakpoint
create table app.tenant_limit (
  tenant_id text primary key references app.tenant (id),
  max_running_total int not null check (max_running_total > 0),
  max_queued_runs int not null check (max_queued_runs > 0),
  memory_bytes bigint not null,
  threads int not null,
  disk_bytes bigint not null
);
--> statement-breakpoint
-- The one row that claims of a tenant's queue serialise on. next_ready_at is the earliest ready step, infinity for none.
create table app.tenant_queue (
  tenant_id text not null references app.tenant (id),
  queue text not null check (queue in ('ingest', 'transform', 'export', 'delivery')),
  desired text not null default 'running' check (desired in ('running', 'draining', 'stopped')),
  generation bigint not null default 1,
  max_running int not null default 2 check (max_running > 0),
  quantum int not null default 1 check (quantum > 0),
  running int not null default 0 check (running >= 0),
  turn_at timestamptz not null default '-infinity',
  next_ready_at timestamptz not null default 'infinity',
  paused_by text,
  paused_at timestamptz,
  primary key (tenant_id, queue)
);
--> statement-breakpoint
create index tenant_queue_turn on app.tenant_queue (queue, turn_at) where desired = 'running' and next_ready_at < 'infinity';
--> statement-breakpoint
create table app.pipeline_run (
  tenant_id text not null references app.tenant (id),
  run_id text not null,
  pipeline_id text not null,
  pipeline_version int not null,
  state text not null default 'queued' check (state in ('queued', 'running', 'cancelling', 'succeeded', 'failed', 'cancelled', 'timed_out')),
  trigger_kind text not null default 'manual',
  idempotency_key text,
  input_hash text,
  parameters jsonb not null default '{}',
  requested_by text not null,
  pending int not null,
  failed int not null default 0,
  event_seq bigint not null default 0,
  timeout_ms bigint,
  deadline_at timestamptz,
  cancel_reason text,
  error jsonb,
  created_at timestamptz not null default now(),
  started_at timestamptz,
  finished_at timestamptz,
  primary key (tenant_id, run_id),
  foreign key (tenant_id, pipeline_id, pipeline_version) references app.pipeline_version (tenant_id, pipeline_id, version)
);
--> statement-breakpoint
create unique index pipeline_run_once on app.pipeline_run (tenant_id, idempotency_key) where idempotency_key is not null;
--> statement-breakpoint
create index pipeline_run_open on app.pipeline_run (deadline_at) where state in ('queued', 'running') and deadline_at is not null;
--> statement-breakpoint
create index pipeline_run_unfinished on app.pipeline_run (tenant_id) where state in ('queued', 'running', 'cancelling');
--> statement-breakpoint
create table app.run_step (
  tenant_id text not null,
  run_id text not null,
  step_key text not null,
  position int not null,
  ps_type text not null,
  queue text not null,
  state text not null check (state in ('blocked', 'ready', 'running', 'succeeded', 'failed', 'skipped', 'cancelled')),
  trigger_rule text not null check (trigger_rule in ('on_success', 'on_failure', 'always')),
  needs text[] not null,
  dependents text[] not null,
  unmet int not null,
  up_failed int not null default 0,
  up_bad int not null default 0,
  attempt int not null default 0,
  max_attempts int not null,
  backoff_ms int not null,
  backoff_cap_ms int not null,
  timeout_ms bigint not null,
  allow_failure boolean not null,
  release_count int not null default 0,
  cycle int not null default 0,
  priority smallint not null default 0,
  ready_at timestamptz,
  lease_owner text,
  lease_until timestamptz,
  fence bigint,
  generation bigint,
  attempt_started_at timestamptz,
  settings jsonb not null,
  credential text,
  progress jsonb,
  result jsonb,
  error jsonb,
  started_at timestamptz,
  finished_at timestamptz,
  primary key (tenant_id, run_id, step_key),
  foreign key (tenant_id, run_id) references app.pipeline_run (tenant_id, run_id)
) with (fillfactor = 80);
--> statement-breakpoint
create index run_step_ready on app.run_step (tenant_id, queue, priority desc, ready_at) where state = 'ready';
--> statement-breakpoint
create index run_step_lease on app.run_step (lease_until) where state = 'running';
--> statement-breakpoint
-- seq comes from the locked run row: gapless, and in the order of commits.
create table app.run_event (
  tenant_id text not null,
  run_id text not null,
  seq bigint not null,
  at timestamptz not null default clock_timestamp(),
  type text not null,
  step_key text,
  data jsonb,
  xid xid8 not null default pg_current_xact_id(),
  primary key (tenant_id, run_id, seq),
  foreign key (tenant_id, run_id) references app.pipeline_run (tenant_id, run_id)
);
--> statement-breakpoint
create table app.effect (
  tenant_id text not null,
  run_id text not null,
  step_key text not null,
  effect_key text not null,
  fence bigint not null,
  payload jsonb,
  at timestamptz not null default clock_timestamp(),
  primary key (tenant_id, run_id, step_key, effect_key),
  foreign key (tenant_id, run_id) references app.pipeline_run (tenant_id, run_id)
);
--> statement-breakpoint
-- Messages to the outside that no row implies: mail today. Sent at least once, known by dedupe_key.
create table app.outbox (
  tenant_id text not null references app.tenant (id),
  id text not null,
  kind text not null check (kind in ('email', 'webhook')),
  dedupe_key text not null,
  payload jsonb not null,
  not_before timestamptz not null default now(),
  attempts int not null default 0,
  claimed_until timestamptz,
  sent_at timestamptz,
  last_error jsonb,
  created_at timestamptz not null default now(),
  primary key (tenant_id, id),
  unique (tenant_id, dedupe_key)
);
--> statement-breakpoint
create index outbox_due on app.outbox (not_before) where sent_at is null;
--> statement-breakpoint
create table app.audit_event (
  tenant_id text not null references app.tenant (id),
  id text not null,
  at timestamptz not null default clock_timestamp(),
  actor text not null,
  action text not null,
  target text not null,
  request_id text,
  details jsonb not null default '{}',
  primary key (tenant_id, id)
);
--> statement-breakpoint
create index audit_event_at on app.audit_event (tenant_id, at desc, id desc);
--> statement-breakpoint
-- Not a tenant's: who works here. For status views only, never for correctness.
create table app.worker (
  id text primary key,
  host text not null,
  pid int not null,
  queues text[] not null,
  capacity int not null,
  running int not null default 0,
  draining boolean not null default false,
  started_at timestamptz not null default now(),
  last_seen timestamptz not null default now()
);
--> statement-breakpoint
create table app.system_control (
  only_row boolean primary key default true check (only_row),
  desired text not null default 'running' check (desired in ('running', 'stopped'))
);
--> statement-breakpoint
insert into app.system_control default values;
--> statement-breakpoint
create sequence app.fence_seq;
