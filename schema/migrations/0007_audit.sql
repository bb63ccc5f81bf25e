-- The audit log as a chain: every row carries the next number of its tenant and a hash over itself and the row before.
-- Rows are written as drafts and linked when their transaction commits, so that the tenant's head is the last lock of
-- every transaction: whatever a writer locks after it wrote its row, two writers cannot wait for each other.

create table app.audit_head (
  tenant_id text primary key references app.tenant (id),
  seq bigint not null,
  hash text not null
);
--> statement-breakpoint
create table app.audit_draft (
  tenant_id text not null,
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
-- SHA-256 in hex over the fields in this order, each as <bytes in UTF-8>:<text> (a missing one as -), joined by commas.
-- shared/audit-chain.ts says the same, for whoever does not want to trust this database.
create function app.audit_hash(p_tenant text, p_seq bigint, p_id text, p_at timestamptz, p_actor text, p_action text, p_target text,
  p_request text, p_details jsonb, p_prev text) returns text language sql stable set search_path = pg_catalog, app as $$
  select encode(sha256(convert_to((
    select string_agg(coalesce(octet_length(convert_to(f, 'UTF8')) || ':' || f, '-'), ',' order by n)
    from unnest(array['tributary.audit.1', p_tenant, p_seq::text, p_id,
      to_char(p_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), p_actor, p_action, p_target, p_request, p_details::text, p_prev])
      with ordinality u(f, n)), 'UTF8')), 'hex')
$$;
--> statement-breakpoint
alter table app.audit_event add seq bigint, add prev_hash text, add hash text;
--> statement-breakpoint
-- What was written before the chain is linked in the order of its time. The owner obeys the policies, hence the pause.
alter table app.audit_event no force row level security;
--> statement-breakpoint
do $$
declare e record; v_tenant text := ''; v_seq bigint; v_hash text;
begin
  for e in select * from app.audit_event order by tenant_id, at, id loop
    if e.tenant_id <> v_tenant then v_tenant := e.tenant_id; v_seq := 0; v_hash := repeat('0', 64); end if;
    v_seq := v_seq + 1;
    update app.audit_event set seq = v_seq, prev_hash = v_hash,
        hash = app.audit_hash(tenant_id, v_seq, id, at, actor, action, target, request_id, details, v_hash)
      where tenant_id = e.tenant_id and id = e.id returning hash into v_hash;
    insert into app.audit_head (tenant_id, seq, hash) values (v_tenant, v_seq, v_hash)
      on conflict (tenant_id) do update set seq = excluded.seq, hash = excluded.hash;
  end loop;
end $$;
--> statement-breakpoint
alter table app.audit_event force row level security;
--> statement-breakpoint
alter table app.audit_event alter seq set not null, alter prev_hash set not null, alter hash set not null, alter at drop default,
  add unique (tenant_id, seq);
--> statement-breakpoint
-- The one way into the log. The row is dated now and linked at the commit.
create or replace function app.audit(p_tenant text, p_actor text, p_action text, p_target text, p_request text, p_details jsonb)
returns void language plpgsql as $$
declare v_heads text := coalesce(current_setting('app.audit_heads', true), '');
begin
  insert into app.audit_draft (tenant_id, id, actor, action, target, request_id, details)
    values (p_tenant, 'aud_' || replace(gen_random_uuid()::text, '-', ''), p_actor, p_action, p_target, p_request, coalesce(p_details, '{}'));
  -- Remembered for this transaction: which heads its commit locks, so that it can take them in order.
  if not p_tenant = any (string_to_array(v_heads, ' ')) then
    perform set_config('app.audit_heads', v_heads || ' ' || p_tenant, true);
  end if;
end $$;
--> statement-breakpoint
-- Links a draft: next number, hash of the row before, own hash. The head row stays locked until the commit is through.
create function app.link_audit() returns trigger language plpgsql security definer set search_path = pg_catalog, app as $$
declare v_seq bigint; v_prev text; v_hash text; v_heads text := coalesce(current_setting('app.audit_heads', true), '');
begin
  -- The ledger's rounds write for many tenants; two rounds must not lock the same heads crosswise, nor make them so.
  if v_heads <> '' then
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
  v_hash := app.audit_hash(new.tenant_id, v_seq, new.id, new.at, new.actor, new.action, new.target, new.request_id, new.details, v_prev);
  insert into app.audit_event (tenant_id, id, at, actor, action, target, request_id, details, seq, prev_hash, hash)
    values (new.tenant_id, new.id, new.at, new.actor, new.action, new.target, new.request_id, new.details, v_seq, v_prev, v_hash);
  update app.audit_head set seq = v_seq, hash = v_hash where tenant_id = new.tenant_id;
  delete from app.audit_draft where tenant_id = new.tenant_id and id = new.id;
  return null;
end $$;
--> statement-breakpoint
create constraint trigger link after insert on app.audit_draft deferrable initially deferred for each row execute function app.link_audit();
--> statement-breakpoint
create function app.refuse_audit_change() returns trigger language plpgsql as $$
begin
  raise exception 'the audit log is only ever added to' using errcode = 'insufficient_privilege';
end $$;
--> statement-breakpoint
create trigger only_added before update or delete or truncate on app.audit_event for each statement execute function app.refuse_audit_change();
--> statement-breakpoint
create trigger only_moved before delete or truncate on app.audit_head for each statement execute function app.refuse_audit_change();
--> statement-breakpoint
create trigger only_forward before update on app.audit_head for each row
  when (new.tenant_id <> old.tenant_id or new.seq <> old.seq + 1) execute function app.refuse_audit_change();
--> statement-breakpoint
-- The outcome of a message: sent, or to be tried again after p_retry_ms with the reason kept.
create or replace function app.finish_outbox(p_tenant text, p_id text, p_error jsonb, p_retry_ms int) returns void
language sql security definer set search_path = pg_catalog, app as $$
  update app.outbox set sent_at = case when p_error is null then clock_timestamp() end, last_error = p_error, claimed_until = null,
      not_before = clock_timestamp() + p_retry_ms * interval '1 ms'
    where tenant_id = p_tenant and id = p_id and sent_at is null;
  select app.audit(p_tenant, 'system:outbox', case when p_error is null then 'message.sent' else 'message.failed' end, p_id, null, p_error)
$$;
--> statement-breakpoint
do $$
declare t text;
begin
  foreach t in array array['audit_head', 'audit_draft'] loop
    execute format('alter table app.%I enable row level security', t);
    execute format('alter table app.%I force row level security', t);
    execute format(
      'create policy tenant on app.%I to tributary_api, tributary_worker using (tenant_id = current_setting(''app.tenant_id'', true)) with check (tenant_id = current_setting(''app.tenant_id'', true) and tenant_id <> '''')', t);
    execute format('create policy ledger on app.%I to tributary_ledger using (true) with check (true)', t);
  end loop;
end $$;
--> statement-breakpoint
revoke insert, update, delete, truncate on app.audit_event from tributary_api, tributary_worker, tributary_ledger;
--> statement-breakpoint
grant insert on app.audit_event to tributary_ledger;
--> statement-breakpoint
grant select, insert, update on app.audit_head to tributary_ledger;
--> statement-breakpoint
grant select on app.audit_head to tributary_api, tributary_worker;
--> statement-breakpoint
grant select, insert, delete on app.audit_draft to tributary_ledger;
--> statement-breakpoint
-- Without the column `at`: nobody dates a row.
grant insert (tenant_id, id, actor, action, target, request_id, details) on app.audit_draft to tributary_api, tributary_worker;
--> statement-breakpoint
grant create on schema app to tributary_ledger;
--> statement-breakpoint
do $$
declare f text;
begin
  foreach f in array array['app.audit_hash(text, bigint, text, timestamptz, text, text, text, text, jsonb, text)', 'app.link_audit()', 'app.refuse_audit_change()'] loop
    execute format('alter function %s owner to tributary_ledger', f);
    execute format('revoke all on function %s from public', f);
  end loop;
end $$;
--> statement-breakpoint
revoke create on schema app from tributary_ledger;
--> statement-breakpoint
grant execute on function app.audit(text, text, text, text, text, jsonb) to tributary_api, tributary_worker;
