-- Reads of a tenant's rows: which worker answers them, and where.

-- Where a worker takes reads, and what names its folder; null for one that takes none, or that is the only worker.
alter table app.worker add reader_url text, add folder text;
--> statement-breakpoint
-- A worker that is here says where it takes reads.
create function app.offer_reader(p_worker text, p_url text, p_folder text) returns void
language sql security definer set search_path = pg_catalog, app as $$
  update app.worker set reader_url = p_url, folder = p_folder where id = p_worker and (reader_url, folder) is distinct from (p_url, p_folder)
$$;
--> statement-breakpoint
-- Who answers reads for the tenant of the transaction: the worker that has its lake open, if one has, else one of its
-- folder. One that takes all queues comes first, since the tenant is its own for a while after a read.
create function app.reader_of() returns table (o_worker text, o_url text)
language sql stable security definer set search_path = pg_catalog, app as $$
  select w.id, w.reader_url
  from app.worker w left join app.tenant_home h on h.tenant_id = app.current_tenant()
  where w.reader_url is not null and w.last_seen > clock_timestamp() - interval '30 seconds'
    and (w.tenants is null or app.current_tenant() = any (w.tenants))
    and (h.tenant_id is null or w.folder is null or h.folder = w.folder)
    and (w.id = h.worker or not w.draining and coalesce(h.worker is null or h.until < clock_timestamp(), true))
  order by coalesce(w.id = h.worker, false) desc, cardinality(w.queues) desc, w.last_seen desc limit 1
$$;
--> statement-breakpoint
-- Makes one tenant the worker's own for a read, as take_homes does for work; false while another worker has it.
create function app.take_home(p_worker text, p_folder text, p_tenant text, p_lease_ms int) returns boolean
language sql security definer set search_path = pg_catalog, app as $$
  with taken as (
    insert into app.tenant_home as h (tenant_id, folder, worker, until)
      values (p_tenant, p_folder, p_worker, clock_timestamp() + p_lease_ms * interval '1 ms')
      on conflict (tenant_id) do update set worker = excluded.worker, until = excluded.until
        where h.folder = excluded.folder and (h.worker = p_worker or h.until < clock_timestamp())
      returning tenant_id
  )
  select exists (select from taken)
$$;
--> statement-breakpoint
grant create on schema app to tributary_ledger;
--> statement-breakpoint
do $$
declare f text;
begin
  foreach f in array array['app.offer_reader(text, text, text)', 'app.reader_of()', 'app.take_home(text, text, text, int)'] loop
    execute format('alter function %s owner to tributary_ledger', f);
    execute format('revoke all on function %s from public', f);
  end loop;
end $$;
--> statement-breakpoint
revoke create on schema app from tributary_ledger;
--> statement-breakpoint
grant execute on function app.reader_of() to tributary_api;
--> statement-breakpoint
grant execute on function app.offer_reader(text, text, text), app.take_home(text, text, text, int) to tributary_worker;
