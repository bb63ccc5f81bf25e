-- Personal details that can be erased without touching the chain; old entries that can be cut under a signed checkpoint;
-- denied attempts that are counted instead of repeated; and what a step moved, in the entry of its completion.

-- A key per person or thing that details are about, sealed with the tenant's data key. Erasing is destroying it.
create table app.audit_subject (
  tenant_id text not null references app.tenant (id),
  subject text not null,
  sealed jsonb,
  erased_at timestamptz,
  primary key (tenant_id, subject),
  check ((sealed is null) = (erased_at is not null))
);
--> statement-breakpoint
-- How long entries are kept; a tenant without a row has the default of app.audit_cutoff.
create table app.audit_retention (
  tenant_id text primary key references app.tenant (id),
  days int not null check (days between 30 and 36500),
  legal_hold boolean not null
);
--> statement-breakpoint
-- Where a log begins after a cut: the last entry that was cut, signed by the platform. The newest counts.
create table app.audit_checkpoint (
  tenant_id text not null references app.tenant (id),
  seq bigint not null,
  hash text not null,
  cut_at timestamptz not null,
  key_id text not null,
  signature text not null,
  primary key (tenant_id, seq)
);
--> statement-breakpoint
-- Refusals since the last entry about them.
create table app.audit_denial (
  tenant_id text not null references app.tenant (id),
  actor text not null,
  action text not null,
  count int not null,
  attempts jsonb not null,
  since timestamptz not null,
  written_at timestamptz not null,
  primary key (tenant_id, actor, action)
);
--> statement-breakpoint
alter table app.audit_event add subject text, add personal text;
--> statement-breakpoint
alter table app.audit_draft add subject text, add personal text;
--> statement-breakpoint
-- As before for an entry without a subject. With one it is version 2: subject and SHA-256 of the sealed personal details
-- stand before the hash of the entry before, so that who gets no ciphertext can still verify.
create function app.audit_hash(p_tenant text, p_seq bigint, p_id text, p_at timestamptz, p_actor text, p_action text, p_target text,
  p_request text, p_details jsonb, p_prev text, p_subject text default null, p_personal text default null)
returns text language sql stable set search_path = pg_catalog, app as $$
  select encode(sha256(convert_to((
    select string_agg(coalesce(octet_length(convert_to(f, 'UTF8')) || ':' || f, '-'), ',' order by n)
    from unnest(
      array[case when p_subject is null and p_personal is null then 'tributary.audit.1' else 'tributary.audit.2' end, p_tenant, p_seq::text, p_id,
        to_char(p_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), p_actor, p_action, p_target, p_request, p_details::text]
      || case when p_subject is null and p_personal is null then array[]::text[]
           else array[p_subject, encode(sha256(convert_to(p_personal, 'UTF8')), 'hex')] end
      || array[p_prev])
      with ordinality u(f, n)), 'UTF8')), 'hex')
$$;
--> statement-breakpoint
drop function app.audit_hash(text, bigint, text, timestamptz, text, text, text, text, jsonb, text);
--> statement-breakpoint
-- The one way into the log. The row is dated now and linked at the commit.
create function app.audit(p_tenant text, p_actor text, p_action text, p_target text, p_request text, p_details jsonb, p_subject text, p_personal text)
returns void language plpgsql as $$
declare v_heads text := coalesce(current_setting('app.audit_heads', true), '');
begin
  insert into app.audit_draft (tenant_id, id, actor, action, target, request_id, details, subject, personal)
    values (p_tenant, 'aud_' || replace(gen_random_uuid()::text, '-', ''), p_actor, p_action, p_target, p_request, coalesce(p_details, '{}'),
      p_subject, p_personal);
  -- Remembered for this transaction: which heads its commit locks, so that it can take them in order.
  if not p_tenant = any (string_to_array(v_heads, ' ')) then
    perform set_config('app.audit_heads', v_heads || ' ' || p_tenant, true);
  end if;
end $$;
--> statement-breakpoint
create or replace function app.audit(p_tenant text, p_actor text, p_action text, p_target text, p_request text, p_details jsonb)
returns void language sql as $$
  select app.audit(p_tenant, p_actor, p_action, p_target, p_request, p_details, null, null)
$$;
--> statement-breakpoint
-- Links a draft: next number, hash of the row before, own hash. The head row stays locked until the commit is through.
create or replace function app.link_audit() returns trigger language plpgsql security definer set search_path = pg_catalog, app as $$
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
-- Entries go only where a checkpoint stands for them, whoever deletes; who sets a false one is told by its signature.
create function app.refuse_uncut() returns trigger language plpgsql as $$
begin
  if exists (select from app.audit_checkpoint where tenant_id = old.tenant_id and seq >= old.seq) then return old; end if;
  raise exception 'the audit log is only ever added to' using errcode = 'insufficient_privilege';
end $$;
--> statement-breakpoint
drop trigger only_added on app.audit_event;
--> statement-breakpoint
create trigger only_added before update or truncate on app.audit_event for each statement execute function app.refuse_audit_change();
--> statement-breakpoint
create trigger only_cut before delete on app.audit_event for each row execute function app.refuse_uncut();
--> statement-breakpoint
create trigger only_added before delete or truncate on app.audit_checkpoint for each statement execute function app.refuse_audit_change();
--> statement-breakpoint
-- A new platform key signs anew what the one before had signed.
create trigger only_signed before update on app.audit_checkpoint for each row
  when ((new.tenant_id, new.seq, new.hash, new.cut_at) is distinct from (old.tenant_id, old.seq, old.hash, old.cut_at))
  execute function app.refuse_audit_change();
--> statement-breakpoint
-- Entries of the tenant from before this moment may go; null while a legal hold keeps all.
create function app.audit_cutoff(p_tenant text) returns timestamptz language sql stable as $$
  select case when coalesce(r.legal_hold, false) then null else clock_timestamp() - coalesce(r.days, 365) * interval '1 day' end
  from (values (p_tenant)) t (id) left join app.audit_retention r on r.tenant_id = t.id
$$;
--> statement-breakpoint
-- Logs after p_after that begin a day or more before their cutoff, and the number up to which they can be cut, at most
-- p_rows at once. A log is cut once a day and not with every entry that comes of age.
create function app.audit_due(p_after text, p_limit int, p_rows int) returns table (o_tenant text, o_seq bigint)
language sql stable security definer set search_path = pg_catalog, app as $$
  select d.tenant_id, (
    select max(f.seq) from (
      select e.seq, bool_and(e.at < d.cutoff) over (order by e.seq) as is_old
      from (select x.seq, x.at from app.audit_event x where x.tenant_id = d.tenant_id order by x.seq limit p_rows) e) f
    where f.is_old)
  from (
    select h.tenant_id, c.cutoff from app.audit_head h cross join lateral (select app.audit_cutoff(h.tenant_id) as cutoff) c
    where h.tenant_id > p_after
      and (select x.at from app.audit_event x where x.tenant_id = h.tenant_id order by x.seq limit 1) < c.cutoff - interval '1 day'
    order by h.tenant_id limit p_limit) d
$$;
--> statement-breakpoint
-- Cuts the log of the transaction's tenant up to the entry p_seq and keeps the checkpoint; answers how many went. Nothing
-- when the entry is not of this hash, one of them is too young or held, or somebody else cut it.
create function app.cut_audit(p_seq bigint, p_hash text, p_at timestamptz, p_key text, p_signature text) returns bigint
language plpgsql security definer set search_path = pg_catalog, app as $$
declare v_tenant text := app.current_tenant(); v_cutoff timestamptz; v_rows bigint;
begin
  -- A legal hold that was set before this is seen, one that is set meanwhile waits.
  perform pg_advisory_xact_lock(hashtextextended('audit_retention ' || v_tenant, 0));
  v_cutoff := app.audit_cutoff(v_tenant);
  if v_cutoff is null or not exists (select from app.audit_event where tenant_id = v_tenant and seq = p_seq and hash = p_hash)
    or exists (select from app.audit_event where tenant_id = v_tenant and seq <= p_seq and at >= v_cutoff) then return 0; end if;
  insert into app.audit_checkpoint (tenant_id, seq, hash, cut_at, key_id, signature)
    values (v_tenant, p_seq, p_hash, p_at, p_key, p_signature) on conflict do nothing;
  if not found then return 0; end if;
  delete from app.audit_event where tenant_id = v_tenant and seq <= p_seq;
  get diagnostics v_rows = row_count;
  perform app.audit(v_tenant, 'system:retention', 'audit.cut', v_tenant, null,
    jsonb_build_object('rows', v_rows, 'seq', p_seq, 'hash', p_hash, 'before', v_cutoff));
  return v_rows;
end $$;
--> statement-breakpoint
-- Tenants by id: who verifies all logs walks along them. Ids only.
create function app.audit_tenants(p_after text, p_limit int) returns table (o_tenant text)
language sql stable security definer set search_path = pg_catalog, app as $$
  select id from app.tenant where id > p_after order by id limit p_limit
$$;
--> statement-breakpoint
-- Writes what was refused since the last entry, if that is a minute ago. Not callable from outside.
create function app.write_denials(p_tenant text, p_actor text, p_action text, p_request text) returns void language plpgsql as $$
declare d record;
begin
  select * into d from app.audit_denial where tenant_id = p_tenant and actor = p_actor and action = p_action for update;
  if d.count = 0 or d.written_at > clock_timestamp() - interval '1 minute' then return; end if;
  perform app.audit(p_tenant, p_actor, p_action, p_tenant, p_request,
    jsonb_build_object('count', d.count, 'attempts', d.attempts, 'since', d.since));
  update app.audit_denial set count = 0, attempts = '{}', written_at = clock_timestamp()
    where tenant_id = p_tenant and actor = p_actor and action = p_action;
end $$;
--> statement-breakpoint
-- Counts a refusal in the transaction's tenant. The first is written at once, those of the following minute together.
create function app.note_denial(p_actor text, p_action text, p_attempt text, p_request text) returns void
language plpgsql security definer set search_path = pg_catalog, app as $$
declare v_tenant text := app.current_tenant();
begin
  insert into app.audit_denial as d (tenant_id, actor, action, count, attempts, since, written_at)
    values (v_tenant, p_actor, p_action, 1, jsonb_build_object(p_attempt, 1), clock_timestamp(), '-infinity')
    on conflict (tenant_id, actor, action) do update set count = d.count + 1,
      since = case when d.count = 0 then clock_timestamp() else d.since end,
      -- Names beyond fifty are counted and not listed.
      attempts = case when d.attempts ? p_attempt or (select count(*) from jsonb_object_keys(d.attempts)) < 50
        then d.attempts || jsonb_build_object(p_attempt, coalesce((d.attempts ->> p_attempt)::int, 0) + 1) else d.attempts end;
  perform app.write_denials(v_tenant, p_actor, p_action, p_request);
end $$;
--> statement-breakpoint
-- Writes counted refusals that no further one has brought out, and forgets who was not refused for an hour.
create function app.flush_denials(p_limit int) returns int language plpgsql security definer set search_path = pg_catalog, app as $$
declare d record; v_n int := 0;
begin
  for d in select * from app.audit_denial where count > 0 and written_at <= clock_timestamp() - interval '1 minute'
    order by tenant_id, actor, action limit p_limit for update skip locked
  loop
    perform app.write_denials(d.tenant_id, d.actor, d.action, null);
    v_n := v_n + 1;
  end loop;
  delete from app.audit_denial where (tenant_id, actor, action) in (
    select x.tenant_id, x.actor, x.action from app.audit_denial x
    where x.count = 0 and x.written_at < clock_timestamp() - interval '1 hour' limit p_limit for update skip locked);
  return v_n;
end $$;
--> statement-breakpoint
-- What a step moved, from its outputs: counts, and the path that the pipeline gives. Never a row, never an address.
create function app.moved(p_result jsonb) returns jsonb language sql immutable set search_path = pg_catalog, app as $$
  select coalesce(jsonb_object_agg(k, case jsonb_typeof(v)
      when 'array' then to_jsonb(jsonb_array_length(v)) when 'string' then to_jsonb(left(v #>> '{}', 1024)) else v end), '{}')
  from jsonb_each(case jsonb_typeof(p_result) when 'object' then p_result else '{}' end) r (k, v)
  where (k in ('rows', 'bytes') and jsonb_typeof(v) = 'number') or (k in ('files', 'recipients') and jsonb_typeof(v) in ('array', 'number'))
    or (k in ('path', 'sha256') and jsonb_typeof(v) = 'string')
$$;
--> statement-breakpoint
-- As before, with what it moved in its entry.
create or replace function app.complete_step(p_tenant text, p_run text, p_step text, p_fence bigint, p_result jsonb, p_outbox jsonb) returns boolean
language plpgsql security definer set search_path = pg_catalog, app as $$
declare s record; m jsonb; i int := 0;
begin
  perform 1 from app.pipeline_run where tenant_id = p_tenant and run_id = p_run for update;
  update app.run_step set state = 'succeeded', result = p_result, finished_at = clock_timestamp(), lease_until = null
    where tenant_id = p_tenant and run_id = p_run and step_key = p_step and state = 'running' and fence = p_fence
    returning queue, ps_type, lease_owner into s;
  if not found then return false; end if;
  insert into app.effect (tenant_id, run_id, step_key, effect_key, fence, payload)
    values (p_tenant, p_run, p_step, 'completed', p_fence, p_result)
    on conflict (tenant_id, run_id, step_key, effect_key) do update set fence = excluded.fence, payload = excluded.payload, at = clock_timestamp();
  for m in select value from jsonb_array_elements(coalesce(p_outbox, '[]')) loop
    insert into app.outbox (tenant_id, id, kind, dedupe_key, payload)
      values (p_tenant, m ->> 'id', m ->> 'kind', p_run || ' ' || p_step || ' ' || p_fence || ' ' || i, m -> 'payload');
    i := i + 1;
  end loop;
  perform app.audit(p_tenant, 'worker:' || s.lease_owner, 'step.succeeded', p_run || '/' || p_step, null,
    jsonb_build_object('type', s.ps_type) || app.moved(p_result));
  perform app.settle(p_tenant, p_run, p_step, 'succeeded', p_result, s.queue);
  return true;
end $$;
--> statement-breakpoint
do $$
declare t text;
begin
  foreach t in array array['audit_subject', 'audit_retention', 'audit_checkpoint', 'audit_denial'] loop
    execute format('alter table app.%I enable row level security', t);
    execute format('alter table app.%I force row level security', t);
    execute format(
      'create policy tenant on app.%I to tributary_api, tributary_worker using (tenant_id = current_setting(''app.tenant_id'', true)) with check (tenant_id = current_setting(''app.tenant_id'', true) and tenant_id <> '''')', t);
    execute format('create policy ledger on app.%I to tributary_ledger using (true) with check (true)', t);
  end loop;
end $$;
--> statement-breakpoint
grant select, insert, update on app.audit_subject, app.audit_retention to tributary_api;
--> statement-breakpoint
grant select on app.audit_checkpoint to tributary_api, tributary_worker;
--> statement-breakpoint
grant select, insert, update (key_id, signature) on app.audit_checkpoint to tributary_ledger;
--> statement-breakpoint
grant select on app.audit_retention to tributary_ledger;
--> statement-breakpoint
grant select, insert, update, delete on app.audit_denial to tributary_ledger;
--> statement-breakpoint
grant delete on app.audit_event to tributary_ledger;
--> statement-breakpoint
grant insert (subject, personal) on app.audit_draft to tributary_api, tributary_worker;
--> statement-breakpoint
grant create on schema app to tributary_ledger;
--> statement-breakpoint
do $$
declare f text;
begin
  foreach f in array array[
    'app.audit_hash(text, bigint, text, timestamptz, text, text, text, text, jsonb, text, text, text)',
    'app.audit(text, text, text, text, text, jsonb, text, text)', 'app.refuse_uncut()', 'app.audit_cutoff(text)',
    'app.audit_due(text, int, int)', 'app.cut_audit(bigint, text, timestamptz, text, text)', 'app.audit_tenants(text, int)',
    'app.write_denials(text, text, text, text)', 'app.note_denial(text, text, text, text)', 'app.flush_denials(int)', 'app.moved(jsonb)'
  ] loop
    execute format('alter function %s owner to tributary_ledger', f);
    execute format('revoke all on function %s from public', f);
  end loop;
end $$;
--> statement-breakpoint
revoke create on schema app from tributary_ledger;
--> statement-breakpoint
grant execute on function app.audit(text, text, text, text, text, jsonb, text, text), app.audit_tenants(text, int) to tributary_api, tributary_worker;
--> statement-breakpoint
grant execute on function app.note_denial(text, text, text, text) to tributary_api;
--> statement-breakpoint
grant execute on function app.audit_due(text, int, int), app.cut_audit(bigint, text, timestamptz, text, text), app.flush_denials(int) to tributary_worker;
