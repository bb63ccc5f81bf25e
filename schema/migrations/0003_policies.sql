-- Every table with a tenant: row-level security that even the owner obeys. Unset and empty tenant see nothing.
do $$
declare t record;
begin
  for t in
    select c.table_name, c.column_name
    from information_schema.columns c
    where c.table_schema = 'app' and (c.column_name = 'tenant_id' or (c.table_name = 'tenant' and c.column_name = 'id'))
  loop
    execute format('alter table app.%I enable row level security', t.table_name);
    execute format('alter table app.%I force row level security', t.table_name);
    execute format(
      'create policy tenant on app.%1$I to tributary_api, tributary_worker using (%2$I = current_setting(''app.tenant_id'', true)) with check (%2$I = current_setting(''app.tenant_id'', true) and %2$I <> '''')',
      t.table_name, t.column_name);
  end loop;
end $$;
--> statement-breakpoint
-- The ledger's functions look across tenants: which tenant's turn it is, whose lease has run out, whose key this is.
do $$
declare t text;
begin
  foreach t in array array['pipeline_run', 'run_step', 'run_event', 'tenant_queue', 'effect', 'outbox', 'audit_event'] loop
    execute format('create policy ledger on app.%I to tributary_ledger using (true) with check (true)', t);
    execute format('grant select, insert, update on app.%I to tributary_ledger', t);
  end loop;
  foreach t in array array['tenant', 'tenant_limit', 'api_key'] loop
    execute format('create policy ledger on app.%I for select to tributary_ledger using (true)', t);
    execute format('grant select on app.%I to tributary_ledger', t);
  end loop;
end $$;
--> statement-breakpoint
grant select, insert, update on app.worker to tributary_ledger;
--> statement-breakpoint
grant select on app.system_control to tributary_ledger;
--> statement-breakpoint
grant usage on sequence app.fence_seq to tributary_ledger;
--> statement-breakpoint
-- What the control plane changes by hand. The ledger's tables it only reads.
grant select, insert, update on app.tenant, app.tenant_user, app.api_key, app.tenant_key, app.credential, app.pipeline, app.pipeline_version, app.tenant_limit to tributary_api;
--> statement-breakpoint
grant select, insert, delete on app.user_role to tributary_api;
--> statement-breakpoint
grant delete on app.credential to tributary_api;
--> statement-breakpoint
grant select, insert on app.audit_event to tributary_api, tributary_worker;
--> statement-breakpoint
grant select on app.pipeline_run, app.run_step, app.run_event, app.tenant_queue, app.effect, app.outbox to tributary_api, tributary_worker;
--> statement-breakpoint
grant insert on app.tenant_queue to tributary_api;
--> statement-breakpoint
grant update (desired, generation, max_running, quantum, paused_by, paused_at) on app.tenant_queue to tributary_api;
--> statement-breakpoint
grant select on app.tenant, app.tenant_key, app.credential, app.pipeline, app.pipeline_version, app.tenant_limit to tributary_worker;
--> statement-breakpoint
grant select on app.worker, app.system_control to tributary_api, tributary_worker;
