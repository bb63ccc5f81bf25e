-- Requests that must have their effect once, by the key that the caller gave them, with what they were answered.

-- A row without answered_at is a claim: the request of claimed_by is at work until claimed_until. Of the input there is a
-- keyed hash only, secrets of an answer are sealed, and an answer that is null is no longer kept.
create table app.idempotent_request (
  tenant_id text not null,
  mutation text not null,
  key text not null,
  actor text not null,
  input_hash text not null,
  claimed_by text not null,
  claimed_until timestamptz not null,
  answered_at timestamptz,
  answer jsonb,
  secret jsonb,
  expires_at timestamptz not null,
  primary key (tenant_id, mutation, key)
);
--> statement-breakpoint
create index idempotent_request_end on app.idempotent_request (expires_at);
--> statement-breakpoint
alter table app.idempotent_request enable row level security;
--> statement-breakpoint
alter table app.idempotent_request force row level security;
--> statement-breakpoint
create policy tenant on app.idempotent_request to tributary_api
  using (tenant_id = current_setting('app.tenant_id', true)) with check (tenant_id = current_setting('app.tenant_id', true) and tenant_id <> '');
--> statement-breakpoint
create policy ledger on app.idempotent_request to tributary_ledger using (true) with check (true);
--> statement-breakpoint
grant select, insert, update, delete on app.idempotent_request to tributary_api;
--> statement-breakpoint
grant select, delete on app.idempotent_request to tributary_ledger;
--> statement-breakpoint
-- Forgets requests whose time is over, at most p_limit, and answers how many.
create function app.sweep_requests(p_limit int) returns int language plpgsql security definer set search_path = pg_catalog, app as $$
declare v_n int;
begin
  delete from app.idempotent_request where ctid = any (array(
    select ctid from app.idempotent_request where expires_at < now() order by expires_at limit p_limit));
  get diagnostics v_n = row_count;
  return v_n;
end $$;
--> statement-breakpoint
grant create on schema app to tributary_ledger;
--> statement-breakpoint
alter function app.sweep_requests(int) owner to tributary_ledger;
--> statement-breakpoint
revoke all on function app.sweep_requests(int) from public;
--> statement-breakpoint
revoke create on schema app from tributary_ledger;
--> statement-breakpoint
grant execute on function app.sweep_requests(int) to tributary_api, tributary_worker;
