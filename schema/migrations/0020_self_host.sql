-- Several workers beside each other: whose tenant is whose, who keeps house, how the whole stands in figures, and the
-- events of a tenant in one order.

-- A process looks up whether the database is of its version before it works.
grant usage on schema drizzle to tributary_api, tributary_worker;
--> statement-breakpoint
grant select on drizzle.__drizzle_migrations to tributary_api, tributary_worker;
--> statement-breakpoint
-- Over all runs of a tenant, in the order of transactions.
create index run_event_feed on app.run_event (tenant_id, xid, run_id, seq);
--> statement-breakpoint
-- Where a tenant's lake and files are, and the worker that has them open. A lake has one writer: until `until` no other
-- worker claims for the tenant. settled is false before the first step: until then the tenant may still go elsewhere.
create table app.tenant_home (
  tenant_id text primary key references app.tenant (id),
  folder text not null,
  worker text,
  until timestamptz not null,
  settled boolean not null default false
);
--> statement-breakpoint
alter table app.tenant_home enable row level security;
--> statement-breakpoint
alter table app.tenant_home force row level security;
--> statement-breakpoint
create policy ledger on app.tenant_home to tributary_ledger using (true) with check (true);
--> statement-breakpoint
grant select, insert, update, delete on app.tenant_home to tributary_ledger;
--> statement-breakpoint
-- Tenants with something claimable that have no folder yet or this one, and are nobody's or this worker's; they are its own
-- from now on. Taken in the order of their ids, so that two workers cannot wait for each other. Those for which it then
-- claims nothing it gives up by keep_homes.
create function app.take_homes(p_worker text, p_folder text, p_queues text[], p_limit int, p_lease_ms int, p_tenants text[]) returns text[]
language sql security definer set search_path = pg_catalog, app as $$
  with wanted as (
    select q.tenant_id
    from app.tenant_queue q left join app.tenant_home h on h.tenant_id = q.tenant_id
    where q.queue = any (p_queues) and q.desired = 'running' and q.next_ready_at < 'infinity' and q.next_ready_at <= clock_timestamp()
      and q.running < q.max_running and (p_tenants is null or q.tenant_id = any (p_tenants))
      and (h.tenant_id is null or (h.folder = p_folder and (h.worker = p_worker or h.until < clock_timestamp())))
    group by q.tenant_id order by min(q.turn_at) limit p_limit
  ), taken as (
    insert into app.tenant_home as h (tenant_id, folder, worker, until)
      select tenant_id, p_folder, p_worker, clock_timestamp() + p_lease_ms * interval '1 ms' from wanted order by tenant_id
      on conflict (tenant_id) do update set worker = excluded.worker, until = excluded.until
        where h.folder = excluded.folder and (h.worker = p_worker or h.until < clock_timestamp())
      returning tenant_id
  )
  select coalesce(array_agg(tenant_id), '{}') from taken
$$;
--> statement-breakpoint
-- The tenants whose lakes this worker has open, or is about to; any other of its own is free for others again.
create function app.keep_homes(p_worker text, p_tenants text[], p_lease_ms int) returns void
language sql security definer set search_path = pg_catalog, app as $$
  delete from app.tenant_home where worker = p_worker and not settled and tenant_id <> all (p_tenants);
  update app.tenant_home set worker = null, until = '-infinity' where worker = p_worker and tenant_id <> all (p_tenants);
  update app.tenant_home set settled = true, until = clock_timestamp() + p_lease_ms * interval '1 ms'
    where worker = p_worker and tenant_id = any (p_tenants);
$$;
--> statement-breakpoint
-- Work that all workers offer to do and one does at a time: when it is due next.
create table app.house_turn (name text primary key, due_at timestamptz not null default '-infinity');
--> statement-breakpoint
insert into app.house_turn (name) values ('tick');
--> statement-breakpoint
grant select, update on app.house_turn to tributary_ledger;
--> statement-breakpoint
-- True for one caller per p_every_ms; the others do not wait. The turn is the caller's until its transaction ends, and when
-- that fails another has it at once.
create function app.take_turn(p_name text, p_every_ms int) returns boolean
language sql security definer set search_path = pg_catalog, app as $$
  with due as (
    select name from app.house_turn where name = p_name and due_at <= clock_timestamp() for update skip locked
  ), taken as (
    update app.house_turn h set due_at = clock_timestamp() + p_every_ms * interval '1 ms' from due where h.name = due.name returning 1
  )
  select exists (select from taken)
$$;
--> statement-breakpoint
-- How the whole stands, in figures that belong to no tenant.
create function app.fleet_gauges() returns table (o_name text, o_label text, o_value float8)
language sql security definer set search_path = pg_catalog, app as $$
  with queue as (select unnest(array['ingest', 'transform', 'export', 'delivery']) as name),
  ready as (
    select queue, count(*) filter (where ready_at <= clock_timestamp()) as due, count(*) filter (where ready_at > clock_timestamp()) as later,
      extract(epoch from clock_timestamp() - min(ready_at) filter (where ready_at <= clock_timestamp())) as oldest
    from app.run_step where state = 'ready' group by queue
  ), running as (select queue, count(*) as n from app.run_step where state = 'running' group by queue)
  select 'steps_ready', q.name, coalesce(r.due, 0)::float8 from queue q left join ready r on r.queue = q.name
  union all select 'steps_waiting', q.name, coalesce(r.later, 0)::float8 from queue q left join ready r on r.queue = q.name
  union all select 'oldest_ready_seconds', q.name, coalesce(r.oldest, 0)::float8 from queue q left join ready r on r.queue = q.name
  union all select 'steps_running', q.name, coalesce(r.n, 0)::float8 from queue q left join running r on r.queue = q.name
  union all select 'runs', s.state, (select count(*) from app.pipeline_run p where p.state = s.state and p.state in ('queued', 'running', 'cancelling'))::float8
    from unnest(array['queued', 'running', 'cancelling']) s (state)
  union all select 'workers', '', (select count(*) from app.worker where not draining and last_seen > clock_timestamp() - interval '30 seconds')::float8
  union all select 'messages_due', '', (select count(*) from app.outbox where sent_at is null and not_before <= clock_timestamp())::float8
$$;
--> statement-breakpoint
grant create on schema app to tributary_ledger;
--> statement-breakpoint
do $$
declare f text;
begin
  foreach f in array array['app.take_homes(text, text, text[], int, int, text[])', 'app.keep_homes(text, text[], int)', 'app.take_turn(text, int)', 'app.fleet_gauges()'] loop
    execute format('alter function %s owner to tributary_ledger', f);
    execute format('revoke all on function %s from public', f);
  end loop;
end $$;
--> statement-breakpoint
revoke create on schema app from tributary_ledger;
--> statement-breakpoint
grant execute on function app.take_homes(text, text, text[], int, int, text[]), app.keep_homes(text, text[], int), app.take_turn(text, int) to tributary_worker;
--> statement-breakpoint
grant execute on function app.fleet_gauges() to tributary_api, tributary_worker;
